"""How many labelled signals the regions of an image hold, before any head has looked: the most that heads can find.

    python -m benchmarks.proposals SCENES --contract wideband [--models models] [--limit 40]

SCENES: a folder that training.render wrote; its validation side is used. With --models the boxes are also given as the
shared layers refine them. Recall at IoU 0.5, of all truths and of those of 10 dB and more.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from engine.boxes import iou
from engine.contract import CONTRACTS
from engine.devices.machine import describe_cpu
from engine.regions import regions
from engine.spectrogram import as_grey
from engine.store.registry import Store
from training.head.features import Describer

MIN_IOU = 0.5
STRONG_DB = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--contract", choices=sorted(CONTRACTS), default="wideband")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    options = parser.parse_args()
    describer = Describer(Store(options.models).release()) if options.models else None
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)  # SNR, best IoU found, best IoU refined
    seconds = []
    for path in tqdm(sorted((options.scenes / options.contract / "validation").glob("[0-9]*.npz"))[: options.limit]):
        with np.load(path, allow_pickle=False) as stored:
            image, boxes, labels, snr_db = (stored[name] for name in ("image", "boxes", "labels", "snr_db"))
        started = time.perf_counter()
        found = regions(as_grey(image))
        seconds.append(time.perf_counter() - started)
        refined = describer.describe(image).proposals if describer else found
        if len(boxes):
            best = [iou(boxes, candidates).max(axis=1) for candidates in (found, refined)]
            for label, *row in zip(labels.tolist(), snr_db.tolist(), *best, strict=True):
                rows[label].append(tuple(row))
    table = Table(title=f"{options.contract}: recall of regions at IoU {MIN_IOU:g}")
    for heading in ("label", "truths", "found", "refined", "found, 10 dB up", "refined, 10 dB up"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for label, found_rows in [*sorted(rows.items()), ("all", [row for part in rows.values() for row in part])]:
        values = np.array(found_rows)
        strong = values[~(values[:, 0] < STRONG_DB)]  # those of unknown level are recordings as they are
        shares = [_share(values[:, 1]), _share(values[:, 2]), _share(strong[:, 1]), _share(strong[:, 2])]
        table.add_row(label, str(len(values)), *shares)
    table.caption = f"{describe_cpu()}; regions take {np.median(seconds) * 1e3:.0f} ms a capture"
    Console().print(table)


def _share(overlaps: np.ndarray) -> str:
    return f"{(overlaps >= MIN_IOU).mean():.2f}" if len(overlaps) else "-"


if __name__ == "__main__":
    main()
