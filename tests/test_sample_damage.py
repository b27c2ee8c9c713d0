"""Samples that were edited, poisoned or half written, and processes that write at once."""

import io
import json
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract import WIDEBAND
from engine.errors import StoreError
from training.samples import store as samples_module
from training.samples.sample import content_id
from training.samples.store import SampleStore

from .labelled import drawn, put
from .tiny_store import edit, overwrite


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "data")


def npz(path: Path, content: bytes, name: str = "spectrogram.npy", **changes: Any) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        for extra, data in changes.items():
            archive.writestr(extra, data)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _claiming(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x"


@pytest.mark.parametrize(
    "content",
    [npy(drawn().astype(np.uint16)), npy(drawn()[:5]), npy(drawn().T), npy(drawn())[:-1], b"", b"PK", bytes(50 << 20),
     _claiming("(99999999, 99999999)"), _claiming("(1024, 1024)"), _claiming("(1024, 1024)", "|O"), _claiming("((("),
     _claiming("1}\n  2\n 3")],
    ids=["uint16", "shape", "by columns", "short", "empty", "no npy", "bomb", "huge claim", "no pixels", "objects",
         "open bracket", "indented"],
)  # fmt: skip
def test_an_image_file_that_is_no_image_is_refused(store: SampleStore, content: bytes) -> None:
    sample = put(store)
    npz(sample.path.with_suffix(".npz"), content)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.npz: not the image of a sample .*remove the sample"):
        sample.image()


def test_an_image_file_must_hold_the_image_alone(store: SampleStore) -> None:
    sample = put(store)
    path = sample.path.with_suffix(".npz")
    for damage in (
        lambda: npz(path, npy(drawn()), name="../spectrogram.npy"), lambda: npz(path, npy(drawn()), more=b"x"),
        lambda: path.write_bytes(b"no zip"), lambda: path.write_bytes(bytes(3 << 20)), path.unlink,
    ):  # fmt: skip
        damage()
        with pytest.raises(StoreError, match="not the image of a sample"):
            sample.image()


def test_another_image_under_a_samples_name_is_refused(store: SampleStore) -> None:
    sample, other = put(store, 0), put(store, 1)
    shutil.copy(other.path.with_suffix(".npz"), sample.path.with_suffix(".npz"))
    with pytest.raises(StoreError, match="not the one that was added"):
        sample.image()


@pytest.mark.parametrize(
    "changes",
    [{"boxes": []}, {"boxes": None}, {"boxes": [{"x_min": 1}]}, {"signal": "beta"}, {"side": "both"},
     {"image_sha256": "0" * 64}, {"source_capture": "another"}, {"source_capture": ""}, {"sample_id": "0" * 16},
     {"sample_id": []}, {"duration_sec": 3}, {"sample_rate_hz": "fast"}, {"time_offset_sec": True}, {"created_by": 1},
     {"center_freq_hz": 10**18}, {"spectrogram_params": WIDEBAND.as_json()}, {"spectrogram_params": {"n_fft": 1}},
     {"spectrogram_params": []}, {"spectrogram_params": {"hash": "x"}}],
    ids=str,
)  # fmt: skip
def test_a_sample_that_was_edited_is_refused(store: SampleStore, changes: dict[str, Any]) -> None:
    sample = put(store)
    edit(sample.path, **changes)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json: not the sample that was added"):
        store.list("alpha")


def test_a_box_moved_or_renamed_by_hand_is_refused(store: SampleStore) -> None:
    sample = put(store)
    (box,) = json.loads(sample.path.read_text())["boxes"]
    for changes in ({"label": "beta"}, {"x_min": 9}, {"x_min": float(2**70)}, {"x_min": "10"}, {"x_max": 5000}):
        edit(sample.path, boxes=[{**box, **changes}])
        with pytest.raises(StoreError, match="not the sample that was added"):
            store.get("alpha", sample.sample_id)


@pytest.mark.parametrize("changes", [{"time_offset_sec": 0.3}, {"center_freq_hz": 2e9}, {"center_freq_hz": None},
                                     {"time_offset_sec": 1e300}, {"time_offset_sec": None}], ids=str)  # fmt: skip
@pytest.mark.parametrize("earlier", [False, True], ids=["with digest", "of an earlier version"])
def test_a_time_or_frequency_that_does_not_fit_the_boxes_is_refused_with_the_samples_id(
    store: SampleStore, changes: dict[str, Any], earlier: bool
) -> None:
    sample = put(store, time_offset_sec=0.25, center_freq_hz=1e9)
    document = json.loads(sample.path.read_text())
    if earlier:
        del document["sha256"]
        overwrite(sample.path, json.dumps(document))
        assert store.get("alpha", sample.sample_id) == sample
    edit(sample.path, **changes)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json: .*(do not fit its boxes|not a number)"):
        store.get("alpha", sample.sample_id)


def test_boxes_moved_in_seconds_or_hertz_alone_are_refused(store: SampleStore) -> None:
    sample = put(store)
    document = json.loads(sample.path.read_text())
    (box,) = document["boxes"]
    for name in ("start_s", "stop_s", "low_hz", "high_hz"):
        edit(sample.path, boxes=[{**box, name: box[name] + 1e3}])
        with pytest.raises(StoreError, match=f"{sample.sample_id}.json: .*do not fit its boxes in seconds and hertz"):
            store.get("alpha", sample.sample_id)


@pytest.mark.parametrize(
    "changes", [{"time_offset_sec": 0.3}, {"center_freq_hz": 2e9}, {"created_by": "others"}], ids=str
)
def test_an_edited_value_of_a_sample_without_boxes_is_refused(store: SampleStore, changes: dict[str, Any]) -> None:
    sample = put(store, boxes=(), time_offset_sec=0.25, center_freq_hz=1e9)
    edit(sample.path, **changes)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json: .*a value was edited"):
        store.get("alpha", sample.sample_id)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "\0", "[" * 100_000])
