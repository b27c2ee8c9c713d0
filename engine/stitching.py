"""Stitching: detections of a signal that capture borders cut, joined into one, while the captures come in.

    stitcher = Stitcher()
    for result in engine.stream(recording):
        for detection in stitcher.add(result):  # finished: nothing later changes them
            ...
    rest = stitcher.close()

Only detections that may still be continued or repeated are kept, so memory and time per capture do not grow with the
recording.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from .detection import Detection, Result
from .errors import ClosedError, InputError

MIN_BAND_IOU: Final = 0.5  # of the bands of two pieces of one signal
EDGE_ERROR: Final = 2.5  # of an edge in time, in resolutions; real packets and bursts cut by a border: gaps up to 2.2
EDGE_SHARE: Final = 0.03  # or in lengths of the shorter piece: box regression errs in proportion
REPEAT_SHARE: Final = 0.25  # of the length: most that two views of one signal differ by at either edge
DEFAULT_RESOLUTION: Final = 1e-3  # of a capture, for results that do not say theirs


@dataclass(eq=False)
class _Track:
    """A detection so far, and the piece of it that was found last."""

    whole: Detection
    piece: Detection
    given_out: bool = False


class Stitcher:
    """Joins detections across captures, one result at a time.

    A piece in a new capture continues one of an earlier capture when that one reaches the end of what was covered,
    the two meet (the gap is at most 2.5 time resolutions, or 3 % of the shorter piece), their bands have an IoU of
    at least 0.5, and they agree on where the signal lies in the time that both captures show, if they overlap. The
    best pairs are joined first; a piece is joined to at most one earlier and one later piece, never to one of its own
    capture.

    The union lasts from the first start to the last stop, its band from the lowest to the highest edge of its
    pieces, its score is the best of theirs, its version that of the piece with this score. In the overlap of two
    captures, a second view of a detection that was already given out is dropped.
    """

    def __init__(self) -> None:
        self._open: list[_Track] = []  # reach the end of the newest capture
        self._recent: list[_Track] = []  # given out; a capture that reaches back may show them again
        self._start_s = -math.inf  # of the newest capture
        self._border_s = -math.inf  # end of all captures so far
        self._closed = False

    def add(self, result: Result) -> list[Detection]:
        """The detections that `result`, the next capture in order of start, has finished, in order of start.

        Raises InputError on a capture that starts before the one added last, ClosedError after `close`.
        """
        self._check(result)
        resolution_s = result.resolution_s or DEFAULT_RESOLUTION * (result.stop_s - result.start_s)
        view = _View(result.start_s, self._border_s, EDGE_ERROR * resolution_s)
        self._recent = [track for track in self._recent if track.whole.stop_s > result.start_s]
        pieces = sorted(result, key=_place)
        continued = dict(_pairs([*self._open, *self._recent], pieces, view))
        fresh = [_Track(piece, piece) for index, piece in enumerate(pieces) if index not in continued]
        for index, track in continued.items():
            if not track.given_out:
                track.whole, track.piece = _union(track.whole, pieces[index]), pieces[index]
        self._start_s, self._border_s = result.start_s, max(result.stop_s, view.border_s)
        return self._sort_out([*self._open, *fresh], view.edge_s)

    def close(self) -> list[Detection]:
        """The detections that were still open, in order of start. Closing again gives none."""
        rest = sorted((track.whole for track in self._open), key=_place)
        self._open, self._recent, self._closed = [], [], True
        return rest

    def _check(self, result: Result) -> None:
        if self._closed:
            raise ClosedError("the stitcher is closed; make another for another recording")
        if result.start_s < self._start_s:
            raise InputError(
                f"a capture from {result.start_s:g} s came after one from {self._start_s:g} s; add results in order "
                "of start, and those of another recording to another Stitcher"
            )

    def _sort_out(self, tracks: list[_Track], edge_s: float) -> list[Detection]:
        """Keeps what reaches the border; the rest is finished."""
        self._open, finished = [], []
        for track in tracks:
            if track.whole.stop_s >= self._border_s - _tolerance(edge_s, track.piece):
                self._open.append(track)
            else:
                track.given_out = True
                finished.append(track)
        self._open.sort(key=lambda track: _place(track.piece))  # of equal pairs the first is joined
        self._recent += finished
        return sorted((track.whole for track in finished), key=_place)


def stitch(results: Iterable[Result]) -> list[Detection]:
    """All detections of a recording's captures in order of start, joined by `Stitcher`."""
    stitcher = Stitcher()
    found = [detection for result in results for detection in stitcher.add(result)]
    return sorted([*found, *stitcher.close()], key=_place)


