"""Bursts: what the image is too coarse for is boxed from the envelope, and nothing crashes on what is not there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import corners, iou, to_physical, to_pixels
from engine.bursts import BurstSettings, candidates, mended
from engine.bursts.thinning import thinned
from engine.contract import Contract
from engine.devices.cpu import Cpu
from engine.heads import PROPOSALS

SHORT = Contract(sample_rate_hz=20e6, capture_s=0.02)
RATE = SHORT.sample_rate_hz
FINE = BurstSettings(sizes=(64, 256, 1024), overlap=2)
SEED_BAND = (0.0, 0.02, -3e6, 3e6)  # seconds, hertz: a region that is right about nothing but the middle


def capture(bursts: list[tuple[float, float, float, float]], gain: float = 1.0, seed: int = 0) -> np.ndarray:
    """complex64[400000]: noise, and bursts 20 dB over it in their band: start_s, stop_s, low_hz, high_hz."""
    rng = np.random.default_rng(seed)
    iq = _noise(SHORT.capture_samples, rng)
    for start_s, stop_s, low_hz, high_hz in bursts:
        first, last = round(start_s * RATE), round(stop_s * RATE)
        spectrum = np.fft.fft(_noise(last - first, rng))
        freq_hz = np.fft.fftfreq(last - first, 1 / RATE)
        spectrum[(freq_hz < low_hz) | (freq_hz > high_hz)] = 0
        iq[first:last] += 10 * np.fft.ifft(spectrum)
    return (gain * iq).astype(np.complex64)


def _noise(count: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)


def overlap(boxes: np.ndarray, box: tuple[float, ...]) -> float:
    return float(iou(corners(np.array([box])), corners(boxes)).max(initial=0.0))


@pytest.mark.parametrize(
    "burst",
    [(3e-3, 3.06e-3, -1e6, 1e6), (5e-3, 7e-3, -0.5e6, 0.6e6), (4e-3, 4.2e-3, -2.5e6, 2.5e6)],
    ids=["shorter than a frame", "narrower than the band searched", "as wide as it"],
)
def test_a_burst_is_boxed_in_time_and_frequency_from_a_region_that_is_only_near(burst: tuple[float, ...]) -> None:
    found = mended(capture([burst]), np.array([SEED_BAND]), RATE, FINE)
    assert overlap(found, burst) > 0.6  # bins of 312 kHz


def test_packets_of_a_train_are_boxed_each_and_together() -> None:
    packets = [(2e-3 + k * 1e-3, 2.3e-3 + k * 1e-3, -1e6, 1e6) for k in range(6)]
    found = mended(capture(packets), np.array([SEED_BAND]), RATE, FINE)
    assert min(overlap(found, packet) for packet in packets) > 0.7
    assert overlap(found, (2e-3, 7.3e-3, -1e6, 1e6)) > 0.7


def test_a_region_as_long_as_the_capture_is_one_candidate_from_start_to_end() -> None:
    found = mended(capture([(0.0, 0.02, -1e6, 1e6)]), np.array([(0.0003, 0.0198, -0.9e6, 0.9e6)]), RATE, FINE)
    assert overlap(found, (0.0, 0.02, -1e6, 1e6)) > 0.9


def test_level_does_not_change_the_boxes() -> None:
    burst = (3e-3, 3.5e-3, -1e6, 1e6)
    reference = mended(capture([burst]), np.array([SEED_BAND]), RATE, FINE)
    for gain in (1e-20, 1e-6, 1e6, 1e20):
        found = mended(capture([burst], gain), np.array([SEED_BAND]), RATE, FINE)
        # a gain rounds each sample anew, so a threshold may be met one step of 1.6 us earlier: 0.3 % of the burst
        assert abs(overlap(found, burst) - overlap(reference, burst)) < 0.02


def test_threads_do_not_change_the_candidates() -> None:
    iq, regions = capture([(3e-3, 3.5e-3, -1e6, 1e6)]), _regions(np.array([SEED_BAND]))
    assert np.array_equal(candidates(iq, regions, SHORT), candidates(iq, regions, SHORT, Cpu().parallel_map))


def test_regions_stay_among_the_candidates_and_none_is_much_like_another() -> None:
    given_boxes = np.array([SEED_BAND, (1e-3, 2e-3, 4e6, 6e6), (0.01, 0.015, -8e6, -7e6)])
    burst = (3e-3, 3.5e-3, -1e6, 1e6)
    boxes = candidates(capture([burst]), _regions(given_boxes), SHORT)
    real = to_physical(boxes[boxes[:, 2] > 0], SHORT)
    assert boxes.shape == (PROPOSALS, 4) and boxes.dtype == np.float32
    assert min(overlap(real, tuple(box)) for box in given_boxes) > FINE.same_iou
    assert overlap(real, burst) > 0.7
    assert (iou(corners(real), corners(real)) - np.eye(len(real))).max() < FINE.same_iou + 1e-3


@pytest.mark.parametrize("iq", [np.zeros(400_000), np.ones(400_000), np.zeros(0), np.ones(5)], ids=str)
def test_without_anything_to_find_the_regions_are_the_candidates(iq: np.ndarray) -> None:
    boxes = candidates(iq.astype(np.complex64), _regions(np.array([SEED_BAND])), SHORT)
    assert overlap(to_physical(boxes[boxes[:, 2] > 0], SHORT), SEED_BAND) > 0.99
    assert np.isfinite(boxes).all()


def test_without_a_region_there_is_no_candidate() -> None:
    assert not candidates(capture([]), _regions(np.zeros((0, 4))), SHORT).any()


def test_padding_at_the_end_is_no_part_of_the_capture() -> None:
    burst = (3e-3, 3.5e-3, -1e6, 1e6)
    iq = capture([burst])
    iq[120_000:] = 0
    assert np.array_equal(
        mended(iq, np.array([SEED_BAND]), RATE, FINE), mended(iq[:120_000], np.array([SEED_BAND]), RATE, FINE)
    )


def test_thinning_keeps_the_first_of_those_alike_and_lets_a_family_wait() -> None:
    boxes = np.array([(0, 1, 0, 10), (0, 1, 0, 9.9), (0, 1, 0, 5), (0, 1, 0, 2), (5, 6, 0, 10)], float)
    assert thinned(boxes, 9, 0.85).tolist() == [0, 2, 3, 4]
    assert thinned(boxes, 9, 0.85, 0.7, family=2).tolist() == [0, 2, 4, 3]
    assert thinned(boxes, 2, 0.85).tolist() == [0, 2]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-38, 1e-15, 1.0, 1e36]))
def test_any_capture_gives_boxes_with_an_area_inside_it(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    iq = (_noise(30_000, rng) * gain * rng.choice([0, 1, 30], 30_000, p=[0.3, 0.6, 0.1])).astype(np.complex64)
    edges = np.sort(rng.uniform((0, 0, -1e7, -1e7), (2e-3, 2e-3, 1e7, 1e7), (20, 4)).reshape(20, 2, 2), axis=2)
    found = mended(iq, edges.reshape(20, 4), RATE, replace(FINE, limit=64))
    assert len(found) <= 64 and np.isfinite(found).all()
    assert (found[:, 1] > found[:, 0]).all() and (found[:, 3] > found[:, 2]).all()
    assert (np.abs(found[:, 2:]) <= RATE / 2).all() and (found[:, 0] >= 0).all()


def _regions(physical: np.ndarray) -> np.ndarray:
    boxes = np.zeros((PROPOSALS, 4), np.float32)
    boxes[: len(physical)] = to_pixels(physical, SHORT)
    return boxes
