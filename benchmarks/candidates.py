"""Recall of candidate boxes on annotated recordings: regions of the image alone, and regions joined with bursts.

    python -m benchmarks.candidates DIR [--contract wideband] [--limit 512] [--json F]

DIR: a folder of SigMF recordings with annotations, searched at any depth. A burst is recalled where a candidate of any
capture overlaps its annotation by IoU 0.5 (0.7 in the second figure), in the better of the contracts. An annotation
longer than a capture is cut to each capture. No head has judged the candidates, so recall is the
most that heads can reach.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from engine.boxes import corners, iou, to_physical
from engine.bursts import candidates
from engine.contract import CONTRACTS, Contract
from engine.devices.cpu import Cpu
from engine.devices.machine import describe_cpu
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from training.scenes.bursts import NOT_A_SIGNAL

LEAST_RATE_HZ: Final = {"wideband": 0.2e6, "ism": 0.0}  # recordings below are left to the other contract
MOST_RATE_HZ: Final = {"wideband": np.inf, "ism": 6e6}  # and above
WAYS: Final = ("regions", "joined")
LIMITS: Final = (0.5, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--contract", choices=sorted(CONTRACTS), help="only this one")
    parser.add_argument("--limit", type=int, default=512, help="candidates of a capture that count")
    parser.add_argument("--label", action="append", help="only recordings that hold this label")
    parser.add_argument("--json", type=Path, help="write every burst's best overlaps to this file as well")
    options = parser.parse_args()
    chosen = {options.contract: CONTRACTS[options.contract]} if options.contract else CONTRACTS
    found: dict[str, list[np.ndarray]] = defaultdict(list)  # by label: the best IoU of each way
    clocks: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for path in tqdm(sorted(options.recordings.rglob("*.sigmf-meta"))):
        recording = open_recording(path)
        labels = {note.label for note in recording.annotations} - set(NOT_A_SIGNAL)
        if labels and (not options.label or labels & set(options.label)):
            for label, best in _recalled(recording, chosen, options.limit, clocks):
                found[label].append(best)
    Console(width=120).print(_table(found, options.limit), _costs(clocks))
    if options.json:
        options.json.write_text(json.dumps({label: np.array(rows).tolist() for label, rows in found.items()}))


def _recalled(
    recording: Recording, contracts: dict[str, Contract], limit: int, clocks: dict[str, list[tuple[float, ...]]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each annotated burst's label and best overlap float64[2], of regions and of all candidates."""
    notes = [note for note in recording.annotations if note.label not in NOT_A_SIGNAL]
    best = np.zeros((len(notes), len(WAYS)))
    truths = np.array([(n.start_s, n.stop_s, n.low_hz, n.high_hz) for n in notes]) - np.array(
        [0, 0, recording.center_freq_hz or 0.0, recording.center_freq_hz or 0.0]
    )
    for name, contract in contracts.items():
        if LEAST_RATE_HZ[name] <= recording.sample_rate_hz < MOST_RATE_HZ[name]:
            np.maximum(best, _of_contract(recording, truths, contract, limit, clocks[name]), out=best)
    return zip((note.label for note in notes), best, strict=True)


def _of_contract(
    recording: Recording, truths: np.ndarray, contract: Contract, limit: int, clock: list[tuple[float, ...]]
) -> np.ndarray:
    best = np.zeros((len(truths), len(WAYS)))
    cpu = Cpu()
    for capture in recording.captures(contract):
        image = cpu.draw(capture.iq, contract)[0]
        started = time.process_time(), time.perf_counter()
        regions = cpu.regions(image)
        between = time.process_time(), time.perf_counter()
        joined = candidates(capture.iq, regions, contract, parallel_map=cpu.parallel_map)
        ended = time.process_time(), time.perf_counter()
        counts = [int((boxes[:, 2] > 0).sum()) for boxes in (regions, joined)]
        clock.append((*np.subtract(between, started), *np.subtract(ended, between), *counts))
        moved = truths - np.array([capture.start_s, capture.start_s, 0, 0])
        cut = moved[:, 1] - moved[:, 0] > contract.capture_s  # longer than any capture
        moved[cut, :2] = moved[cut, :2].clip(0, capture.valid_s)
        for way, boxes in enumerate((regions, joined)):
            physical = to_physical(boxes[boxes[:, 2] > 0][:limit], contract)
            if len(physical):
                best[:, way] = np.maximum(best[:, way], iou(corners(moved), corners(physical)).max(axis=1))
    return best


def _table(found: dict[str, list[np.ndarray]], limit: int) -> Table:
    table = Table(title=f"recall at IoU {LIMITS[0]:g} / {LIMITS[1]:g}, at most {limit} candidates a capture")
    for heading in ("label", "bursts", *WAYS):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    shares = {label: _shares(np.array(rows)) for label, rows in sorted(found.items())}
    for label, share in shares.items():
        table.add_row(label, str(len(found[label])), *_cells(share))
    every = np.concatenate([np.array(rows) for rows in found.values()])
    table.add_row("all bursts", str(len(every)), *_cells(_shares(every)))
    table.add_row("mean of labels", str(len(shares)), *_cells(np.mean(list(shares.values()), axis=0)))
    return table


def _shares(rows: np.ndarray) -> np.ndarray:
    """float64[limits, ways] of overlaps float64[bursts, ways]."""
    return np.array([(rows >= limit).mean(axis=0) for limit in LIMITS])


def _cells(shares: np.ndarray) -> list[str]:
    return [" / ".join(f"{share:.2f}" for share in way) for way in shares.T]


def _costs(clocks: dict[str, list[tuple[float, ...]]]) -> Table:
    table = Table(title="a capture: median (most)", caption=describe_cpu())
    headings = ("regions, CPU ms", "wall ms", "bursts, CPU ms", "wall ms", "regions", "candidates")
    for heading in ("contract", "captures", *headings):
        table.add_column(heading, justify="left" if heading == "contract" else "right")
    scale = np.array([1e3] * 4 + [1] * 2)
    for name, rows in clocks.items():
        values: Any = np.array(rows) * scale
        middle, most = np.median(values, axis=0), values.max(axis=0)
        cells = [f"{m:.0f} ({x:.0f})" for m, x in zip(middle, most, strict=True)]
        table.add_row(name, str(len(rows)), *cells)
    return table


if __name__ == "__main__":
    main()
