"""Augmentation of IQ: what channel, receiver and clock do to a window, with boxes moved consistently.

Every function takes complex64[n] and returns a new complex64[n]; none depends on the level. Shifts are cyclic: what
leaves the window at one edge of time or frequency enters at the other, and its box is cut there.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft
import soxr

from engine.boxes import to_physical, to_pixels
from engine.contract import IMAGE_SIZE, Contract

from .sample import DECIMALS, Box, checked_boxes
from .windows import MIN_OBJECT_SHARE, OTHER

MAX_CLOCK_PPM = 60.0
MAX_DRIFT_BINS = 1.0  # of the STFT, over the window
MAX_DELAY_S = 1e-6
MAX_TILT_DB = 4.0  # from the middle of the band to its edge
MAX_SNR_DROP_DB = 10.0
MAX_LEVEL_DB = 20.0
FLOOR_POINTS, FLOOR_FRAMES = 1024, 256  # of the estimate of the noise floor
STOPBAND_DB = 40.0  # bins that lie so far under the loud ones hold a filter's stopband, not the receiver's noise
LEAST_PX = 10.0**-DECIMALS


def frequency_shifted(iq: np.ndarray, cycles: float) -> np.ndarray:
    """Moved up by `cycles` per sample."""
    turns = np.arange(len(iq)) * cycles % 1.0
    return np.asarray(iq * np.exp(2j * np.pi * turns).astype(np.complex64))


def time_shifted(iq: np.ndarray, samples: int) -> np.ndarray:
    """Moved to later times."""
    return np.roll(iq, samples)


def scaled(iq: np.ndarray, level_db: float) -> np.ndarray:
    return iq * np.float32(10 ** (level_db / 20))


def noise_floor(iq: np.ndarray) -> float:
    """Noise power per sample, if it filled the whole band: medians over time, then over bins outside a stopband."""
    points = min(FLOOR_POINTS, len(iq))
    starts = np.linspace(0, len(iq) - points, FLOOR_FRAMES).astype(int)
    window = np.hanning(points).astype(np.float32)
    frames = np.stack([iq[start : start + points] for start in starts]) * window
    power = np.median(np.abs(scipy.fft.fft(frames, axis=1)) ** 2, axis=0)
    loud = power[power >= np.quantile(power, 0.95) * 10 ** (-STOPBAND_DB / 10)]
    return float(np.median(loud) / math.log(2) / np.sum(window**2))  # ln 2: the median of an exponential distribution


def noise_added(iq: np.ndarray, drop_db: float, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise on top that lowers the signal-to-noise ratio by `drop_db`, from the floor that is there."""
    power = noise_floor(iq) * (10 ** (drop_db / 10) - 1)
    pairs = rng.standard_normal((len(iq), 2), dtype=np.float32) * np.float32(math.sqrt(power / 2))
    return iq + pairs.view(np.complex64)[:, 0]


def clock_error(iq: np.ndarray, ppm: float) -> np.ndarray:
    """As a sampling clock that runs `ppm` too fast records it: times stretched, frequencies compressed.

    What lacks at the end is taken from the start; the shift of the carrier is `frequency_shifted`'s to add.
    """
    if not ppm:
        return iq.copy()
    pairs = np.ascontiguousarray(iq).view(np.float32).reshape(-1, 2)
    found = soxr.resample(pairs, 1.0, 1.0 + ppm * 1e-6, quality="HQ")[: len(iq)]
    return np.ascontiguousarray(np.concatenate([found, pairs[: len(iq) - len(found)]])).view(np.complex64)[:, 0]


def carrier_drift(iq: np.ndarray, phase_turns: float, drift_cycles: float) -> np.ndarray:
    """Carrier turned by a phase, its frequency running off to `drift_cycles` per sample at the end of the window."""
    place = np.arange(len(iq), dtype=np.float64)
    turns = (phase_turns + place * place * (drift_cycles / (2 * len(iq)))) % 1.0
    return np.asarray(iq * np.exp(2j * np.pi * turns).astype(np.complex64))


def multipath(iq: np.ndarray, delays: Sequence[int], gains: Sequence[complex]) -> np.ndarray:
    """The direct path and echoes of it: `delays` in samples, `gains` against the direct path."""
    found = iq.copy()
    for delay, gain in zip(delays, gains, strict=True):
        found[delay:] += np.complex64(gain) * iq[: len(iq) - delay]
    return found


def filter_tilt(iq: np.ndarray, tilt_db: float, slope_db: float) -> np.ndarray:
    """A receiver's filter without delay: rising by `slope_db` from edge to edge, `tilt_db` down at both edges."""
    place = scipy.fft.fftfreq(len(iq)).astype(np.float32)  # -0.5..0.5
    gain_db = np.float32(slope_db) * place - np.float32(4 * tilt_db) * place**2
    spectrum = scipy.fft.fft(iq, overwrite_x=False)
    spectrum *= np.exp(gain_db * np.float32(math.log(10) / 20))
    return np.asarray(scipy.fft.ifft(spectrum, overwrite_x=True), np.complex64)


