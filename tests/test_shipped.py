"""The models that the repository ships, and the demonstration that the README begins with."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.boxes import corners, match, physical
from engine.contract import ISM, WIDEBAND, Contract
from engine.engine import Engine
from engine.recordings.open import open_recording
from engine.stitching import stitch
from engine.store.files import sha256
from engine.store.registry import Store

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
MAX_STORE_BYTES = 100 << 20
PACKS = [("models", WIDEBAND), ("models-ism", ISM)]


@pytest.fixture(scope="module")
def shipped() -> Iterator[Engine]:
    """Opening it checks every file against its manifest, every hash against the release."""
    with Engine.open(ROOT / "models") as engine:
        yield engine


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(ROOT / "scripts/make_demo.py"), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    return folder / "demo.sigmf-meta"


@pytest.mark.parametrize("name, contract", PACKS)
def test_a_pack_is_whole_and_small(name: str, contract: Contract) -> None:
    store = Store(ROOT / name)
    assert store.release().contract == contract
    assert not store.check()
    heads = store.snapshot().heads
    assert {head.head_type for head in heads} <= {"compact", "typed"}
    assert all(store.history(head.signal)["versions"][0]["metrics"]["f1_score"] is not None for head in heads)
    assert sum(path.stat().st_size for path in store.path.rglob("*")) < MAX_STORE_BYTES


def test_both_packs_stand_on_one_backbone() -> None:
    wideband, ism = (Store(ROOT / name).release() for name in ("models", "models-ism"))
    assert wideband.backbone_hash == ism.backbone_hash
    assert sha256(wideband.file("backbone.onnx")) == sha256(ism.file("backbone.onnx"))


def test_the_demonstration_is_found(shipped: Engine, demo: Path) -> None:
    recording = open_recording(demo)
    truth = [note for note in recording.annotations if note.label == "wifi_ofdm"]
    found = [d for d in stitch(shipped.stream(recording)) if d.signal == "wifi_ofdm"]
    boxes = [physical(side) for side in (truth, found)]
    pairs = match(corners(boxes[0]), corners(boxes[1]), np.array([d.score for d in found]))
    assert len(truth) == 8
    assert len(pairs) >= 7
    assert len(found) - len(pairs) <= 1


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside this checkout")
@pytest.mark.parametrize("path", sorted(REAL.glob("*/*.sigmf-meta")), ids=lambda path: path.stem)
def test_detection_runs_on_every_real_recording(shipped: Engine, path: Path) -> None:
    """The first capture of each; what is found is told by `benchmarks.quality`, not here."""
    recording = open_recording(path)
    result = next(iter(shipped.stream(recording)))
    assert result.data_quality == "ok"
    band_hz = WIDEBAND.sample_rate_hz / 2 + 5e3  # half a bin beyond either end
    for d in result:
        assert 0 <= d.start_s < d.stop_s <= recording.duration_s + 1e-6
        assert abs(d.low_hz - (recording.center_freq_hz or 0)) <= band_hz
        assert d.low_hz < d.high_hz


@pytest.mark.parametrize("name, contract", PACKS)
def test_noise_alone_gives_nothing(name: str, contract: Contract) -> None:
    rng = np.random.default_rng(0)
    with Engine.open(ROOT / name) as engine:
        for _ in range(6):
            iq = rng.standard_normal((contract.capture_samples, 2), dtype=np.float32).view(np.complex64)[:, 0]
            assert not engine.detect(iq, sample_rate_hz=contract.sample_rate_hz).detections


def test_the_same_capture_gives_the_same_bits(shipped: Engine, demo: Path) -> None:
    capture = open_recording(demo).capture(WIDEBAND, 0)
    first, again = (shipped.detect(capture.iq, sample_rate_hz=20e6) for _ in range(2))
    assert first.detections == again.detections