def test_a_damaged_sample_is_named_and_can_be_removed(store: SampleStore, text: str) -> None:
    sample = put(store)
    sample.path.write_text(text)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json"):
        store.list("alpha")
    put(store, 1)  # others still come
    store.remove("alpha", sample.sample_id)
    assert len(store.list("alpha")) == 1


@pytest.mark.parametrize("step", ["write_image", "write_json"])
def test_a_sample_that_fails_while_it_is_written_is_no_sample(
    store: SampleStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, content: Any) -> None:
        (path.parent / ".tmp123").write_bytes(b"half")
        raise KeyboardInterrupt

    kept = put(store)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(samples_module, step, killed)
        put(store, 1)
    assert store.list("alpha") == [kept]
    added = put(store, 2)
    names = {path.name for path in (store.path / "signals/alpha/samples").iterdir()}
    assert names == {f"{s.sample_id}{ending}" for s in (kept, added) for ending in (".json", ".npz")}


def test_an_index_lost_in_a_crash_is_made_good_by_the_next_write(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SampleStore, "_rebuild", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        put(store)
    assert len(store.list("alpha")) == 1
    put(store, 1)
    assert json.loads((store.path / "index.json").read_text())["signals"]["alpha"]["sample_count"] == 2


def test_a_full_disk_is_told_with_the_files_name(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(StoreError, match=r"npz: cannot be written \(No space left on device\)"):
        put(store)
    assert store.list("alpha") == []


def test_two_that_add_at_once_lose_nothing(store: SampleStore) -> None:
    def add(seeds: range) -> None:
        for seed in seeds:
            put(SampleStore(store.path), seed)

    threads = [threading.Thread(target=add, args=(range(start, start + 8),)) for start in (0, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list("alpha")) == 12
    assert json.loads((store.path / "index.json").read_text())["signals"]["alpha"]["sample_count"] == 12


def test_thousands_of_files_that_are_no_samples_change_nothing(store: SampleStore) -> None:
    kept = put(store)
    for number in range(2000):
        (kept.path.parent / f"{number}.{('json', 'txt', 'npz')[number % 3]}").write_bytes(b"x")
    assert store.list("alpha") == [kept]
    added = put(store, 1)
    store.remove("alpha", kept.sample_id)
    assert store.list("alpha") == [added]
    assert json.loads((store.path / "index.json").read_text())["signals"]["alpha"]["sample_count"] == 1


def test_a_thousand_samples_are_listed_and_may_come_and_go(store: SampleStore) -> None:
    first = put(store)
    document, picture = json.loads(first.path.read_text()), first.path.with_suffix(".npz").read_bytes()
    for number in range(1000):
        image_sha256, source = f"{number:064x}", f"other {number}"
        sample_id = content_id(image_sha256, first.boxes, first.contract.hash, source)
        changes = {"sample_id": sample_id, "image_sha256": image_sha256, "source_capture": source}
        document.pop("sha256", None)  # as earlier versions wrote them
        first.path.with_name(f"{sample_id}.json").write_text(json.dumps({**document, **changes}))
        first.path.with_name(f"{sample_id}.npz").write_bytes(picture[:9])
    put(store, 1)
    store.remove("alpha", first.sample_id)
    assert len(store.list("alpha")) == 1001
    assert json.loads((store.path / "index.json").read_text())["signals"]["alpha"]["sample_count"] == 1001
