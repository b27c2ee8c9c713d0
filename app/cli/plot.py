"""Plot of a recording: spectrogram with detections, time in milliseconds, frequency in megahertz."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engine.boxes import to_physical
from engine.contract import Contract
from engine.detection import Detection
from engine.recordings.recording import Recording
from engine.spectrogram import spectrogram

MAX_CAPTURES = 5  # side by side; more would be drawn thinner than their detections
COLOURS = ("#ff5d5d", "#ffd23f", "#7cffb2", "#5fc9ff", "#ff9df5", "#ffffff")


def draw(target: Path, contract: Contract, recording: Recording, found: Sequence[Detection]) -> None:
    """Writes a PNG of the first captures of a recording, as in detection."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.add_subplot()
    centre_hz = recording.center_freq_hz or 0.0
    left, right = 0.0, 0.0
    box = to_physical(np.array([[0, 0, contract.image_size, contract.image_size]]), contract)[0]
    low_mhz, high_mhz = (box[2] + centre_hz) / 1e6, (box[3] + centre_hz) / 1e6
    for index in range(min(recording.n_captures(contract), MAX_CAPTURES)):
        capture = recording.capture(contract, index)
        start_ms = (capture.start_s + box[0]) * 1e3
        right = (capture.start_s + box[1]) * 1e3
        image = spectrogram(capture.iq, contract)
        axes.imshow(image, extent=(start_ms, right, low_mhz, high_mhz), aspect="auto", cmap="viridis", vmin=0, vmax=1)
    names = sorted({d.signal for d in found})
    for d in found:
        colour = COLOURS[names.index(d.signal) % len(COLOURS)]
        corner, width, height = (
            (d.start_s * 1e3, d.low_hz / 1e6),
            (d.stop_s - d.start_s) * 1e3,
            (d.high_hz - d.low_hz) / 1e6,
        )
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.2))
        text = f"{d.signal} {d.score:.2f}"
        axes.annotate(
            text, (d.start_s * 1e3, d.high_hz / 1e6), color=colour, fontsize=7, va="bottom", annotation_clip=True
        )
    axes.set_xlim(left, right)
    axes.set_ylim(low_mhz, high_mhz)
    axes.set_xlabel("time in ms")
    axes.set_ylabel("frequency in MHz" if recording.center_freq_hz is not None else "frequency from the centre in MHz")
    axes.set_title(recording.path.name)
    figure.savefig(target, format="png", dpi=110)
