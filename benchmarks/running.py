"""What a running detector feels: how soon a new process has its first detections, what a swap of a head costs, memory.

    python -m benchmarks.running [--models models] [--repeats 5] [--swaps 10] [--json FILE]

- start: from the start of a Python process to the first result, models read and checked from disk
- swap: `Engine.refresh()` after a promotion in a copy of the store, while another thread detects without pause; the
  slowest frame beside swaps against the slowest without
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save

from app.bench.timing import captures
from engine.devices.machine import describe_cpu
from engine.engine import Engine
from engine.store.registry import Store

ROOT = Path(__file__).parents[1]
START = """
import time, sys
import numpy as np
from engine.engine import Engine
iq = np.load(sys.argv[2])
with Engine.open(sys.argv[1]) as engine:
    result = engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(len(result), int(status["VmRSS"].split()[0]), int(status["VmHWM"].split()[0]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = {
        "machine": describe_cpu(),
        **starts(options.models, options.repeats),
        **swaps(options.models, options.swaps),
    }
    table = Table(title=f"{options.models}, {figures['machine']}", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in figures.items():
        if name != "machine":
            table.add_row(name.replace("_", " "), f"{value:,.1f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def starts(models: Path, repeats: int) -> dict[str, float]:
    """Median seconds and megabytes of processes that open the store and detect once."""
    walls, memory = [], []
    with TemporaryDirectory() as folder:
        iq = captures(Store(models).release().contract)["dense"]
        np.save(Path(folder) / "iq.npy", iq)
        for _ in range(repeats + 1):  # the first fills the disk's cache
            started = time.perf_counter()
            command = [sys.executable, "-c", START, str(models.absolute()), f"{folder}/iq.npy"]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            walls.append(time.perf_counter() - started)
            memory.append([int(part) / 1024 for part in done.stdout.split()[1:]])
    now, most = np.median(memory[1:], axis=0)
    return {"first_result_s": float(np.median(walls[1:])), "memory_mb": float(now), "memory_at_most_mb": float(most)}


def swaps(models: Path, count: int) -> dict[str, float]:
    """Milliseconds of `refresh`, and of frames beside it."""
    with TemporaryDirectory() as folder:
        store = Store(shutil.copytree(models, Path(folder) / "models"))
        signal = store.snapshot().heads[0].signal
        second_version(store, signal)
        iq = captures(store.release().contract)["dense"]
        with Engine.open(store.path) as engine:
            engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz)
            with _detecting(engine, iq) as undisturbed:
                time.sleep(4)
            refreshes = []
            with _detecting(engine, iq) as beside:
                for turn in range(count):
                    store.promote(signal, 2 - turn % 2, "to and fro")
                    started = time.perf_counter()
                    changed = engine.refresh()
                    refreshes.append((time.perf_counter() - started) * 1e3)
                    assert changed
                    time.sleep(0.5)
    return {
        "swap_ms_median": float(np.median(refreshes)),
        "swap_ms_most": max(refreshes),
        "frame_ms_median_without_swaps": float(np.median(undisturbed)),
        "frame_ms_most_without_swaps": max(undisturbed),
        "frame_ms_median_beside_swaps": float(np.median(beside)),
        "frame_ms_most_beside_swaps": max(beside),
    }


def second_version(store: Store, signal: str) -> None:
    """The active head once more, as a version of its own."""
    release = store.release()
    head = store.head(signal, release)
    files = {"weights.safetensors": save(dict(head.weights))}
    contract = release.contract.as_json()
    manifest = {"head_type": "compact", "backbone_hash": release.backbone_hash, "contract": contract}
    store.add_head(signal, files, manifest, {})


@contextmanager
def _detecting(engine: Engine, iq: np.ndarray) -> Iterator[list[float]]:
    """A thread that detects for as long as the block lasts, and how long each frame took it, in ms."""
    walls: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            started = time.perf_counter()
            engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz)
            walls.append((time.perf_counter() - started) * 1e3)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield walls
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
