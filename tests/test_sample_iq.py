"""Samples of version 2: the window's IQ is kept beside the picture, and only read as what was added."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import ISM
from engine.engine import Engine
from engine.errors import InputError, StoreError
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from training.evaluation.measuring import detections_in
from training.samples import store as store_module
from training.samples.iq import iq_path, pack
from training.samples.labels import coco_in, coco_out
from training.samples.sample import Box, Sample
from training.samples.store import SampleStore
from training.samples.windows import rendered

from .labelled import CENTRE_HZ, at, put, record
from .recordings import noise
from .test_shipped import ROOT
from .tiny_store import CONTRACT, edit, overwrite, tree


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "data")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """One window of 8-bit noise at the contract's rate."""
    return record(tmp_path / "r", at(0.01, 0.02))


def add(store: SampleStore, recording: Path, **options: Any) -> Sample:
    (sample,) = store.add_recording("alpha", recording, contract=CONTRACT, **options)
    return sample


def written(path: Path, datatype: str, rate_hz: float = CONTRACT.sample_rate_hz, level: float = 1.0) -> Path:
    iq = noise(round(0.05 * rate_hz)) * np.float32(level)
    return write_sigmf(path, iq, sample_rate_hz=rate_hz, center_freq_hz=CENTRE_HZ, datatype=datatype,
                       annotations=[at(0.01, 0.02)])  # fmt: skip


@pytest.mark.parametrize(("datatype", "kept"), [("ci8", "ci8"), ("ci16_le", "ci16")])
def test_integers_at_the_contracts_rate_are_kept_number_by_number(
    store: SampleStore, tmp_path: Path, datatype: str, kept: str
) -> None:
    path = written(tmp_path / "r", datatype, level=0.03)
    sample = store.get("alpha", add(store, path).sample_id)
    capture = open_recording(path).capture(CONTRACT, 0).iq
    assert sample.iq_file is not None and sample.iq_file.dtype == kept
    assert (sample.iq() == capture).all()
    assert (rendered(sample.iq(), CONTRACT) == sample.image()).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(("datatype", "rate_hz", "level"), [("cf32_le", 1e6, 5e4), ("cf32_le", 1e6, 1e-4),
                                                          ("ci8", 5e5, 0.5)])  # fmt: skip
def test_other_iq_is_kept_in_16_bits_of_its_peak(
    store: SampleStore, tmp_path: Path, datatype: str, rate_hz: float, level: float
) -> None:
    path = written(tmp_path / "r", datatype, rate_hz, level)
    sample = add(store, path)
    capture = open_recording(path).capture(CONTRACT, 0).iq.view(np.float32)
    found = sample.iq()
    assert found is not None and sample.iq_file is not None
    assert (sample.iq_file.dtype, found.dtype, len(found)) == ("ci16", np.complex64, CONTRACT.capture_samples)
    assert np.abs(found.view(np.float32) - capture).max() <= np.abs(capture).max() / 65_534 * 1.01


@settings(max_examples=40, deadline=None)
@given(st.lists(st.complex_numbers(max_magnitude=1e38, allow_nan=False), min_size=1, max_size=9))
def test_finite_iq_of_any_level_comes_back_within_its_rounding(values: list[complex]) -> None:
    iq = np.array(values, np.complex64)
    error = np.abs(pack(iq).unpacked().view(np.float32) - iq.view(np.float32)).max()
    assert error <= np.abs(iq.view(np.float32)).max() / 65_000 + 1e-44


@pytest.mark.parametrize("iq", [noise(9).astype(np.complex128), noise(9)[:0], noise(9)[None], None,
                                np.full(9, np.nan, np.complex64), np.full(9, np.inf, np.complex64)])  # fmt: skip
def test_iq_that_no_sample_can_keep_is_refused(iq: Any) -> None:
    with pytest.raises(InputError, match=r"a sample keeps complex64\[n\]|not finite; leave the window out"):
        pack(iq)


def test_iq_of_another_length_is_refused(store: SampleStore) -> None:
    with pytest.raises(InputError, match="recording 0: 9 samples of IQ; a window has 50000"):
        put(store, iq=pack(noise(9)))
    assert not store.path.exists()


def test_the_json_names_version_type_scale_length_and_hash(store: SampleStore, recording: Path) -> None:
    document = json.loads(add(store, recording).path.read_text())
    assert document["version"] == 2
    assert {key: document["iq"][key] for key in ("dtype", "scale", "samples")} == {
        "dtype": "ci8", "scale": 1.0, "samples": CONTRACT.capture_samples,
    }  # fmt: skip


