"""How well a detector trained by `training.detector` finds the signals of rendered validation scenes.

    python -m benchmarks.detector SCENES RUN [--limit 40]

This judges the many-class detector whose backbone is to be frozen, in torch; what is shipped is judged as it
runs, by `benchmarks.quality`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from engine.anchors import THIN
from engine.contract import INPUT_SIZE
from network.detector import detector, freeze_norms
from training.crops import SHAPES, to_side
from training.metrics import Judged, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="scenes of each contract")
    options = parser.parse_args()
    classes = json.loads((options.run / "classes.json").read_text())
    model = detector(len(classes) + 1, THIN, _skip_resize=True)
    saved = torch.load(options.run / "last.pt", weights_only=True)
    model.load_state_dict(freeze_norms(saved["model"]))
    model = model.eval().to(memory_format=torch.channels_last)
    table = Table(title=f"{options.run.name}, step {saved['step']}: validation scenes")
    for heading in ("contract", "signal", "truths", "precision", "recall", "F1", "AP"):
        table.add_column(heading, justify="left" if heading in ("contract", "signal") else "right")
    for contract in SHAPES:
        judged: dict[str, list[Judged]] = {name: [] for name in classes}
        any_class: list[Judged] = []
        paths = sorted((options.scenes / contract / "validation").glob("[0-9]*.npz"))[: options.limit]
        for path in tqdm(paths, desc=contract):
            with np.load(path, allow_pickle=False) as stored:
                image, boxes, labels = stored["image"], stored["boxes"], stored["labels"]
            boxes = boxes * (INPUT_SIZE / image.shape[0])
            with torch.inference_mode():
                found = model([to_side(image, INPUT_SIZE).expand(3, -1, -1)])[0]
            where, what, scores = (found[key].numpy() for key in ("boxes", "labels", "scores"))
            for index, name in enumerate(classes, start=1):
                judged[name].append(Judged(boxes[labels == name], where[what == index], scores[what == index]))
            any_class.append(Judged(boxes, where, scores))
        for name, images in [*judged.items(), ("(any, label ignored)", any_class)]:
            result = score(images)
            if result.truths:
                shares = (result.precision, result.recall, result.f1, result.average_precision)
                table.add_row(contract, name, str(result.truths), *(f"{share:.2f}" for share in shares))
    Console().print(table)


if __name__ == "__main__":
    main()
