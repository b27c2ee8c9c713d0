"""Samples and recordings with labels, for the tests of what keeps them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.recordings.annotation import Annotation
from engine.recordings.writing import write_sigmf
from training.samples.sample import Box, Sample
from training.samples.splits import Split
from training.samples.store import SampleStore

from .tiny_store import CONTRACT

CENTRE_HZ: Final = 1e9
BOX: Final = Box(10, 20, 30, 40, "alpha")


def drawn(seed: int = 0) -> np.ndarray:
    """uint8[1024, 1024], another one for each seed."""
    image = np.zeros((1024, 1024), np.uint8)
    image[0] = np.random.default_rng(seed).integers(0, 255, 1024)
    return image


def put(store: SampleStore, seed: int = 0, boxes: tuple[Box, ...] = (BOX,), **changes: Any) -> Sample:
    about = {"contract": CONTRACT, "source_capture": f"recording {seed}", **changes}
    return store.add("alpha", drawn(seed), boxes, **about)


def record(path: Path, *annotations: Annotation, seconds: float = 0.05, centre_hz: float | None = CENTRE_HZ) -> Path:
    """Noise at the contract's rate."""
    parts = np.random.default_rng(3).uniform(-0.5, 0.5, 2 * round(seconds * CONTRACT.sample_rate_hz))
    return write_sigmf(
        path, parts.astype(np.float32).view(np.complex64), sample_rate_hz=CONTRACT.sample_rate_hz,
        center_freq_hz=centre_hz, annotations=annotations, datatype="ci8",
    )  # fmt: skip


def at(start_s: float, stop_s: float, label: str = "alpha", low_hz: float = -1e5, high_hz: float = 1e5) -> Annotation:
    return Annotation(label, start_s, stop_s, CENTRE_HZ + low_hz, CENTRE_HZ + high_hz)


class Listed(SampleStore):
    """A store whose samples are only listed, so that many can come and go quickly."""

    def __init__(self, path: Path, *samples: Sample) -> None:
        super().__init__(path)
        self.samples = {sample.sample_id: sample for sample in samples}

    def list(self, signal: str) -> list[Sample]:
        return sorted(self.samples.values(), key=lambda sample: sample.sample_id)

    def split(self, **how: Any) -> Split:
        return self.current_split("alpha", **how)


def window(recording: str, number: int = 0, labelled: bool = True, **changes: Any) -> Sample:
    sample = Sample(
        f"{recording}-{number}", "alpha", recording, number * CONTRACT.capture_s, CONTRACT.capture_s, None,
        CONTRACT.sample_rate_hz, "", "", CONTRACT, (BOX,) if labelled else (), None, Path("none"),
    )  # fmt: skip
    return replace(sample, **changes)


def recordings(names: str, windows: int = 1) -> list[Sample]:
    return [window(name, number) for name in names for number in range(windows)]