def test_the_file_can_be_mapped_by_numpy(store: SampleStore, recording: Path) -> None:
    mapped = np.load(iq_path(add(store, recording).path), mmap_mode="r", allow_pickle=False)
    assert (mapped.dtype, mapped.shape) == (np.int8, (CONTRACT.capture_samples, 2))
    assert (mapped == open_recording(recording).samples).all()


def test_a_sample_of_an_image_alone_is_version_1_and_has_no_iq(store: SampleStore) -> None:
    sample = put(store)
    assert sample.iq() is None
    assert not {"version", "iq"} & json.loads(sample.path.read_text()).keys()


def test_iq_does_not_change_the_id_and_a_repeat_writes_nothing(store: SampleStore, recording: Path) -> None:
    first = add(store, recording)
    before = tree(store.path)
    assert add(store, recording) == add(store, recording, keep_iq=False) == first
    assert tree(store.path) == before
    store.remove("alpha", first.sample_id)
    assert add(store, recording, keep_iq=False).sample_id == first.sample_id


def test_a_recording_added_again_gives_its_version_1_samples_their_iq(store: SampleStore, recording: Path) -> None:
    old = add(store, recording, keep_iq=False, side="validation")
    new = add(store, recording)
    assert (new.sample_id, new.side, new.created_at) == (old.sample_id, "validation", old.created_at)
    assert old.iq() is None and new.iq() is not None
    assert store.list("alpha") == [new]


def test_a_removed_sample_takes_its_iq_along(store: SampleStore, recording: Path) -> None:
    sample = add(store, recording)
    assert iq_path(sample.path).is_file()
    store.remove("alpha", sample.sample_id)
    assert not list(sample.path.parent.iterdir())


@pytest.mark.parametrize("step", ["write_iq", "write_json"])
def test_a_sample_whose_iq_fails_to_be_written_is_no_sample_and_leaves_nothing(
    store: SampleStore, recording: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_module, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        add(store, recording)
    assert store.list("alpha") == []
    kept = put(store)
    assert {path.stem for path in kept.path.parent.iterdir()} == {kept.sample_id}


def test_boxes_corrected_through_coco_keep_the_iq(store: SampleStore, recording: Path, tmp_path: Path) -> None:
    old = add(store, recording)
    path = coco_out([old], tmp_path / "coco")
    tables = json.loads(path.read_text())
    edit(path, annotations=[{**row, "bbox": [1, 2, 3, 4]} for row in tables["annotations"]])
    (new,) = coco_in(store, "alpha", path, contract=CONTRACT)
    assert new.boxes == (Box(1, 2, 4, 6, "alpha"),)
    assert (new.iq() == open_recording(recording).capture(CONTRACT, 0).iq).all()
    assert {path.name.split(".")[0] for path in new.path.parent.iterdir()} == {new.sample_id}


def _npy(shape: str, dtype: str = "|i1", content: bytes = bytes(100_000), version: bytes = b"\1\0") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", bytes(100_128), _npy("(50000, 2)", content=bytes(99_999)), _npy("(50000, 2)", content=bytes(100_001)),
     _npy("(50001, 2)"), _npy("(99999999999, 2)"), _npy("(100000,)"), _npy("(50000, 2)", "|u1"),
     _npy("(25000, 2)", "<i2"), _npy("(50000, 2)", "|O"), _npy("((("), _npy("(50000, 2)", version=b"\3\0"),
     bytes(1 << 20)],
    ids=["empty", "no npy", "zeros", "short", "long", "length", "huge claim", "flat", "unsigned", "16 bits", "objects",
         "open bracket", "npy version", "bomb"],
)  # fmt: skip
def test_a_file_that_is_not_the_samples_iq_is_refused_with_its_id(
    store: SampleStore, recording: Path, content: bytes
) -> None:
    sample = add(store, recording)
    overwrite(iq_path(sample.path), content)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.iq.npy: not the IQ of a sample .*add its recording aga"):
        sample.iq()


