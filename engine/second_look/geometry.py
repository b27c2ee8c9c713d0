"""Values of candidate boxes that need no network: their sides and their power profile."""

from typing import Final

import numpy as np

from engine.bursts.envelope import FinePower

BOX_VALUES: Final = 12
HALF: Final = (-0.5, -0.25, -0.12, -0.06, -0.02, 0, 0.02, 0.06, 0.12, 0.25, 0.375)
EDGES: Final = np.array([*HALF, 0.5, *(1 - edge for edge in HALF[::-1])])  # of a side: 0 its beginning, 1 its end
INSIDE: Final = slice(5, 17)  # intervals of EDGES within the box
PROFILE_VALUES: Final = 2 * (len(EDGES) - 1) + 6
UNKNOWN: Final = 1.5  # log10 of a ratio, for intervals outside the capture
LEAST_RATIO: Final = 1e-3
LEAST_POWER: Final = 1e-30
FRAMES: Final = 64  # averaged for a spectrum, at most


def box_values(boxes: np.ndarray, from_picture: np.ndarray, valid_s: float, rate_hz: float) -> np.ndarray:
    """float32[N, BOX_VALUES] of boxes float64[N, 4] = start_s, stop_s, low_hz, high_hz, best first, in a capture of
    `valid_s` seconds. from_picture: bool[N], regions of the picture; the others are bursts of the envelope."""
    duration_s = np.maximum(boxes[:, 1] - boxes[:, 0], 1e-7)
    width_hz = np.maximum(boxes[:, 3] - boxes[:, 2], 1.0)
    middle = (boxes[:, 2] + boxes[:, 3]) / rate_hz
    return np.column_stack(
        [
            np.log10(duration_s) + 3,
            np.log10(width_hz) - 5,
            np.log10(duration_s * width_hz),
            np.log10(duration_s / valid_s),
            np.log10(width_hz / rate_hz),
            boxes[:, 0] <= 1e-5,
            boxes[:, 1] >= valid_s - 1e-5,
            np.abs(middle),
            np.abs(middle) + width_hz / rate_hz >= 0.98,
            from_picture,
            np.log1p(np.arange(len(boxes))),
            np.full(len(boxes), np.log10(rate_hz) - 7),
        ]
    ).astype(np.float32)


def profile(fine: FinePower, box: np.ndarray) -> np.ndarray:
    """float32[PROFILE_VALUES]: power across a box over time and over frequency, relative to that inside, in log10, from
    half a side before it to half a side after it; then level over the floor, duty, gaps."""
    start_s, stop_s, low_hz, high_hz = box.tolist()
    duration_s, width_hz = max(stop_s - start_s, 1e-7), max(high_hz - low_hz, 1.0)
    size = _time_size(fine, duration_s, width_hz)
    hop_s, power = fine.hop(size) / fine.rate_hz, fine.power(size)
    first, last = (int(b) for b in fine.bins(size, np.asarray(low_hz), np.asarray(high_hz)))
    begin = min(max(int((start_s - duration_s / 2) / hop_s) - 1, 0), len(power) - 1)
    end = min(max(int((stop_s + duration_s / 2) / hop_s) + 1, begin + 1), len(power))
    envelope = power[begin:end, first:last].sum(axis=1, dtype=np.float64)
    middle = (np.arange(begin, end + 1) - 0.5) * hop_s + size / 2 / fine.rate_hz
    over_time, inside = _relative(envelope * hop_s, middle, start_s + EDGES * duration_s)
    within = envelope[(middle[:-1] >= start_s - hop_s) & (middle[1:] <= stop_s + hop_s)]
    floor = float(fine.floor(size)[first:last].sum())
    over_frequency = _spectrum(fine, box, duration_s, width_hz)
    return np.concatenate([over_time, over_frequency, _gaps(envelope, within, inside, floor, hop_s / duration_s)])


def _time_size(fine: FinePower, duration_s: float, width_hz: float) -> int:
    """The longest STFT that still resolves a box in time."""
    sizes = [
        size
        for size in fine.settings.sizes
        if size <= 8 * fine.rate_hz / width_hz and fine.hop(size) / fine.rate_hz <= duration_s / 8
    ]
    return max((size for size in sizes if len(fine.iq) >= 4 * size), default=fine.settings.sizes[0])


def _spectrum(fine: FinePower, box: np.ndarray, duration_s: float, width_hz: float) -> np.ndarray:
    rate_hz = fine.rate_hz
    fits = [s for s in fine.settings.sizes if s / rate_hz <= duration_s / 2 and s <= 64 * rate_hz / width_hz]
    size = max((s for s in fits if len(fine.iq) >= s), default=fine.settings.sizes[0])
    power, hop_s = fine.power(size), fine.hop(size) / rate_hz
    begin = min(max(int(np.ceil(box[0] / hop_s)), 0), len(power) - 1)
    end = min(max(int(np.floor(box[1] / hop_s)) - 1, begin + 1), len(power))
    outer = (np.asarray(box[2] - width_hz / 2), np.asarray(box[3] + width_hz / 2))
    first, last = (int(b) for b in fine.bins(size, outer[0], outer[1]))
    spectrum = power[begin : end : max(1, (end - begin) // FRAMES), first:last].mean(axis=0, dtype=np.float64)
    per_bin = rate_hz / size
    middle = (np.arange(first, last + 1) - size / 2 - 0.5) * per_bin
    return _relative(spectrum * per_bin, middle, box[2] + EDGES * width_hz)[0]


def _relative(sums: np.ndarray, places: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, float]:
    """log10 of the mean density between `edges` over that inside the box, and the latter. sums: float[n], power in
    cells that `places` float[n + 1] bound."""
    total = np.concatenate([[0.0], np.cumsum(sums)])
    clipped = edges.clip(places[0], places[-1])
    seen = np.diff(clipped)
    mean = np.diff(np.interp(clipped, places, total)) / np.maximum(seen, 1e-30)
    known = seen > 0.2 * np.diff(edges)
    within = known[INSIDE]
    inside = float(mean[INSIDE][within].mean()) if within.any() else float(total[-1] / (places[-1] - places[0]))
    inside = max(inside, LEAST_POWER)
    found = np.where(known, np.log10(np.maximum(mean, 0) / inside + LEAST_RATIO), UNKNOWN)
    return found.astype(np.float32), inside


def _gaps(envelope: np.ndarray, within: np.ndarray, inside: float, floor: float, step: float) -> np.ndarray:
    """float32[6]: level over the floor (log10), duty cycle, longest gap inside in durations and its log10, peak (log10)
    and relative deviation of the power."""
    floor = floor if np.isfinite(floor) else float(np.quantile(envelope, 0.1))
    within = within if len(within) else envelope
    on = within > 0.1 * inside
    change = np.flatnonzero(np.diff(np.concatenate([[1], on.view(np.int8), [1]])))
    gap = float((change[1::2] - change[::2]).max()) * step if len(change) > 1 else 0.0
    peak = np.log10(within.max() / inside + LEAST_RATIO)
    level = np.log10(inside / max(floor, LEAST_POWER) + LEAST_RATIO)
    deviation = within.std() / max(float(within.mean()), LEAST_POWER)
    return np.array(
        [level, on.mean(), min(gap, 4.0), np.log10(gap + LEAST_RATIO), peak, min(deviation, 9.0)], np.float32
    )
