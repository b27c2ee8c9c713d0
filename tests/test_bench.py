"""g20 bench: times what it checks, labels what it doubts, and tells by its exit status (faults B01, B02, B03)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.bench import report as bench_report
from app.bench import timing as bench
from app.bench.report import BenchReport, read_report
from app.bench.timing import ChangedError, captures, doubts, percentiles, same, stable, with_heads
from engine.contract import WIDEBAND
from engine.detection import Detection, Result
from engine.engine import Engine
from engine.errors import InputError
from engine.sessions.choice import Choice, chosen
from engine.store.registry import Store

from .scripted import SHORT
from .test_cli import Run, g20
from .toy_store import add_head, toy_store, trunk

__all__ = ["g20"]

FOUND = Detection("a", 0.9, 0.0, 0.1, 0.0, 1e6, 1)
PLAIN = ("cpu", "onnxruntime", "float32", 1)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few frames on a busy machine leave nothing to doubt."""
    monkeypatch.setattr(bench_report, "doubts", lambda run, frames_needed: ())
    monkeypatch.setattr(bench_report, "_busy", lambda: ())


@pytest.fixture
def toys(tmp_path: Path) -> Store:
    """Heads that find what is bright or faint in the made captures."""
    store = toy_store(tmp_path / "models")
    for signal, level in (("bright", 200), ("faint", 130)):
        add_head(store, signal, level)
    return store


def test_the_made_captures_are_the_same_every_time_and_differ() -> None:
    first, second = captures(SHORT), captures(SHORT)
    assert all(np.array_equal(first[name], second[name]) for name in ("dense", "sparse", "empty"))
    power = {name: float(np.mean(np.abs(iq) ** 2)) for name, iq in captures(WIDEBAND).items()}
    assert power["dense"] > 2 * power["sparse"] > 2.2 * power["empty"]


def test_heads_are_left_out_or_taken_again_under_other_names(toys: Store) -> None:
    snapshot = toys.snapshot()
    assert [h.signal for h in with_heads(snapshot, 1).heads] == ["bright"]
    assert [h.signal for h in with_heads(snapshot, 5).heads] == ["bright", "faint", "bright_2", "faint_2", "bright_3"]


def test_b02_every_stage_of_every_capture_is_timed_and_its_result_is_that_of_the_plain_way(toys: Store) -> None:
    report = BenchReport.measure(toys, [1, 3], 4, PLAIN)
    assert [run["signals"] for run in report.runs] == [1, 3]
    for run in report.runs:
        assert run["frames"] == len(run["frames_ms"]) == 4
        assert set(run["detections"]) == {"dense", "sparse", "empty"}
        assert {"upload", "front_end", "backbone", "regions", "shared", "heads", "detections"} <= set(run["stages_ms"])
        inside = sum(stage["p50"] for stage in run["stages_ms"].values())
        assert 0 < inside <= run["total_ms"]["max"] * 1.01
        assert run["total_ms"]["p50"] <= run["total_ms"]["p95"] <= run["total_ms"]["max"]


def test_b02_a_result_that_changes_while_it_is_timed_is_an_error_and_no_figure(
    toys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "same", lambda first, second: False)
    with pytest.raises(ChangedError, match=r"capture gave \d+ detections while timed, \d+ before"):
        BenchReport.measure(toys, [1], 2, PLAIN)


def test_results_are_the_same_when_detections_and_scores_are() -> None:
    assert same(Result((FOUND,)), Result((replace(FOUND, score=0.9 + 1e-6),)))
    assert not same(Result((FOUND,)), Result(()))
    assert not same(Result((FOUND,)), Result((replace(FOUND, score=0.8),)))
    assert not same(Result((FOUND,)), Result((replace(FOUND, signal="b"),)))


def test_b01_warm_is_when_two_windows_take_the_same() -> None:
    assert not stable([10.0] * 11)
    assert stable([50.0] * 3 + [10.0] * 12)
    assert not stable([20.0] * 6 + [10.0] * 6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"total_ms": [10.0] * 5}, "5 frames, 40 are needed"),
        ({"is_warm": False}, "not warm after 60 frames"),
        ({"total_ms": [10.0] * 40 + [40.0] * 8}, "something else runs"),
        ({"detections": {"dense": 0}}, "nothing was found in the dense capture"),
    ],
)
def test_b01_runs_that_cannot_be_trusted_are_labelled(changes: dict[str, Any], said: str) -> None:
    good = bench.Frames(
        12, [10.0] * 50, {}, {}, 60, True, bench.compared(SHORT, *[{"dense": Result((FOUND,))}] * 2), {"dense": 3}
    )
    assert not list(doubts(good, 40))
    assert any(said in doubt for doubt in doubts(replace(good, **changes), 40))


