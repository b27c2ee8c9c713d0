"""The store that detects in a recording: that of the nearest sample rate, unless one was named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.cli.engines import Engines
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.recordings.writing import write_sigmf

from .toy_store import CONTRACT, add_head, toy_store

FAST = replace(CONTRACT, sample_rate_hz=10 * CONTRACT.sample_rate_hz, capture_s=CONTRACT.capture_s / 10)


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./models for fast recordings, ./models-ism for slow ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_MODELS", raising=False)
    add_head(toy_store(Path("models"), contract=FAST.as_json()), "fast", 200, contract=FAST)
    add_head(toy_store(Path("models-ism")), "slow", 200)


def recording(rate_hz: float) -> Recording:
    iq = np.ones(1000, np.complex64) / 2
    return open_recording(write_sigmf(Path(f"r{rate_hz:.0f}"), iq, sample_rate_hz=rate_hz))


def serving(engines: Engines, rate_hz: float) -> list[str]:
    return list(engines.of(recording(rate_hz)).snapshot.versions)


def test_the_store_of_the_nearest_rate_detects(capsys: pytest.CaptureFixture[str]) -> None:
    with Engines(None, None) as engines:
        assert [serving(engines, rate) for rate in (10e6, 4e6, 1e6, 0.25e6, 10e6)] == [
            ["fast"], ["fast"], ["slow"], ["slow"], ["fast"]
        ]  # fmt: skip
        assert engines.signals == ("fast", "slow")
    assert "0.25 MS/s, so models-ism detects in it" in capsys.readouterr().err


def test_a_store_that_was_named_detects_in_every_recording() -> None:
    with Engines(Path("models"), None) as engines:
        assert serving(engines, 0.25e6) == ["fast"]


def test_signals_that_the_other_store_lacks_keep_it_out() -> None:
    with Engines(None, ["fast"]) as engines:
        assert serving(engines, 0.25e6) == ["fast"]
