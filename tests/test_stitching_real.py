"""Stitching of real signals that the shipped heads found."""

from pathlib import Path

import numpy as np
import pytest

from engine.boxes import corners, match
from engine.detection import Detection
from engine.engine import Engine
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from engine.stitching import stitch

from .recordings import REAL, noise

ROOT = Path(__file__).parents[1]
RATE_HZ = 20e6
PERIOD, FIRST = 50_000, 12_345  # samples
REMOTE = REAL / "portapack-mayhem+mayhem-firmware/ledremote_blue.sigmf-meta"
PACKET = REAL / "open-sdr+openofdm/wifi_conducted_dot11a_18mbps.sigmf-meta"


@pytest.mark.skipif(not REMOTE.is_file(), reason="the real recordings are not beside this checkout")
def test_all_four_bursts_of_a_remote_control_are_found_and_none_swallows_another() -> None:
    """The second begins 2.6 ms after the first capture's end."""
    recording = open_recording(REMOTE)
    with Engine.open(ROOT / "models-ism", signals=["ook_led_remote"]) as engine:
        found = stitch(engine.stream(recording))
    truth = [(note.start_s, note.stop_s, note.low_hz, note.high_hz) for note in recording.annotations]
    assert (len(truth), len(found)) == (4, 4)
    assert len(matched(truth, found)) >= 3


@pytest.mark.skipif(not PACKET.is_file(), reason="the real recordings are not beside this checkout")
def test_of_real_packets_in_quick_succession_none_is_lost(tmp_path: Path) -> None:
    """One packet each 2.5 ms for 0.6 s; captures end between two of them."""
    recording = open_recording(PACKET)
    note = recording.annotations[0]
    packet = recording.read(round(note.start_s * RATE_HZ), round((note.stop_s - note.start_s) * RATE_HZ))
    packet *= 0.3 / np.abs(packet).max()
    iq = 0.003 * noise(round(0.6 * RATE_HZ))
    starts = range(FIRST, len(iq) - len(packet), PERIOD)
    for start in starts:
        iq[start : start + len(packet)] += packet
    path = write_sigmf(tmp_path / "packets", iq, sample_rate_hz=RATE_HZ, center_freq_hz=0.0, datatype="ci16_le")
    with Engine.open(ROOT / "models", signals=["wifi_ofdm"]) as engine:
        results = list(engine.stream(open_recording(path)))
    truth = [(at / RATE_HZ, (at + len(packet)) / RATE_HZ, note.low_hz, note.high_hz) for at in starts]
    pieces = [d for result in results for d in result]
    assert (len(truth), len(pieces), len(stitch(results))) == (240, 240, 240)
    assert len(matched(truth, stitch(results))) == len(matched(truth, pieces))


def matched(truth: list[tuple[float, float, float, float]], found: list[Detection]) -> list[tuple[int, int]]:
    boxes = [(d.start_s, d.stop_s, d.low_hz, d.high_hz) for d in found]
    return match(corners(np.array(truth)), corners(np.array(boxes)), np.array([d.score for d in found]))
