"""Splits: a sample never changes side, and windows of one recording never stand on both."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError, StoreError
from training.samples.placement import assign_sides
from training.samples.splits import MIN_LABELLED, Split, last_split
from training.samples.store import SampleStore

from .labelled import BOX, Listed, put, recordings, window
from .tiny_store import edit, tree


def sources(split: Split) -> tuple[set[str], set[str]]:
    return {i.split("-")[0] for i in split.train_samples}, {i.split("-")[0] for i in split.val_samples}


@pytest.fixture
def store(tmp_path: Path) -> Listed:
    return Listed(tmp_path / "data", *recordings("abcdefghij"))


# the first split


def test_the_first_split_takes_a_fifth_for_validation(store: Listed) -> None:
    split = store.split()
    assert (len(split.train_samples), len(split.val_samples)) == (8, 2)
    assert (split.version, split.parent_version, split.samples_added) == (1, None, 10)
    assert (split.val_ratio, split.random_seed, split.notes) == (0.2, 42, "")


def test_a_split_is_a_file_of_its_version(store: Listed) -> None:
    split = store.split()
    stored = json.loads((store.path / "signals/alpha/splits/v1.json").read_text())
    assert set(stored) == {
        "version", "created_at", "train_samples", "val_samples", "val_ratio", "random_seed", "parent_version",
        "samples_added", "notes",
    }  # fmt: skip
    assert last_split(store.splits_folder("alpha")) == split


def test_the_split_follows_from_content_and_seed(tmp_path: Path) -> None:
    samples = recordings("abcdefghij")
    first, again = (Listed(tmp_path / name, *order).split() for name, order in (("a", samples), ("b", samples[::-1])))
    assert first.sides == again.sides
    others = [Listed(tmp_path / f"s{seed}", *samples).split(seed=seed).val_samples for seed in range(5)]
    assert len(set(others)) > 1


def test_where_nothing_changed_nothing_is_written(store: Listed) -> None:
    first = store.split()
    before = tree(store.path)
    assert store.split(seed=7, val_ratio=0.5) == first
    assert tree(store.path) == before


@pytest.mark.parametrize("names", ["ab", "abc", "abcdefgh"])
def test_each_side_has_a_labelled_sample(tmp_path: Path, names: str) -> None:
    noise = [window(f"n{number}", 0, labelled=False) for number in range(30)]
    split = Listed(tmp_path, *recordings(names, 5), *noise).split()
    for side in sources(split):
        assert side & set(names)
    assert len(split.val_samples) / (len(names) * 5 + 30) == pytest.approx(0.2, abs=0.15)


def test_of_two_recordings_the_smaller_one_validates(tmp_path: Path) -> None:
    store = Listed(tmp_path, *recordings("a", 3), *recordings("b", 6))
    assert sources(store.split()) == ({"b"}, {"a"})


@pytest.mark.parametrize("count", [0, 1, MIN_LABELLED - 1])
def test_too_few_labelled_samples_are_refused(tmp_path: Path, count: int) -> None:
    noise = [window(name, 0, labelled=False) for name in "xyz"]
    with pytest.raises(InputError, match=rf"alpha has {count} labelled samples; at least 5 are needed: .*samples add"):
        Listed(tmp_path, *recordings("abcd"[:count]), *noise).split()
    assert not (tmp_path / "signals").exists()


def test_boxes_of_other_signals_are_no_labels(tmp_path: Path) -> None:
    foreign = [replace(sample, boxes=(replace(BOX, label="beta"),)) for sample in recordings("abcdef")]
    with pytest.raises(InputError, match="alpha has 0 labelled samples"):
        Listed(tmp_path, *foreign).split()


def test_five_copies_of_one_capture_are_one_sample(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "data")
    for _ in range(5):
        put(store)
    with pytest.raises(InputError, match="alpha has 1 labelled samples"):
        store.current_split("alpha")


@pytest.mark.parametrize("ratio", [0, 1, -0.1, float("nan")])
def test_shares_that_are_none_are_refused(store: Listed, ratio: float) -> None:
    with pytest.raises(InputError, match="val_ratio is"):
        store.split(val_ratio=ratio)


# what comes later


def test_later_samples_extend_the_split(store: Listed) -> None:
    first = store.split()
    for sample in recordings("klmnopqrst"):
        store.samples[sample.sample_id] = sample
    second = store.split()
    assert first.sides.items() <= second.sides.items()
    assert (second.version, second.parent_version, second.samples_added) == (2, 1, 10)
    assert len(second.val_samples) == 4


def test_later_windows_follow_their_recording(store: Listed) -> None:
    first = store.split()
    for sample in recordings("abcdefghij", 4):
        store.samples[sample.sample_id] = sample
    train, validation = sources(store.split())
    assert (train, validation) == sources(first)


def test_removing_a_sample_moves_no_other(store: Listed) -> None:
    first = store.split()
    gone = first.train_samples[0]
    del store.samples[gone]
    second = store.split()
    assert second.sides == {key: side for key, side in first.sides.items() if key != gone}


def test_a_sample_that_comes_back_stands_where_it_stood(store: Listed) -> None:
    first = store.split()
    gone = {key: store.samples.pop(key) for key in (first.val_samples[0], first.train_samples[0])}
    store.split()
    store.samples |= gone
    assert store.split(seed=3).sides == first.sides


def test_removal_from_the_store_takes_the_sample_out_of_the_split(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "data")
    samples = [put(store, seed) for seed in range(6)]
    first = store.current_split("alpha")
    store.remove("alpha", samples[0].sample_id)
    second = last_split(store.splits_folder("alpha"))
    assert second is not None and second.version == 2
    assert second.sides == {key: side for key, side in first.sides.items() if key != samples[0].sample_id}
    assert store.current_split("alpha") == second


def test_a_side_without_labelled_samples_is_refused_and_nothing_moves(store: Listed) -> None:
    first = store.split()
    for key in first.val_samples:
        del store.samples[key]
    with pytest.raises(InputError, match=r"no labelled sample is left for validation.*--side validation"):
        store.split()
    store.samples["z-0"] = window("z")
    assert store.split().val_samples == ("z-0",)


steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "split"]), st.integers(0, 8), st.integers(0, 3), st.booleans()),
    min_size=5,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.integers(0, 3))
def test_whatever_comes_and_goes_no_sample_moves_and_no_recording_leaks(steps: Any, seed: int) -> None:
    with TemporaryDirectory() as folder:
        store, sides = Listed(Path(folder), *recordings("abcdef")), dict[str, str]()
        for what, recording, number, labelled in [*steps, ("split", 0, 0, True)]:
            sample = window("abcdefghi"[recording], number, labelled)
            if what == "add":
                store.samples.setdefault(sample.sample_id, sample)
            elif what == "remove":
                store.samples.pop(sample.sample_id, None)
            else:
                try:
                    split = store.split(seed=seed)
                except InputError:
                    continue
                assert split.sides.keys() == store.samples.keys()
                assert all(sides.get(key, side) == side for key, side in split.sides.items())
                train, validation = sources(split)
                assert not train & validation
                sides |= split.sides
                kept = {key: sides[key] for key in store.samples}
                assert assign_sides(store.list("alpha"), kept, {}, 0.5, seed + 1) == {}


# sides asked for


def test_a_side_that_is_asked_for_is_given(store: Listed) -> None:
    for key in ("a-0", "b-0", "c-0", "d-0"):
        store.samples[key] = replace(store.samples[key], side="validation")
    store.samples["e-0"] = replace(store.samples["e-0"], side="train")
    split = store.split()
    assert set(split.val_samples) == {"a-0", "b-0", "c-0", "d-0"}


def test_the_whole_recording_goes_where_one_window_asks(store: Listed) -> None:
    store.samples["a-1"] = window("a", 1, side="validation")
    assert {"a-0", "a-1"} <= set(store.split().val_samples)


def test_two_windows_of_a_recording_that_ask_for_two_sides_are_refused(store: Listed) -> None:
    store.samples["a-1"] = window("a", 1, side="validation")
    store.samples["a-2"] = window("a", 2, side="train")
    with pytest.raises(InputError, match=r"sample a-1 asks for validation, but its recording a stands on train"):
        store.split()


def test_a_window_that_asks_for_the_side_its_recording_is_not_on_is_refused(store: Listed) -> None:
    split = store.split()
    recording = split.train_samples[0][0]
    store.samples[f"{recording}-1"] = window(recording, 1, side="validation")
    with pytest.raises(InputError, match=rf"recording {recording} stands on train.*samples remove alpha {recording}-1"):
        store.split()


# damage


@pytest.mark.parametrize(
    "changes",
    [{"version": 3}, {"train_samples": 3}, {"val_samples": [1]}, {"val_samples": ["a-0"], "train_samples": ["a-0"]}],
)
def test_a_damaged_split_is_refused_by_name(store: Listed, changes: dict[str, Any]) -> None:
    store.split()
    edit(store.path / "signals/alpha/splits/v1.json", **changes)
    with pytest.raises(StoreError, match=r"v1\.json: not a split"):
        store.split()


def test_files_of_other_names_are_no_splits(store: Listed) -> None:
    store.split()
    for name in ("v01.json", "vx.json", "v.json", "v².json", ".v9.json"):
        (store.path / "signals/alpha/splits" / name).write_text("{}")
    assert store.split().version == 1
