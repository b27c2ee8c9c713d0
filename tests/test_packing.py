"""Scenes as samples: as many with a signal as wanted, half as many without, each on the side it was made for."""

from collections import Counter
from pathlib import Path

import numpy as np

from training.samples.sample import Sample
from training.samples.store import SampleStore
from training.scenes.packing import main

SCENES = {  # by side: how many scenes hold which labels
    "train": (("both", 3), ("both alone", 4), ("alone", 2), ("", 5)),
    "validation": (("both", 2), ("", 3)),
}


def rendered(folder: Path) -> Path:
    for level, (side, groups) in enumerate(SCENES.items()):
        (folder / "wideband" / side).mkdir(parents=True)
        held = [labels.split() for labels, count in groups for _ in range(count)]
        for number, labels in enumerate(held):
            image = np.full((1024, 1024), 100 * level + number, np.uint8)  # no two alike
            boxes = np.array([[100, 200, 400, 420], [600, 500, 800, 900]], np.float32)[: len(labels)]
            path = folder / "wideband" / side / f"{number:06d}.npz"
            np.savez(path, image=image, boxes=boxes.reshape(-1, 4), labels=np.array(labels, np.str_))
    return folder


def packed(scenes: Path, data: Path, *more: str) -> SampleStore:
    main([str(scenes), str(data), "--contract", "wideband", "--signals", "both,alone", *more])
    return SampleStore(data)


def counted(samples: list[Sample]) -> Counter[tuple[str | None, bool]]:
    return Counter((sample.side, len(sample.own_boxes) > 0) for sample in samples)


def test_as_many_as_wanted_and_half_as_many_without(tmp_path: Path) -> None:
    store = packed(rendered(tmp_path / "scenes"), tmp_path / "data", "--train", "4", "--validation", "2")
    assert counted(store.list("both")) == {
        ("train", True): 4, ("train", False): 2, ("validation", True): 2, ("validation", False): 1,
    }  # fmt: skip


def test_a_signal_that_validation_scenes_lack_is_left_to_the_split(tmp_path: Path) -> None:
    store = packed(rendered(tmp_path / "scenes"), tmp_path / "data")
    assert {side for side, _ in counted(store.list("alone"))} == {None}
    split = store.current_split("alone")
    assert split.val_samples and not set(split.val_samples) & set(split.train_samples)


def test_of_a_mixed_signal_no_side_is_asked_for_and_all_are_taken_where_there_are_fewer(tmp_path: Path) -> None:
    store = packed(rendered(tmp_path / "scenes"), tmp_path / "data", "--mixed", "both")
    assert counted(store.list("both")) == {(None, True): 9, (None, False): 10}
