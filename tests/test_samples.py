"""Samples: named by content, kept whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.boxes import to_physical
from engine.contract import WIDEBAND
from engine.errors import InputError, StoreError
from training.samples.sample import Box
from training.samples.store import SampleStore

from .labelled import BOX, CENTRE_HZ, drawn, put
from .tiny_store import CONTRACT, tree


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "data")


def test_a_sample_comes_back_as_it_was_added(store: SampleStore) -> None:
    added = put(store, time_offset_sec=0.25, center_freq_hz=CENTRE_HZ, side="validation", created_by="tests")
    found = store.get("alpha", added.sample_id)
    assert found == added
    assert (found.image() == drawn()).all()
    assert (found.duration_sec, found.sample_rate_hz, found.contract) == (0.05, 1e6, CONTRACT)
    assert store.list("alpha") == [added]


def test_a_samples_json_has_the_boxes_in_seconds_and_hertz_too(store: SampleStore) -> None:
    sample = put(store, time_offset_sec=0.25, center_freq_hz=CENTRE_HZ)
    (stored,) = json.loads(sample.path.read_text())["boxes"]
    start, stop, low, high = to_physical(np.array([[10, 20, 30, 40]]), CONTRACT)[0]
    assert [stored[k] for k in ("start_s", "stop_s")] == pytest.approx([start + 0.25, stop + 0.25])
    assert [stored[k] for k in ("low_hz", "high_hz")] == pytest.approx([low + CENTRE_HZ, high + CENTRE_HZ])


def test_own_and_ignored_boxes_are_told_apart(store: SampleStore) -> None:
    boxes = (BOX, Box(1, 1, 2, 2, "beta"), Box(3, 3, 4, 4, "other"))
    sample = put(store, boxes=boxes)
    assert sample.own_boxes.tolist() == [[10, 20, 30, 40]]
    assert sample.ignored_boxes.tolist() == [[3, 3, 4, 4]]
    assert sample.own_boxes.dtype == np.float32 and put(store, 1, ()).own_boxes.shape == (0, 4)


def test_a_repeat_is_the_same_sample_and_writes_nothing(store: SampleStore) -> None:
    first = put(store, boxes=(BOX, Box(1, 1, 2, 2, "beta")))
    before = tree(store.path)
    assert put(store, boxes=(Box(1.0001, 1, 2, 2, "beta"), BOX)) == first
    assert tree(store.path) == before


def test_index_and_manifest_count_what_is_there(store: SampleStore) -> None:
    ids = sorted(put(store, seed, boxes).sample_id for seed, boxes in ((0, (BOX,)), (1, ())))
    assert json.loads((store.path / "index.json").read_text())["signals"] == {
        "alpha": {"sample_count": 2, "labelled": 1}
    }
    manifest = json.loads((store.path / "signals/alpha/manifest.json").read_text())
    assert (sorted(manifest["samples"]), manifest["labelled"]) == (ids, 1)


@pytest.mark.parametrize("name", ["index.json", "signals/alpha/manifest.json"])
@pytest.mark.parametrize("content", [None, "", "[]", '{"samples": {"0": 1}}', '{"samples": 3}'])
def test_a_damaged_index_is_rebuilt_by_the_next_write(store: SampleStore, name: str, content: str | None) -> None:
    put(store)
    path = store.path / name
    path.unlink() if content is None else path.write_text(content)
    put(store, 1)
    assert json.loads((store.path / "index.json").read_text())["signals"]["alpha"]["sample_count"] == 2
    assert len(json.loads((store.path / "signals/alpha/manifest.json").read_text())["samples"]) == 2


def test_boxes_that_stick_out_are_clipped(store: SampleStore) -> None:
    assert put(store, boxes=(Box(-5, -5, 2000, 10, "alpha"),)).boxes == (Box(0, 0, 1024, 10, "alpha"),)


@pytest.mark.parametrize(
    "edges",
    [(10, 10, 10, 20), (10, 10, 20, 10), (20, 10, 10, 20), (10, 20, 20, 10), (-9, 1, 0, 5), (1024, 1, 1030, 5),
     (1, -9, 5, 0), (1, 1024, 5, 1030), (float("nan"), 1, 2, 3), (1, 1, float("inf"), 3), (1, 1, 1.00001, 3)],
)  # fmt: skip
def test_boxes_without_area_in_the_image_are_refused_by_name(store: SampleStore, edges: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"recording 0: Box\(x_min=.*has no area"):
        put(store, boxes=(BOX, Box(*edges, "alpha")))
    assert not store.path.exists()


def test_a_box_given_twice_is_one_box(store: SampleStore) -> None:
    assert len(put(store, boxes=(BOX, replace(BOX, x_min=10.0001), BOX)).boxes) == 1


@pytest.mark.parametrize("label", ["", "x" * 129, None])
def test_labels_that_are_no_text_are_refused(store: SampleStore, label: Any) -> None:
    with pytest.raises(InputError, match="a label is 1 to 128"):
        put(store, boxes=(replace(BOX, label=label),))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"side": "test"}, "side 'test' is not known"), ({"source_capture": ""}, "name the recording"),
     ({"time_offset_sec": float("nan")}, "finite"), ({"center_freq_hz": float("inf")}, "finite"),
     ({"time_offset_sec": 1e308}, "finite"), ({"center_freq_hz": 10**400}, "finite")],
)  # fmt: skip
def test_what_a_sample_says_of_itself_is_checked(store: SampleStore, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        put(store, **changes)


@pytest.mark.parametrize("image", [drawn().astype(np.float32), drawn()[:-1], drawn()[None], [[0]], None])
def test_other_images_are_refused(store: SampleStore, image: Any) -> None:
    with pytest.raises(InputError, match=r"a sample is uint8\[1024, 1024\]"):
        store.add("alpha", image, [BOX], contract=CONTRACT, source_capture="r")


def test_a_window_is_labelled_once(store: SampleStore) -> None:
    sample = put(store)
    for changes in ({"boxes": (Box(1, 1, 5, 5, "alpha"),)}, {"source_capture": "a copy"}, {"contract": WIDEBAND}):
        with pytest.raises(InputError, match=f"g20 samples remove alpha {sample.sample_id}"):
            put(store, **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is here already, with side left open"):
        put(store, side="train")
    assert store.list("alpha") == [sample]


def test_empty_windows_of_two_recordings_may_look_the_same(store: SampleStore) -> None:
    first, second = (put(store, boxes=(), source_capture=name) for name in "ab")
    assert first.sample_id != second.sample_id


def test_the_same_window_may_serve_two_signals(store: SampleStore) -> None:
    put(store)
    store.add("beta", drawn(), [BOX], contract=CONTRACT, source_capture="recording 0")
    assert store.signals() == ("alpha", "beta")


def test_no_signal_is_called_other(store: SampleStore) -> None:
    with pytest.raises(InputError, match="belongs to no signal"):
        store.add("other", drawn(), [BOX], contract=CONTRACT, source_capture="r")


def test_a_removed_sample_leaves_nothing_behind(store: SampleStore) -> None:
    kept, gone = put(store, 0), put(store, 1)
    store.remove("alpha", gone.sample_id)
    assert not [path for path in store.path.rglob("*") if gone.sample_id in path.name]
    texts = [path.read_text() for path in store.path.rglob("*.json")]
    assert not any(gone.sample_id in text for text in texts)
    assert store.list("alpha") == [kept]
    store.remove("alpha", kept.sample_id)
    assert store.signals() == ()
    assert json.loads((store.path / "index.json").read_text())["signals"] == {}


def test_a_sample_that_is_not_here_cannot_be_removed(store: SampleStore) -> None:
    put(store)
    with pytest.raises(StoreError, match="no sample 0123456789abcdef; see `g20 samples list alpha`"):
        store.remove("alpha", "0123456789abcdef")


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "%2e%2e", "a\0", "ß", "x" * 65, ".."])
def test_signal_names_do_not_lead_out_of_the_store(store: SampleStore, name: str) -> None:
    for use in (
        lambda: store.list(name), lambda: store.get(name, "0" * 16), lambda: store.remove(name, "0" * 16),
        lambda: store.add(name, drawn(), [], contract=CONTRACT, source_capture="r"),
        lambda: store.add_recording(name, "nothing.iq", contract=CONTRACT),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=r"use 1 to 64 of a-z, 0-9 and _"):
            use()
    assert not store.path.exists()


@pytest.mark.parametrize("sample_id", ["../../index", "..", "", "0" * 15, "0" * 17, "G" * 16, "0" * 16 + "\n", None])
def test_sample_ids_do_not_lead_out_of_the_store(store: SampleStore, sample_id: Any) -> None:
    put(store)
    for use in (store.get, store.remove):
        with pytest.raises(StoreError, match="an id is 16 of"):
            use("alpha", sample_id)


@pytest.mark.parametrize("link", ["signals", "signals/alpha", "signals/alpha/samples"])
def test_links_do_not_lead_out_of_the_store(store: SampleStore, tmp_path: Path, link: str) -> None:
    put(store)
    (store.path / link).rename(tmp_path / "elsewhere")
    (store.path / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="leads out of the store"):
        store.list("alpha")
    with pytest.raises(StoreError, match="leads out of the store"):
        put(store, 1)


def test_a_circle_of_links_is_refused(store: SampleStore) -> None:
    (store.path / "signals").mkdir(parents=True)
    (store.path / "signals/alpha").symlink_to("alpha")
    with pytest.raises(StoreError, match="leads out of the store"):
        put(store)
