"""The command line: data on standard output and nothing else there, errors in one line, exit codes that tell."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from app.cli import main as cli
from engine import VERSION
from engine.boxes import to_physical
from engine.recordings.annotation import Annotation
from engine.recordings.detections import FIELDS
from engine.recordings.writing import write_sigmf

from .tiny_store import CONTRACT, SAYS

CENTRE_HZ = 2.4e9


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def g20(tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, as `g20` would, on the store of stand-ins."""
    monkeypatch.setattr(cli.data_console, "width", 150)

    def run(command: str, *words: object, models: object = tiny_models) -> Done:
        where = ["--models", str(models)] if command in ("detect", "extract", "bench") and models else []
        monkeypatch.setattr(sys, "argv", ["g20", command, *where, *map(str, words)])
        try:
            code = cli.main() or 0
        except SystemExit as left:
            code = int(left.code or 0)
        return Done(code, *capfd.readouterr())

    return run


def annotation(signal: str) -> Annotation:
    """Where the stand-in's head for a signal says it is."""
    start, stop, low, high = to_physical(np.array([SAYS[signal][1]]), CONTRACT)[0].tolist()
    return Annotation(signal, start, stop, low + CENTRE_HZ, high + CENTRE_HZ)


def write_recording(path: Path, captures: int = 1) -> Path:
    parts = np.random.default_rng(4).uniform(-0.5, 0.5, 2 * captures * CONTRACT.capture_samples)
    return write_sigmf(
        path,
        parts.astype(np.float32).view(np.complex64),
        sample_rate_hz=CONTRACT.sample_rate_hz,
        center_freq_hz=CENTRE_HZ,
        annotations=[annotation("alpha")],
        datatype="ci8",
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "noise")


def refused(done: Done, *words: str, code: int = 1) -> None:
    """One line, on standard error, that says all the words."""
    assert done.code == code
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("g20: "), done.err
    assert all(word in lines[0] for word in words), done.err


# detect


def test_detect_prints_a_table(g20: Run, recording: Path) -> None:
    done = g20("detect", recording)
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["alpha", "0.90", "12.80", "24.58", "2400.2499", "2400.3749", "v1"] in rows
    assert ["beta", "0.75", "28.62", "42.42", "2399.7186", "2399.8163", "v1"] in rows
    assert "detections: 2, captures: 1" in done.err


def test_json_lines_hold_the_promised_keys_and_nothing_else_is_printed(g20: Run, recording: Path) -> None:
    done = g20("detect", recording, "--json", "--match")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [tuple(line) for line in found] == [FIELDS, FIELDS]
    assert FIELDS == ("file", "signal", "score", "start_s", "stop_s", "low_hz", "high_hz", "version")
    alpha, truth = found[0], annotation("alpha")
    assert (alpha["file"], alpha["signal"], alpha["version"]) == (str(recording), "alpha", 1)
    assert alpha["score"] == pytest.approx(0.9, abs=1e-6)  # float32 in the graph
    assert [alpha[key] for key in FIELDS[3:7]] == pytest.approx(
        [truth.start_s, truth.stop_s, truth.low_hz, truth.high_hz], rel=1e-9
    )


def test_detections_of_later_captures_count_from_the_start_of_the_recording(g20: Run, tmp_path: Path) -> None:
    done = g20("detect", write_recording(tmp_path / "long", captures=3), "--json", "--signals", "alpha")
    starts = [json.loads(line)["start_s"] for line in done.out.splitlines()]
    assert starts == pytest.approx([annotation("alpha").start_s + n * CONTRACT.capture_s for n in range(3)])


def test_sigmf_output_is_one_document_with_the_detections(g20: Run, recording: Path) -> None:
    done = g20("detect", recording, "--sigmf")
    document = json.loads(done.out)
    assert document["global"]["core:sample_rate"] == CONTRACT.sample_rate_hz
    assert [note["core:label"] for note in document["annotations"]] == ["alpha", "beta"]
    assert document["annotations"][0]["core:sample_start"] == round(annotation("alpha").start_s * 1e6)


