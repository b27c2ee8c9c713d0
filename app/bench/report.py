"""Benchmark report of `g20 bench`: runs, machine, reliability of the timings, and comparison with an earlier report."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine import VERSION
from engine.contract import IMAGE_SIZE
from engine.devices.machine import describe_cpu
from engine.devices.open import open_device
from engine.errors import InputError
from engine.loading import TRUNKS, Loader
from engine.sessions.choice import AUTO, FLOAT32, Choice, chosen, remember
from engine.sessions.open import CPU, installed
from engine.store.registry import Store
from engine.store.release import BackboneRelease

from .timing import SEED, captures, doubts, figures, opened, timed, with_heads

FRAMES_NEEDED: Final = 40  # so that p95 rests on two of them
CHOICE_RUNS: Final = 7
RESAMPLES: Final = 2000
PACKAGES: Final = ("numpy", "scipy", "onnxruntime", "openvino", "cupy-cuda12x", "tensorrt")

Asked = tuple[str, str, str, int]  # device, runtime, precision, threads


@dataclass(frozen=True)
class Verdict:
    text: str
    slower: bool


@dataclass
class BenchReport:
    runs: list[dict[str, Any]]
    machine: dict[str, Any]
    models: dict[str, Any]
    choices: list[dict[str, Any]]  # runtimes timed for `auto`, where that was asked for; `chosen` if trusted
    labels: list[str]  # reasons not to trust the timings
    wrong: bool  # an engine's detections differ from the reference run's

    @classmethod
    def measure(
        cls,
        store: Store,
        counts: Sequence[int],
        frames: int,
        asked: Asked,
        on_frame: Callable[[], None] = lambda: None,
        on_phase: Callable[[str], None] = lambda text: None,
    ) -> "BenchReport":
        """Times the active heads of a store, so many at a time. Raises HydraError where there are none."""
        device, runtime, precision, threads = asked
        place = open_device(device)
        snapshot, release = store.snapshot(), store.release()
        if not snapshot.heads:
            raise InputError(f"{store.path} holds no heads: train one with `g20 train`, or name another with --models")
        labels = list(_busy())
        choices: list[dict[str, Any]] = []
        chosen(runtime, precision, release.backbone_hash, kind=place.kind)  # names refused before anything is timed
        if place.kind == CPU and runtime == AUTO and not snapshot.full and release.has("trunk.onnx"):
            on_phase("trying runtimes")
            choices = _time_runtimes(release, precision, threads)
            runtime = _fastest(choices)["runtime"]
        loader = Loader(release, runtime, threads, precision, place)
        iqs = captures(release.contract)
        runs, wrong = [], False
        for count in counts:
            on_phase(f"{count} heads")
            heads = with_heads(snapshot, count)
            with opened(heads, Loader(release, "onnxruntime", 1, FLOAT32, open_device("tracing"))) as reference:
                golden = {
                    n: reference.detect(iq, sample_rate_hz=release.contract.sample_rate_hz) for n, iq in iqs.items()
                }
            with opened(heads, loader) as engine:
                run = timed(engine, golden, iqs, frames, on_frame)
            runs.append(figures(run, release.contract))
            labels += [f"{count} heads: {doubt}" for doubt in doubts(run, FRAMES_NEEDED)]
            exact = run.ran_on["precision"] == FLOAT32
            wrong = wrong or not run.detections["dense"] or (exact and not run.certificate.passed)
        if choices and not labels:
            _fastest(choices)["chosen"] = True
            remember(Choice(runtime, precision), release.backbone_hash)
        return cls(runs, _machine(), _models(store, release), choices, labels, wrong)

    @property
    def title(self) -> str:
        contract = self.models["contract"]
        return f"{self.models['store']}: captures of {contract['capture_s'] * 1e3:g} ms at " + (
            f"{contract['sample_rate_hz'] / 1e6:g} MS/s, {self.machine['cpu']}"
        )

    def lines(self) -> Iterator[str]:
        """Verdict, memory and reservations, in words."""
        rate = f"{self.models['contract']['sample_rate_hz'] / 1e6:g} MS/s"
        for run in self.runs:
            yield f"{rate} sustained with {run['signals']} heads: {real_time(run)}"
        weights = self.models["weights_bytes"] / 1e6
        yield f"weights of the whole store {weights:.1f} MB, memory of this process {self.machine['memory_mb']:.0f} MB"
        proof = self.runs[-1]["against_plain"]
        yield (
            f"against {proof['reference']}: {proof['matched']} of {proof['detections']} detections matched, "
            f"scores within {proof['max_score_step']:.2g}, boxes within {proof['max_confident_box_step_px']:.2g} px"
        )
        for label in self.labels:
            yield f"not to be trusted: {label}"
        if self.choices:
            yield self._choice()

    def _choice(self) -> str:
        fastest = _fastest(self.choices)
        if self.labels:
            return (
                f"no runtime chosen for `auto`, {fastest['runtime']} was the fastest: a run that is not to be trusted "
                f"chooses nothing; repeat it on a quiet machine with at least {FRAMES_NEEDED} frames"
            )
        return f"`auto` is {fastest['runtime']} on this machine from now on, in {fastest['precision']}"

    def as_json(self, verdicts: Sequence[Verdict] = ()) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "machine": self.machine,
            "models": self.models,
            "choices": self.choices,
            "labels": self.labels,
            "trusted": not self.labels,
            "compared": [verdict.text for verdict in verdicts],
        }

    def against(self, earlier: dict[str, Any]) -> list[Verdict]:
        """Each run against the earlier one of as many heads, by a bootstrap interval of the ratio of medians."""
        before = {run["signals"]: run for run in earlier["runs"]}
        verdicts = []
        if earlier["machine"].get("cpu") != self.machine["cpu"]:
            verdicts.append(Verdict(f"compared with another machine: {earlier['machine'].get('cpu')}", False))
        for run in self.runs:
            if run["signals"] in before:
                verdicts.append(_verdict(run["signals"], before[run["signals"]]["frames_ms"], run["frames_ms"]))
        return verdicts or [Verdict("the earlier report has no run of as many heads", False)]


def _verdict(signals: int, before_ms: Sequence[float], after_ms: Sequence[float]) -> Verdict:
    rng = np.random.default_rng(SEED)
    medians = [
        np.median(rng.choice(np.asarray(walls, float), (RESAMPLES, len(walls))), axis=1)
        for walls in (after_ms, before_ms)
    ]
    low, high = np.percentile(medians[0] / medians[1], (2.5, 97.5))
    ratio = np.median(after_ms) / np.median(before_ms)
    word = "slower" if low > 1 else "faster" if high < 1 else "no difference that can be told"
    return Verdict(f"{signals} heads: {ratio:.3f} of the earlier time ({low:.3f} to {high:.3f}): {word}", bool(low > 1))


def real_time(run: dict[str, Any]) -> str:
    """Verdict on one run: "yes, 1.25x" where detection is as fast as the samples arrive."""
    return f"{'yes' if run['real_time'] >= 1 else 'no'}, {run['real_time']:.2f}x"


def read_report(path: Path) -> dict[str, Any]:
    """An earlier `g20 bench --json`. Raises InputError on anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not all(run["signals"] > 0 and min(run["frames_ms"]) > 0 for run in found["runs"]) or not found["machine"]:
            raise ValueError("no run in it")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--compare {path}: no report of `g20 bench --json` ({error})") from error
    return dict(found)


