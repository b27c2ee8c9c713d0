"""A day with it, as the README tells it: five labelled recordings of a signal the shipped pack does not know, training,
and the signal found in recordings that nothing has seen."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.boxes import corners, match, physical
from engine.engine import Engine
from engine.recordings.open import open_recording
from engine.stitching import stitch
from engine.store.registry import Store

from .tiny_store import tree

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the shipped store, the recordings, and a trained head `sweeps`; what was printed is in
    train.txt."""
    folder = tmp_path_factory.mktemp("day")
    shutil.copytree(ROOT / "models", folder / "models")
    call([sys.executable, str(ROOT / "scripts/make_new_signal.py"), "rec"], folder)
    known = [f"rec/sweeps_{number}.sigmf-meta" for number in range(1, 6)]
    g20(["samples", "add", "sweeps", *known], folder)
    before = tree(folder / "models")
    (folder / "train.txt").write_text(g20(["train", "sweeps", "--preset", "fast"], folder))
    after = tree(folder / "models")
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {"registry.json", ".lock"}  # of all other heads and the backbone, not a byte
    return folder


def g20(arguments: Sequence[str], folder: Path) -> str:
    return call([sys.executable, "-m", "app.cli.main", *arguments], folder)


def call(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "COLUMNS": "120",
        **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "XDG_CACHE_HOME")},
    }


def test_five_samples_give_a_promoted_head(day: Path) -> None:
    said = (day / "train.txt").read_text()
    assert "sweeps v1: promoted" in said
    history = Store(day / "models").history("sweeps")
    assert history["active_version"] == 1
    assert history["versions"][0]["sample_count"] == 5


def test_the_new_head_finds_its_signal_in_recordings_it_has_not_seen(day: Path) -> None:
    truths = hits = count = 0
    with Engine.open(day / "models", signals=["sweeps"]) as engine:
        for number in (6, 7):
            recording = open_recording(day / "rec" / f"sweeps_{number}.sigmf-meta")
            truth = [note for note in recording.annotations if note.label == "sweeps"]
            found = stitch(engine.stream(recording))
            boxes = [corners(physical(side)) for side in (truth, found)]
            truths, count = truths + len(truth), count + len(found)
            hits += len(match(boxes[0], boxes[1], np.array([d.score for d in found])))
    assert truths == 12
    assert hits >= 9
    assert count - hits <= 3


def test_its_size_is_that_of_a_compact_head(day: Path) -> None:
    assert (day / "models/heads/sweeps/v1/weights.safetensors").stat().st_size < 2_000_000