def test_plot_writes_a_png_over_what_was_there(g20: Run, recording: Path, tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_bytes(b"an older picture")
    done = g20("detect", recording, "--plot", target)
    assert (done.code, target.read_bytes()[:8]) == (0, b"\x89PNG\r\n\x1a\n")
    assert f"wrote {target}" in done.err


def test_plot_without_matplotlib_is_refused_before_any_detection(
    g20: Run, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = g20("detect", recording, "--plot", tmp_path / "picture.png")
    refused(done, "--plot needs Matplotlib", "pip install 'hydra-rf[plot]'")
    assert not done.out


def test_match_compares_with_the_annotations(g20: Run, recording: Path) -> None:
    done = g20("detect", recording, "--match")
    assert "1 of 1 annotated signals found, 1 false positives" in done.out
    rows = [line.replace("│", " ").split() for line in done.out.splitlines()]
    assert any(row[:1] == ["alpha"] and row[-3:] == ["yes", "1.00", "0.90"] for row in rows)
    assert "in no annotation" in done.out


def test_threshold_and_signals_choose_what_is_told(g20: Run, recording: Path) -> None:
    def names(*words: str) -> list[str]:
        return [json.loads(line)["signal"] for line in g20("detect", recording, "--json", *words).out.splitlines()]

    assert names("--threshold", "0.8") == ["alpha"]
    assert names("--signals", "beta") == ["beta"]
    assert names("--signals", " beta , alpha ") == ["alpha", "beta"]


# refusals


def test_an_unknown_signal_is_refused_with_those_that_are_known(g20: Run, recording: Path) -> None:
    done = g20("detect", recording, "--signals", "alpha,gamma")
    refused(done, "no signal 'gamma'", "alpha, beta")
    assert not done.out


@pytest.mark.parametrize("signals", ["", " ", ",", " , "])
def test_no_signal_at_all_is_wrong_use(g20: Run, recording: Path, signals: str) -> None:
    done = g20("detect", recording, "--signals", signals)
    assert (done.code, done.out) == (2, "")
    assert "names no signal" in done.err


def test_one_broken_file_does_not_keep_the_others_from_being_told(g20: Run, recording: Path, tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.sigmf-meta", write_recording(tmp_path / "other")
    broken.write_text("{")
    done = g20("detect", recording, broken, tmp_path / "gone.cf32", other, "--json")
    assert done.code == 1
    assert [json.loads(line)["file"] for line in done.out.splitlines()] == [str(recording)] * 2 + [str(other)] * 2
    told = [line for line in done.err.splitlines() if line.startswith("g20: ")]
    assert [name in line for name, line in zip(("broken.sigmf-meta", "gone.cf32"), told, strict=True)] == [True, True]
    assert "Traceback" not in done.err


def test_a_folder_that_is_no_store_is_refused(g20: Run, recording: Path, tmp_path: Path) -> None:
    refused(g20("detect", recording, models=tmp_path / "nothing"), "no backbone here", "g20 extract")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--threshold", "2"), "threshold is 2"),
        (("--threshold", "nan"), "threshold is nan"),
        (("--device", "tpu:0"), "device 'tpu:0' is not available; choose one of auto"),
    ],
)
def test_values_that_cannot_be_used_are_refused(g20: Run, recording: Path, words: tuple[str, ...], told: str) -> None:
    done = g20("detect", recording, *words)
    refused(done, told)
    assert not done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--json", "--sigmf"), "choose one of --json, --csv and --sigmf"),
        (("--json", "--csv"), "choose one of --json, --csv and --sigmf"),
        (("--arbitrate",), "No such option"),
        (("--plot", "no/such/folder/x.png"), "there is no folder"),
        (("other.cf32", "--plot", "x.png"), "draws one recording"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_use_ends_with_2_and_a_hint(g20: Run, recording: Path, words: tuple[str, ...], told: str) -> None:
    done = g20("detect", recording, *words)
    assert (done.code, done.out) == (2, "")
    assert told in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


# the other commands


def test_devices_lists_the_processor(g20: Run) -> None:
    done = g20("devices")
    assert (done.code, done.err) == (0, "")
    assert "cpu" in done.out and "onnxruntime" in done.out and "cores" in done.out


def test_version_and_help(g20: Run) -> None:
    assert g20("--version") == (0, f"g20 {VERSION}\n", "")
    help_text = g20("--help")
    assert help_text.code == 0
    assert all(command in help_text.out for command in ("detect", "extract", "devices"))


def test_extract_without_torch_says_what_to_install(g20: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "export.legacy", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = g20("extract", tmp_path / "old.pth", "--signal", "gamma")
    refused(done, "extract needs torch", "pip install 'hydra-rf[train]'")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--signal", "gamma"), "gone.pth: cannot be read"),
        (("--signal", "../gamma"), "use 1 to 64 of a-z"),
        (("--signal", "gamma", "--anchor-sizes", "1,2"), "anchors have 2 sizes"),
        (("--signal", "gamma", "--anchor-sizes", "inf,1,1,1,1"), "must be numbers"),
        (("--signal", "gamma", "--anchor-ratios", "nan,1,2"), "must be numbers"),
    ],
)
def test_extract_refuses_before_it_writes(g20: Run, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    refused(g20("extract", tmp_path / "gone.pth", *words, models=tmp_path / "models"), told)
    assert not (tmp_path / "models").exists()