@dataclass(frozen=True)
class _View:
    """Border between a new capture, which starts at `start_s`, and the earlier ones, which end at `border_s`."""

    start_s: float
    border_s: float
    edge_s: float  # least error of an edge in time


def _pairs(earlier: list[_Track], pieces: list[Detection], view: _View) -> Iterator[tuple[int, _Track]]:
    """Greedy assignment of pieces to tracks: best agreement first, then best score, each at most once."""
    ranked: list[tuple[float, float, int, int]] = []
    for at, track in enumerate(earlier):
        reach_s = max(view.border_s, track.piece.stop_s) + _tolerance(view.edge_s, track.piece)
        for index, piece in enumerate(pieces):
            if piece.start_s > reach_s:
                break  # in order of start: none of the others can meet it
            agreement = _agreement(track, piece, view)
            if agreement > 0:
                ranked.append((-agreement, -piece.score, at, index))
    tracks_left, pieces_left = set(range(len(earlier))), set(range(len(pieces)))
    for _, _, at, index in sorted(ranked):
        if at in tracks_left and index in pieces_left:
            tracks_left.remove(at)
            pieces_left.remove(index)
            yield index, earlier[at]


def _agreement(track: _Track, piece: Detection, view: _View) -> float:
    """Agreement of a piece of the new capture with the track it may continue or repeat: 0 none, 1 edges equal."""
    last = track.piece
    band = _band_iou(last, piece) if last.signal == piece.signal else 0.0
    edge_s = _tolerance(view.edge_s, last, piece)
    if band < MIN_BAND_IOU or max(last.start_s, piece.start_s) - min(last.stop_s, piece.stop_s) > edge_s:
        return 0.0
    if not track.given_out and view.border_s - view.start_s <= edge_s:
        return band  # no overlap to compare in
    stop_s = view.border_s if not track.given_out else max(last.stop_s, piece.stop_s)
    ours, theirs = (_clipped(d, view.start_s, stop_s) for d in (last, piece))
    most_s = max(edge_s, REPEAT_SHARE * max(ours[1] - ours[0], theirs[1] - theirs[0]))
    first_s, last_s = abs(ours[0] - theirs[0]), abs(ours[1] - theirs[1])
    return band * (1 - (first_s + last_s) / (4 * most_s)) if max(first_s, last_s) <= most_s else 0.0


def _tolerance(edge_s: float, *pieces: Detection) -> float:
    return max(edge_s, EDGE_SHARE * min(piece.stop_s - piece.start_s for piece in pieces))


def _clipped(detection: Detection, start_s: float, stop_s: float) -> tuple[float, float]:
    return min(max(detection.start_s, start_s), stop_s), min(max(detection.stop_s, start_s), stop_s)


def _band_iou(one: Detection, other: Detection) -> float:
    shared = min(one.high_hz, other.high_hz) - max(one.low_hz, other.low_hz)
    union = max(one.high_hz, other.high_hz) - min(one.low_hz, other.low_hz)
    return shared / union if union > 0 else 1.0


def _union(whole: Detection, piece: Detection) -> Detection:
    best = max(whole, piece, key=lambda detection: detection.score)
    return replace(
        best,
        start_s=min(whole.start_s, piece.start_s),
        stop_s=max(whole.stop_s, piece.stop_s),
        low_hz=min(whole.low_hz, piece.low_hz),
        high_hz=max(whole.high_hz, piece.high_hz),
    )


def _place(d: Detection) -> tuple[float | str, ...]:
    return d.start_s, d.low_hz, d.signal, d.stop_s, d.high_hz, -d.score, d.version
