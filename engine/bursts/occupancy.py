"""Occupied bands: where in frequency the power of a burst lies, measured while it lasts."""

from typing import Any, Final

import numpy as np

from .envelope import FinePower, host

WHOLE_ROWS: Final = 256  # bins
NEVER: Final = 10**6  # bins: further than any
ABOVE_FLOOR: Final = 1.5  # of a bin's noise, for its power to count
BESIDE: Final = 0.1  # of a band, to each side, where its own power is looked for
SPECTRUM_QUANTILE: Final = 0.15  # of a spectrum, that is its floor where bins are never free


def occupied(fine: FinePower, boxes: np.ndarray, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bands float64[M, 2] and the boxes that they belong to int64[M], of boxes float64[N, 4] in seconds and hertz,
    from the spectra at times float64[N, K] within them.

    Up to two each: 99 % of the power in the band and a tenth beside it; and 99 % of what is connected to the strongest
    bin, one bandwidth to either side at most.
    """
    sizes = _sizes(fine, boxes)
    bands, owners = [np.zeros((0, 2))], [np.zeros(0, np.int64)]
    for size in np.unique(sizes).tolist():
        chosen = np.flatnonzero(sizes == size)
        for found, which in _measured(fine, boxes[chosen], times_s[chosen], size):
            bands.append(found[which])
            owners.append(chosen[which])
    band, owner = np.concatenate(bands), np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return band[order], owner[order]


def _sizes(fine: FinePower, boxes: np.ndarray) -> np.ndarray:
    """int64[N]: the longest STFT that fits twice into a burst and does not split its band too finely."""
    settings = fine.settings
    lasting = (boxes[:, 1] - boxes[:, 0]) * fine.rate_hz / 2
    width = np.maximum(boxes[:, 3] - boxes[:, 2], 1.0)
    most = np.minimum(lasting, settings.spectrum_bins * fine.rate_hz / width).clip(0, len(fine.iq))
    sizes = np.array(settings.sizes)
    return np.asarray(sizes[np.maximum(np.searchsorted(sizes, most, side="right") - 1, 0)])


def _measured(
    fine: FinePower, boxes: np.ndarray, times_s: np.ndarray, size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bands float64[N, 2] and bool[N] where there is one, for each way of measuring."""
    settings = fine.settings
    low, high = boxes[:, 2], boxes[:, 3]
    width = np.maximum(high - low, 1.0)
    first, last = fine.bins(size, low - width, high + width)
    place = first[:, None] + np.arange(int((last - first).max()))
    inside = place < last[:, None]
    place = np.minimum(place, size - 1)
    level, floor = _spectra(fine, boxes, times_s, size, place), fine.floor(size)[place]
    floor = np.minimum(floor, _quiet(level, inside)[:, None])
    over = np.where(inside & (level > ABOVE_FLOOR * floor), level - floor, 0.0)

    def within(extra: float) -> np.ndarray:
        begin, end = fine.bins(size, low - extra * width, high + extra * width)
        return (place >= begin[:, None]) & (place < end[:, None]) & inside

    def hertz(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        edges = _edges(weight, settings.share) + first[:, None] - 0.5 - size / 2
        half_hz = fine.rate_hz / 2
        band = (edges * (fine.rate_hz / size)).clip(-half_hz, half_hz)
        return band, (weight.sum(axis=1) > 0) & (band[:, 1] > band[:, 0])

    own = np.where(within(0.0), over, 0.0)
    top, peak = own.argmax(axis=1), own.max(axis=1)
    gap = np.maximum(1, (BESIDE * width * size / fine.rate_hz).astype(np.int64))
    found = [hertz(np.where(within(BESIDE), over, 0.0))]
    for share in settings.connected:
        lit = (over > peak[:, None] * share) & (over > floor)
        found.append(hertz(np.where(_hanging(lit, top, gap), over, 0.0)))
    return found


def _spectra(fine: FinePower, boxes: np.ndarray, times_s: np.ndarray, size: int, place: np.ndarray) -> np.ndarray:
    """float32[N, bins]: mean power of the frames nearest to `times_s` that lie in each box, in bins int64[N, bins]."""
    frames = len(fine.power(size))
    hop_s, size_s = fine.hop(size) / fine.rate_hz, size / fine.rate_hz
    begin = np.ceil(boxes[:, 0] / hop_s - 1e-6).astype(np.int64)
    end = np.floor((boxes[:, 1] - size_s) / hop_s + 1e-6).astype(np.int64) + 1  # frames that lie in the box as a whole
    short = end <= begin
    middle = np.rint((boxes[:, :2].mean(axis=1) - size_s / 2) / hop_s).astype(np.int64)
    begin = np.where(short, middle, begin).clip(0, frames - 1)
    end = np.maximum(np.where(short, middle + 1, end), begin + 1).clip(None, frames)
    count = times_s.shape[1]
    frame = np.rint((times_s - size_s / 2) / hop_s).astype(np.int64).clip(begin[:, None], end[:, None] - 1)
    xp: Any = fine.xp
    power, frame, bins = fine.power(size), xp.asarray(frame), xp.asarray(place)
    if size <= WHOLE_ROWS:  # whole frames are copied faster than their bins are picked
        level = xp.zeros((len(boxes), size), xp.float32)
        for column in range(count):
            level += power[frame[:, column]]
        level = xp.take_along_axis(level, bins, axis=1)
    else:
        level = xp.zeros(place.shape, xp.float32)
        for column in range(count):
            level += power[frame[:, column, None], bins]
    return host(level, xp) / np.float32(count)


def _quiet(level: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """float32[N]: SPECTRUM_QUANTILE of the bins inside, row by row."""
    ordered = np.sort(np.where(inside, level, np.inf), axis=1)
    place = (SPECTRUM_QUANTILE * (inside.sum(axis=1) - 1)).astype(np.int64)
    return np.asarray(np.take_along_axis(ordered, place[:, None], axis=1)[:, 0])


def _edges(weight: np.ndarray, share: float) -> np.ndarray:
    """float64[N, 2]: between which bin edges the middle `share` of float[N, bins] lies, interpolated."""
    total = np.cumsum(weight, axis=1, dtype=np.float64)
    edges = []
    for part in ((1 - share) / 2, (1 + share) / 2):
        wanted = part * total[:, -1:]
        at = (total < wanted).sum(axis=1).clip(0, weight.shape[1] - 1)[:, None]
        inside = np.take_along_axis(weight, at, axis=1).astype(np.float64)
        before = np.take_along_axis(total, at, axis=1) - inside
        edges.append((at + (wanted - before) / np.where(inside > 0, inside, 1.0))[:, 0])
    return np.stack(edges, axis=1)


def _hanging(lit: np.ndarray, top: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """bool[N, bins]: those that `top` int64[N] reaches over unlit stretches shorter than `gap`."""
    place = np.arange(lit.shape[1])
    before = np.maximum.accumulate(np.where(lit, place, -NEVER), axis=1)
    earlier = np.concatenate([np.full((len(lit), 1), -NEVER), before[:, :-1]], axis=1)
    piece = np.cumsum(lit & (place - earlier > gap[:, None]), axis=1)  # a new one begins after a long gap
    return np.asarray(lit & (piece == np.take_along_axis(piece, top[:, None], axis=1)))