def test_iq_that_was_changed_linked_or_taken_away_is_refused(store: SampleStore, recording: Path) -> None:
    sample = add(store, recording)
    path = iq_path(sample.path)
    good = path.read_bytes()
    overwrite(path, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(StoreError, match=f"{sample.sample_id}.iq.npy: the IQ is not what was added"):
        sample.iq()
    overwrite(path.with_name("good"), good)
    path.unlink()
    for damage in (lambda: None, lambda: path.symlink_to("good")):
        damage()
        with pytest.raises(StoreError, match=f"{sample.sample_id}.iq.npy: not the IQ of a sample"):
            sample.iq()
    store.remove("alpha", sample.sample_id)
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "cf64"}, {"dtype": []}, {"scale": 0.0}, {"scale": -1.0}, {"scale": 1e300}, {"scale": "1"},
     {"scale": True}, {"samples": 49_999}, {"samples": 50_000.0}, {"samples": True}, {"sha256": None},
     {"sha256": "0" * 64}, {"more": 1}, {"scale": 2.0}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("digest", [True, False])
def test_an_edited_entry_about_the_iq_is_refused(
    store: SampleStore, recording: Path, changes: dict[str, Any], digest: bool
) -> None:
    sample = add(store, recording)
    document = json.loads(sample.path.read_text())
    document["iq"] |= changes
    if not digest:
        del document["sha256"]
    overwrite(sample.path, json.dumps(document))
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json: not the sample that was added"):
        store.get("alpha", sample.sample_id)


@pytest.mark.parametrize("changes", [{"version": 3}, {"version": 1}, {"version": "2"}, {"version": True}, {"iq": None},
                                     {"iq": []}], ids=str)  # fmt: skip
def test_a_version_that_does_not_fit_is_refused(store: SampleStore, recording: Path, changes: dict[str, Any]) -> None:
    sample = add(store, recording)
    edit(sample.path, **changes)
    with pytest.raises(StoreError, match=f"{sample.sample_id}.json: not the sample that was added"):
        store.list("alpha")


def _lively() -> np.ndarray:
    """complex64[400000] at 2 MS/s: noise, chirps as LoRa's and a voice on FM."""
    rng, n, rate = np.random.default_rng(1), ISM.capture_samples, ISM.sample_rate_hz
    iq = noise(n) * np.complex64(0.002)
    length = round(128 / 125e3 * rate)
    sweep = np.arange(length) / length * 125e3
    starts = np.concatenate([np.zeros(8), rng.integers(0, 128, 30) * (125e3 / 128)])
    hertz = np.concatenate([(sweep + start) % 125e3 - 62.5e3 for start in starts]) - 4e5
    chirps = 0.1 * np.exp(2j * np.pi * np.cumsum(hertz / rate))
    iq[60_000 : 60_000 + len(chirps)] += chirps.astype(np.complex64)
    voice = np.convolve(rng.standard_normal(n // 100), np.hanning(8), "same").repeat(100)
    hertz = voice / np.abs(voice).max() * 4e3 - 1e5
    return np.asarray(iq + 0.05 * np.exp(2j * np.pi * np.cumsum(hertz / rate)), np.complex64)


def test_the_iq_of_a_sample_and_its_picture_give_the_same_detections(store: SampleStore, tmp_path: Path) -> None:
    """They differ by the rounding of the picture to 256 levels of grey: by at most 0.02 of score, half a pixel."""
    path = write_sigmf(tmp_path / "r", _lively(), sample_rate_hz=2e6, center_freq_hz=CENTRE_HZ, datatype="ci16_le")
    box = (0.03, 0.05, CENTRE_HZ - 5e5, CENTRE_HZ - 3e5, "alpha")
    (sample,) = store.add_recording("alpha", path, contract=ISM, boxes_physical=[box])
    with Engine.open(ROOT / "models-ism", signals=["lora"]) as engine:  # a head that needs no IQ
        by_iq, by_picture = detections_in(engine, sample), engine.detect_image(sample.image())
    assert by_iq
    assert [found.signal for found in by_iq] == [found.signal for found in by_picture]
    pixel_s, pixel_hz = ISM.capture_s / 1024, ISM.sample_rate_hz / 1024
    for one, other in zip(by_iq, by_picture, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.02)
        assert (one.start_s, one.stop_s) == pytest.approx((other.start_s, other.stop_s), abs=pixel_s / 2)
        assert (one.low_hz, one.high_hz) == pytest.approx((other.low_hz, other.high_hz), abs=pixel_hz / 2)


def test_a_sample_without_iq_is_measured_by_its_picture(store: SampleStore, tiny_models: Path) -> None:
    sample = put(store)
    with Engine.open(tiny_models) as engine:
        assert detections_in(engine, sample) == engine.detect_image(sample.image())
