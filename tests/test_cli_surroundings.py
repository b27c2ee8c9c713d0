"""The command line where it is really used: odd paths, pipes that close, full disks, other locales."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli import Run, annotation, g20, recording, refused, write_recording

__all__ = ["g20", "recording"]  # fixtures
ROOT = Path(__file__).parents[1]


def child(*words: object, models: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", "detect", "--models", str(models), *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.mark.parametrize("name", ["größe 信号", "two  spaces", "[red]x[b]", ":smile:", "-dash", "%s{0}$HOME", "a'b\"c"])
def test_any_path_is_printed_as_it_is(g20: Run, tmp_path: Path, name: str) -> None:
    path = write_recording(tmp_path / name)
    table, lines = g20("detect", path, "--match"), g20("detect", path, "--json")
    assert (table.code, lines.code) == (0, 0)
    assert path.name in table.out and path.name in table.err
    assert [json.loads(line)["file"] for line in lines.out.splitlines()] == [str(path)] * 2


def test_a_path_that_is_no_text_is_escaped(tiny_models: Path, tmp_path: Path) -> None:
    path = write_recording(tmp_path / os.fsdecode(b"odd\xff"))
    done = child(path, "--json", models=tiny_models, PYTHONIOENCODING="utf-8")
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(path)] * 2


def test_relative_paths_work(g20: Run, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = g20("detect", recording.name, "--json", "--plot", "here.png")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[0])["file"] == recording.name
    assert (tmp_path / "here.png").is_file()
    (tmp_path / "down").mkdir()
    assert g20("detect", f"down/../{recording.name}").code == 0


def test_a_message_stays_one_line_when_a_name_does_not(g20: Run, tmp_path: Path) -> None:
    refused(g20("detect", tmp_path / "two\nlines.cf32", "--rate", "1e6"), "two lines.cf32: cannot be read")


def test_a_plot_in_the_place_of_a_folder_is_refused_after_the_detections(
    g20: Run, recording: Path, tmp_path: Path
) -> None:
    done = g20("detect", recording, "--plot", tmp_path)
    assert done.code == 1 and "alpha" in done.out
    assert done.err.splitlines()[-1] == f"g20: --plot {tmp_path}: cannot be written (Is a directory)"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk without space")
def test_a_full_disk_is_told_in_one_line(g20: Run, recording: Path, tiny_models: Path) -> None:
    done = g20("detect", recording, "--plot", "/dev/full")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "g20: --plot /dev/full: cannot be written (No space left on device)"
    command = [sys.executable, "-m", "app.cli.main", "detect", "--models", str(tiny_models), str(recording)]
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].startswith("g20: ") and "No space left on device" in told.stderr
    assert "Traceback" not in told.stderr and "Exception ignored" not in told.stderr


@pytest.mark.parametrize("form", ["--json", "--match"])
def test_a_reader_that_goes_away_ends_it_without_a_trace(tiny_models: Path, recording: Path, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "app.cli.main", "detect", "--models", str(tiny_models), str(recording), form]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr and "Errno" not in done.stderr


def test_what_is_printed_is_the_same_in_every_locale_and_time_zone(tiny_models: Path, recording: Path) -> None:
    here = child(recording, "--json", models=tiny_models)
    assert json.loads(here.stdout.splitlines()[0])["start_s"] == pytest.approx(annotation("alpha").start_s)
    for settings in ({"LC_ALL": "de_DE.UTF-8"}, {"LC_ALL": "C", "TZ": "Pacific/Chatham"}):
        assert child(recording, "--json", models=tiny_models, **settings).stdout == here.stdout


def test_a_table_survives_an_output_that_knows_only_ascii(tiny_models: Path, tmp_path: Path) -> None:
    done = child(write_recording(tmp_path / "größe"), models=tiny_models, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "2400.2499" in done.stdout and "gr\\xf6" in done.stdout


def test_without_a_terminal_nothing_but_text_is_printed(tiny_models: Path, recording: Path) -> None:
    done = child(recording, models=tiny_models)
    assert "\x1b" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1  # the summary, no progress bar
