"""Milliseconds that candidates and the zoom take on one capture, by stage, on the CPU.

    python -m benchmarks.zoom RECORDING [--contract wideband] [--boxes 32] [--runs 5]

CPU time counts all cores, wall time is what a caller waits for. The zoom describes the first boxes of the candidates.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.boxes import to_physical
from engine.bursts import candidates
from engine.contract import CONTRACTS
from engine.devices.cpu import Cpu
from engine.devices.machine import describe_cpu
from engine.recordings.open import open_recording
from engine.zoom import stft, zoom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--contract", choices=sorted(CONTRACTS), default="wideband")
    parser.add_argument("--boxes", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    contract, cpu = CONTRACTS[options.contract], Cpu()
    iq = next(iter(open_recording(options.recording).captures(contract))).iq
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timed(stage: str, step: Callable[[], Any]) -> Any:
        started = time.process_time(), time.perf_counter()
        found = step()
        spent[stage].append((time.process_time() - started[0], time.perf_counter() - started[1]))
        return found

    for _ in range(options.runs + 1):  # the first warms up
        image = timed("render", lambda: cpu.draw(iq, contract))[0]
        regions = timed("regions", lambda image=image: cpu.regions(image))
        found = timed("bursts", lambda regions=regions: candidates(iq, regions, contract, cpu.parallel_map))
        boxes = to_physical(found[found[:, 2] > 0][: options.boxes], contract)
        spectrum = timed("stft", lambda: stft(iq, contract, parallel_map=cpu.parallel_map))
        timed("zoom", lambda s=spectrum, b=boxes: zoom(s, b, contract, parallel_map=cpu.parallel_map))
    table = Table(title=f"{options.recording.name}: {len(boxes)} boxes", caption=describe_cpu())
    for heading in ("stage", "CPU ms", "wall ms"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, runs in spent.items():
        table.add_row(stage, *(f"{value * 1e3:.0f}" for value in np.median(runs[1:], axis=0)))
    Console().print(table)


if __name__ == "__main__":
    main()