def quantised_8bit(iq: np.ndarray, full_scale: float) -> np.ndarray:
    """An 8-bit converter whose full scale is `full_scale` times the largest part; what is beyond is clipped."""
    parts = np.ascontiguousarray(iq).view(np.float32)
    full = np.float32(full_scale) * np.maximum(parts.max(), -parts.min())
    if not full > 0:
        return iq.copy()
    whole = np.rint(parts * (np.float32(127) / full)).clip(-127, 127)
    return np.asarray(whole * (full / np.float32(127))).view(np.complex64)


def augmented(
    iq: np.ndarray, boxes: Sequence[Box], contract: Contract, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[Box, ...]]:
    """A window complex64[n], finite, as another place, day and receiver would have recorded it, and its boxes.

    Boxes are in pixels of the contract's image. Those cut at an edge come back in pieces; one of less than a quarter
    is labelled `other`. The same generator state gives the same samples.
    """
    rate, n = contract.sample_rate_hz, len(iq)
    if rng.random() < 0.5:
        iq = multipath(iq, *_echoes(rate, rng))
    ppm, drift = float(rng.uniform(-MAX_CLOCK_PPM, MAX_CLOCK_PPM)), rng.uniform(-MAX_DRIFT_BINS, MAX_DRIFT_BINS)
    later, cycles = int(rng.integers(n)), float(rng.uniform(-0.5, 0.5))
    iq = carrier_drift(clock_error(iq, ppm), rng.random(), drift / contract.n_fft)
    iq = frequency_shifted(time_shifted(iq, later), cycles)
    if rng.random() < 0.5:
        iq = noise_added(iq, float(rng.uniform(0.5, MAX_SNR_DROP_DB)), rng)
    if rng.random() < 0.5:
        iq = filter_tilt(iq, float(rng.uniform(0, MAX_TILT_DB)), float(rng.uniform(-MAX_TILT_DB, MAX_TILT_DB)))
    iq = scaled(iq, float(rng.uniform(-MAX_LEVEL_DB, MAX_LEVEL_DB)))
    if rng.random() < 0.25:
        iq = quantised_8bit(iq, float(rng.uniform(0.7, 3.0)))
    edges = np.array([[box.x_min, box.y_min, box.x_max, box.y_max] for box in boxes]).reshape(-1, 4)
    physical = _stretched(to_physical(edges, contract), ppm, drift * rate / contract.n_fft, n / rate)
    moved = physical + np.array([later / rate] * 2 + [cycles * rate] * 2)
    return iq, _in_window(moved, [box.label for box in boxes], n / rate, contract)


def _echoes(rate_hz: float, rng: np.random.Generator) -> tuple[list[int], list[complex]]:
    """One or two echoes within a microsecond, and at least a sample, 3 to 20 dB below the direct path."""
    count, longest = int(rng.integers(1, 3)), max(1, round(MAX_DELAY_S * rate_hz))
    gains = 10 ** (-rng.uniform(3, 20, count) / 20) * np.exp(2j * np.pi * rng.random(count))
    return rng.integers(1, longest + 1, count).tolist(), gains.tolist()


def _stretched(physical: np.ndarray, ppm: float, drift_hz: float, window_s: float) -> np.ndarray:
    """Boxes float64[N, 4] in seconds and hertz after clock error and drift, which widens them."""
    stretch = 1 + ppm * 1e-6
    found = physical * np.array([stretch, stretch, 1 / stretch, 1 / stretch])
    offsets = found[:, :2] * (drift_hz / window_s)
    return np.asarray(found + np.stack([np.zeros(len(found))] * 2 + [offsets.min(1), offsets.max(1)], axis=1))


def _in_window(physical: np.ndarray, labels: Sequence[str], window_s: float, contract: Contract) -> tuple[Box, ...]:
    """Boxes of cyclically shifted objects as pieces in the image."""
    found = []
    for turn in (-1, 0, 1):
        for band in (-1, 0, 1):
            period = np.array([turn * window_s] * 2 + [band * contract.sample_rate_hz] * 2)
            whole = to_pixels(physical + period, contract)
            pieces = whole.clip(0, IMAGE_SIZE)
            sides, all_sides = pieces[:, 2:] - pieces[:, :2], (whole[:, 2:] - whole[:, :2]).clip(LEAST_PX, IMAGE_SIZE)
            for edges, side, share, label in zip(pieces, sides, (sides / all_sides).prod(1), labels, strict=True):
                if (side > 2 * LEAST_PX).all():
                    found.append(Box.at(edges.tolist(), label if share >= MIN_OBJECT_SHARE else OTHER))
    return checked_boxes(found, "augmented window")
