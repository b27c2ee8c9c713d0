"""Comparison of detections with the annotations of a recording."""

from collections.abc import Collection, Sequence

import numpy as np
from rich.table import Table

from engine.boxes import corners, iou, match, physical
from engine.detection import Detection
from engine.recordings.annotation import Annotation
from engine.recordings.recording import Recording


def matched_table(recording: Recording, found: Sequence[Detection], signals: Collection[str]) -> Table:
    """Table of annotations with the detection that matches each (IoU >= 0.5, best score first, each once), then of the
    false positives. Only `signals` are compared."""
    truth = [note for note in recording.annotations if note.label in signals]
    table = Table(title=f"{recording.path.name}: annotations against detections", title_justify="left")
    for heading in ("signal", "annotated ms", "annotated MHz", "found", "IoU", "score"):
        table.add_column(heading, justify="left" if heading in ("signal", "found") else "right")
    true_positives = 0
    wrong: list[Detection] = []
    for signal in sorted({note.label for note in truth} | {d.signal for d in found}):
        notes = [note for note in truth if note.label == signal]
        ours = [d for d in found if d.signal == signal]
        pairs = dict(match(_corners(notes), _corners(ours), np.array([d.score for d in ours])))
        true_positives += len(pairs)
        overlap = iou(_corners(notes), _corners(ours))
        for index, note in enumerate(notes):
            if index in pairs:
                detection = ours[pairs[index]]
                row = ("yes", f"{overlap[index, pairs[index]]:.2f}", f"{detection.score:.2f}")
            else:
                row = ("no", "", "")
            table.add_row(signal, _milliseconds(note), _megahertz(note), *row)
        wrong += [d for index, d in enumerate(ours) if index not in pairs.values()]
    for d in wrong:
        table.add_row(d.signal, "", "", f"at {d.start_s * 1e3:.1f} ms, {d.low_hz / 1e6:.2f} MHz: in no annotation")
    table.caption = f"{true_positives} of {len(truth)} annotated signals found, {len(wrong)} false positives"
    return table


def _corners(boxes: Sequence[Annotation] | Sequence[Detection]) -> np.ndarray:
    return corners(physical(boxes))


def _milliseconds(note: Annotation) -> str:
    return f"{note.start_s * 1e3:.1f} - {note.stop_s * 1e3:.1f}"


def _megahertz(note: Annotation) -> str:
    return f"{note.low_hz / 1e6:.3f} - {note.high_hz / 1e6:.3f}"
