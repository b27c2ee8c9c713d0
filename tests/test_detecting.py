"""g20 detect while it runs: lines as detections finish, Ctrl-C, progress, and what is kept."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.cli import detect as detecting
from app.cli import output as consoles
from engine.detection import Detection, Result
from engine.engine import Engine
from engine.errors import ClosedError
from engine.recordings.detections import FIELDS

from .test_cli import Done, Run, g20, recording, write_recording
from .tiny_store import CONTRACT, build_store

__all__ = ["g20", "recording"]  # fixtures
ROOT = Path(__file__).parents[1]
LENGTH = CONTRACT.capture_s
CUT = Detection("alpha", 0.9, 0.03, LENGTH, 1e6, 2e6, 1)  # reaches the end of the first capture


def result(index: int, *pieces: Detection, notes: tuple[str, ...] = (), quality: str = "ok") -> Result:
    return Result(pieces, index * LENGTH, (index + 1) * LENGTH, data_quality=quality, notes=notes)


def later(index: int, **changes: float) -> Detection:
    """A detection in the middle of a capture."""
    return replace(CUT, start_s=index * LENGTH + 0.02, stop_s=index * LENGTH + 0.025, **changes)


Streamed = Callable[..., Done]


@pytest.fixture
def streamed(g20: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Streamed:
    """Runs detect on a recording of four captures for which the engine gives `results`."""
    path = write_recording(tmp_path / "long", captures=4)

    def run(results: Callable[[], Iterator[Result]], *words: object) -> Done:
        monkeypatch.setattr(Engine, "stream", lambda engine, recording: results())
        return g20("detect", path, *words)

    return run


def starts(out: str) -> list[float]:
    return [json.loads(line)["start_s"] for line in out.splitlines()]


# as they come


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_detection_is_printed_before_the_next_capture_is_looked_at(
    streamed: Streamed, capfd: pytest.CaptureFixture[str], form: str | None
) -> None:
    lines = []

    def results() -> Iterator[Result]:
        for index in range(3):
            yield result(index, later(index))
            lines.append(sum("alpha" in line for line in capfd.readouterr().out.splitlines()))

    assert streamed(results, *([form] if form else [])).code == 0
    assert lines == [1, 1, 1]


def test_what_a_border_cuts_is_printed_whole_when_it_is_over(streamed: Streamed) -> None:
    rest = replace(CUT, start_s=LENGTH, stop_s=LENGTH + 0.02)
    done = streamed(lambda: iter([result(0, CUT, later(0)), result(1, rest)]), "--json")
    assert starts(done.out) == [later(0).start_s, CUT.start_s]
    assert json.loads(done.out.splitlines()[1])["stop_s"] == rest.stop_s
    assert "detections: 2, captures: 2" in done.err


def test_what_is_open_at_the_end_is_printed(streamed: Streamed) -> None:
    assert starts(streamed(lambda: iter([result(0, CUT)]), "--json").out) == [CUT.start_s]


def test_csv_has_one_heading_for_all_files(g20: Run, recording: Path, tmp_path: Path) -> None:
    done = g20("detect", recording, write_recording(tmp_path / "other"), "--csv")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert rows[0] == list(FIELDS)
    assert [(row[0], row[1]) for row in rows[1:]] == [
        (str(path), name) for path in (recording, tmp_path / "other.sigmf-meta") for name in ("alpha", "beta")
    ]


def test_rows_of_the_table_stand_under_its_heading(streamed: Streamed) -> None:
    out = streamed(lambda: iter([result(0, later(0)), result(1, later(1, low_hz=-1e9))])).out
    heading, *rows = out.splitlines()[1:]
    assert {len(row) for row in rows} == {len(heading)}


@pytest.mark.parametrize("keeps", [True, False])
def test_detections_are_kept_only_for_what_needs_them_all(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    kept = []
    finish = detecting._finish
    monkeypatch.setattr(
        detecting, "_finish", lambda run, *words, **more: (kept.append(len(run.found)), finish(run, *words, **more))
    )
    streamed(lambda: iter([result(0, later(0)), result(1, later(1))]), "--json", *(["--match"] if keeps else []))
    assert kept == [2 if keeps else 0]


def test_a_note_is_said_once_when_it_first_comes_up(streamed: Streamed) -> None:
    results = [result(0), result(1, notes=("odd",)), result(2, notes=("odd",)), result(3, notes=("odd", "new"))]
    err = streamed(lambda: iter(results), "--json").err.splitlines()
    assert err[:-1] == ["long.sigmf-meta: odd", "long.sigmf-meta: new"]


def test_captures_of_bad_data_are_said_when_they_begin_and_counted(streamed: Streamed) -> None:
    results = [result(0), *(result(index, quality="silent") for index in (1, 2, 3))]
    err = streamed(lambda: iter(results), "--json").err.splitlines()
    assert err[0] == f"long.sigmf-meta: at {LENGTH:g} s the data are silent"
    assert len(err) == 2 and "captures: 4, silent: 3" in err[1]


def test_an_error_on_the_way_loses_nothing_found_before(streamed: Streamed) -> None:
    def results() -> Iterator[Result]:
        yield result(0, CUT, later(0))
        raise ClosedError("the engine is closed")

    done = streamed(results, "--json")
    assert (done.code, starts(done.out)) == (1, [later(0).start_s, CUT.start_s])
    assert done.err.splitlines() == ["g20: the engine is closed"]


# Ctrl-C


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_prints_what_is_open_and_says_how_far_it_came(streamed: Streamed, times: int) -> None:
    """Pressed once, the capture under way still counts; twice, it ends at once."""

    def results() -> Iterator[Result]:
        yield result(0, later(0))
        yield result(1, replace(CUT, start_s=LENGTH + 0.04, stop_s=2 * LENGTH))
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        yield result(2, later(2))
        raise AssertionError("goes on")

    done = streamed(results, "--json")
    seen = [later(0).start_s, LENGTH + 0.04, *([later(2).start_s] if times == 1 else [])]
    assert (done.code, starts(done.out)) == (130, seen)
    assert done.err.rstrip().endswith(f"interrupted at {(4 - times) * LENGTH:g} s")


def test_ctrl_c_leaves_out_the_files_that_follow(streamed: Streamed, recording: Path) -> None:
    def results() -> Iterator[Result]:
        signal.raise_signal(signal.SIGINT)
        yield result(0, later(0))

    done = streamed(results, recording, "--sigmf")
    assert done.code == 130
    assert len(json.loads(done.out)["annotations"]) == 1


def test_ctrl_c_is_python_s_own_again_afterwards(streamed: Streamed) -> None:
    before = signal.getsignal(signal.SIGINT)
    streamed(lambda: iter([result(0)]))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_is_interrupted_ends_with_130_and_its_lines(tiny_models: Path, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "long", captures=400)
    command = [sys.executable, "-m", "app.cli.main", "detect", "--models", str(tiny_models), str(path), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        rest, err = child.stdout.read(), child.stderr.read()
    assert child.returncode == 130
    found = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert f"detections: {len(found)}, captures: {len(found) // 2}," in err and "interrupted at " in err
    assert "Traceback" not in err


# arbitration


def test_of_two_heads_on_one_burst_the_better_is_printed_unless_all_are_asked_for(
    g20: Run, recording: Path, tmp_path: Path
) -> None:
    box = (256, 128, 512, 256)
    store = build_store(tmp_path / "rivals", {"alpha": (0.9, box), "beta": (0.75, box)})

    def names(*words: str) -> list[str]:
        out = g20("detect", recording, "--json", *words, models=store.path).out
        return sorted(json.loads(line)["signal"] for line in out.splitlines())

    assert names() == ["alpha"]
    assert names("--all-heads") == ["alpha", "beta"]


# progress


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(consoles, "monotonic", made)
    return made


def ticking(clock: Clock, count: int, each_s: float) -> Iterator[int]:
    for index in range(count):
        clock.now_s += each_s
        yield index


def test_without_a_terminal_progress_is_a_line_each_five_seconds(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    items = consoles.progress(ticking(clock, 7, 2.5), "x", 7, unit="captures", status=lambda: "12 detections")
    assert list(items) == list(range(7))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"x: {done} of 7 captures, 12 detections" for done in (2, 4, 6)]


def test_a_short_run_says_nothing_of_progress(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(consoles.progress(ticking(clock, 4, 1.0), "x", 4)) == [0, 1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_progress_of_unknown_length_counts(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    list(consoles.progress(ticking(clock, 2, 5.0), "x"))
    assert capfd.readouterr().err.splitlines() == ["x: 1 done", "x: 2 done"]


def test_a_task_in_phases_says_phase_count_and_status(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with consoles.Reporter("a: features", unit="views") as reporter:
        for done in ticking(clock, 4, 2.5):
            reporter.update(done, 4)
        clock.now_s += 5
        reporter.update(1, 30, description="a: training", unit="epochs", status="F1 0.500")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["a: features: 1 of 4 views", "a: features: 3 of 4 views",
                                "a: training: 1 of 30 epochs, F1 0.500"]  # fmt: skip


def test_a_task_without_a_unit_says_its_phase_alone(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with consoles.Reporter("extracting") as reporter:
        clock.now_s += 5
        reporter.update(description="certifying")
    assert capfd.readouterr().err == "certifying\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo terminal")
def test_on_a_terminal_the_bar_keeps_away_from_standard_output(tiny_models: Path, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "long", captures=3)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "app.cli.main", "detect", "--models", str(tiny_models), str(path), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60, check=False)
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert done.returncode == 0
    assert len(starts(done.stdout)) == 6
    assert "/3" in shown and "alpha" not in shown