def _time_runtimes(release: BackboneRelease, precision: str, threads: int) -> list[dict[str, Any]]:
    """Median milliseconds of the trunk in every runtime installed, in one precision."""
    tried: list[dict[str, Any]] = []
    image = np.random.default_rng(SEED).random((1, 1, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for name in installed():
        session = Loader(release, name, threads, precision).trunk()
        walls = []
        for _ in range(CHOICE_RUNS):
            started = time.perf_counter()
            session.run({"image": image})
            walls.append((time.perf_counter() - started) * 1e3)
        session.close()
        tried.append(
            {"runtime": name, "precision": precision, "ms": round(float(np.median(walls[1:])), 2), "chosen": False}
        )
    return tried


def _fastest(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return min(tried, key=lambda choice: choice["ms"])


def _busy() -> Iterator[str]:
    """Warning about other load on this machine, by its load average."""
    waiting = os.getloadavg()[0]
    if waiting > 0.7 * (os.cpu_count() or 1):
        yield f"the load average was {waiting:.1f} before the first frame"


def _machine() -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": describe_cpu(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "hydra": VERSION,
        "packages": versions,
        "memory_mb": _memory_mb(),
        "seed": SEED,
    }


def _memory_mb() -> float:
    """Resident memory of this process."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    return 0.0


def _models(store: Store, release: BackboneRelease) -> dict[str, Any]:
    snapshot = store.snapshot()
    graphs = [name for name in (*TRUNKS.values(), "fuse.onnx", "shared.onnx", "compact.onnx") if release.has(name)]
    heads = sum(array.nbytes for head in snapshot.heads for array in head.weights.values())
    return {
        "store": str(store.path),
        "contract": release.contract.as_json(),
        "backbone_hash": release.backbone_hash,
        "revision": snapshot.revision,
        "versions": snapshot.versions,
        "weights_bytes": sum(release.file(name).stat().st_size for name in graphs) + heads,
    }