def test_b01_a_busy_machine_is_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_report.os, "getloadavg", lambda: (99.0, 0, 0))
    assert list(bench_report._busy()) == ["the load average was 99.0 before the first frame"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_after_any_bench_choice_the_engine_runs_that_runtime_in_float32(tmp_path: Path, precision: str) -> None:
    store = toy_store(tmp_path / "models", {"trunk.int8.onnx": trunk()})
    add_head(store, "bright", 200)
    report = BenchReport.measure(store, [1], 2, ("cpu", "auto", precision, 1))
    (taken,) = [choice for choice in report.choices if choice["chosen"]]
    assert {choice["precision"] for choice in report.choices} == {precision}
    assert f"`auto` is {taken['runtime']} on this machine from now on, in {precision}" in list(report.lines())
    assert chosen("auto", precision, store.release().backbone_hash) == Choice(taken["runtime"], precision)
    with Engine.open(store.path) as engine:
        assert engine.ran_on["precision"] == "float32"


def test_a_run_that_is_not_to_be_trusted_chooses_nothing_and_says_so(
    toys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Choice] = []
    monkeypatch.setattr(bench_report, "remember", lambda choice, backbone_hash: taken.append(choice))
    report = BenchReport.measure(toys, [1], 2, ("cpu", "auto", "float32", 1))
    assert taken == [] and len(report.choices) > 1
    assert not any(choice["chosen"] for choice in report.choices)
    assert any("no runtime chosen for `auto`" in line and "at least 40 frames" in line for line in report.lines())


@pytest.mark.usefixtures("trusted")
def test_a_runtime_that_was_named_leaves_no_choice(toys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_report, "remember", lambda choice, backbone_hash: pytest.fail("remembered"))
    assert BenchReport.measure(toys, [1], 1, PLAIN).choices == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HYDRA_DEVICE", "abacus", "'abacus' is not available"),
        ("HYDRA_RUNTIME", "tpu", "runtime 'tpu' is not known"),
        ("HYDRA_PRECISION", "int4", "precision 'int4' is not known on cpu"),
    ],
)
def test_the_environment_gives_the_defaults_of_options(
    g20: Run, toys: Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    done = g20("bench", "--signals", "1", "--frames", "1", models=toys.path)
    assert done.code == 1 and said in done.err


def test_b03_the_command_writes_json_with_machine_versions_hashes_and_seed(g20: Run, toys: Store) -> None:
    done = g20("bench", "--signals", "2", "--frames", "2", "--json", models=toys.path)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    (run,) = report["runs"]
    assert set(run["total_ms"]) == {"p50", "p90", "p95", "p99", "max"}
    assert run["ran_on"] == {"device": "cpu", "runtime": run["ran_on"]["runtime"], "precision": "float32"}
    assert {"cpu", "python", "hydra", "packages", "seed", "memory_mb"} <= set(report["machine"])
    assert report["models"]["backbone_hash"] == "cd" * 32
    assert report["models"]["versions"] == {"bright": 1, "faint": 1}
    assert not report["trusted"] and any("2 frames" in label for label in report["labels"])


def test_b03_a_missed_budget_is_an_exit_status(g20: Run, toys: Store) -> None:
    words = ("bench", "--signals", "1", "--frames", "1")
    assert g20(*words, "--budget-ms", "1e6", models=toys.path).code == 0
    done = g20(*words, "--budget-ms", "0.001", models=toys.path)
    assert done.code == 1
    assert "budget missed: p95 with 1 heads" in done.err


def test_b03_reports_are_compared_by_interval_and_not_by_chance(toys: Store) -> None:
    report = BenchReport.measure(toys, [1], 1, PLAIN)
    rng = np.random.default_rng(0)
    (run,) = report.runs
    run["frames_ms"] = list(rng.normal(100, 5, 60))

    def earlier(mean: float) -> dict[str, Any]:
        return {"machine": report.machine, "runs": [{**run, "frames_ms": list(rng.normal(mean, 5, 60))}]}

    told = {mean: report.against(earlier(mean))[0] for mean in (80, 100.5, 130)}
    assert [told[mean].slower for mean in (80, 100.5, 130)] == [True, False, False]
    assert "no difference" in told[100.5].text and "faster" in told[130].text
    other = report.against({**earlier(100), "machine": {"cpu": "another"}})
    assert "another machine: another" in other[0].text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{}], "machine": {}}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(InputError, match=r"--compare .*old.json: no report of `g20 bench --json`"):
        read_report(tmp_path / "old.json")


@pytest.mark.parametrize("signals", ["", "0", "a,b", "1,-3", "5000"])
def test_numbers_of_heads_that_cannot_be_are_refused(g20: Run, toys: Store, signals: str) -> None:
    done = g20("bench", "--signals", signals, models=toys.path)
    assert done.code == 2
    assert "--signals" in done.err


def test_percentiles_are_in_order() -> None:
    found = percentiles([float(ms) for ms in range(1, 101)])
    assert found == {"p50": 50.5, "p90": 90.1, "p95": 95.05, "p99": 99.01, "max": 100.0}
