"""Training of the second look: fits, the metric of types, and typed heads, from labelled recordings.

    python -m training.backbone.second_look RECORDINGS MODELS --contract ism --out OUT [--evaluate]

Writes OUT/look.safetensors, OUT/heads/<label>.safetensors and OUT/report.json. Scores are those of recordings that took
no part in the training of what judged them; only the final files are trained on everything.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save

from engine.contract import CONTRACTS
from engine.errors import InputError
from engine.second_look.settings import LookSettings
from engine.store.registry import Store
from engine.typed import log_product

from .look_describe import describe_all, look_all
from .look_operating import SLOPE, Rates, operating
from .look_report import Tally, detect, summary, tallies, text
from .look_sources import origins
from .look_table import Table, folds, worth_a_look
from .look_training import Fitted, first_logits, fitted, held_out_types, of_contract, train_metric
from .look_types import UNASKED, classes

FOLDS: Final = 6
NOISES: Final = 40
LEAST_RECORDINGS: Final = 2  # of a label, for a head
ORACLE: Final = (-2.0, -1.5, -1.0, -0.5, 0.0)  # thresholds of the fit's logit, tried with perfect types


def prepare(recordings: Path, models: Path, cache: Path, scenes: int, incomplete: frozenset[str], jobs: int) -> Fitted:
    """Captures described, and fits trained on both contracts. Raises InputError where there is no recording."""
    settings = LookSettings()
    found = origins(recordings, NOISES, scenes, incomplete)
    if all(origin.path is None for origin in found):
        raise InputError(f"{recordings}: no .sigmf-meta below it; name a folder of labelled SigMF recordings")
    cache = cache / Store(models).release().backbone_hash[:16]
    sources = describe_all(found, models, cache, jobs)
    fold = folds(sources, FOLDS)
    first, fit = first_logits(sources, fold, settings)
    chosen = {
        source.name: [
            worth_a_look(seen, each, settings.places, settings.choose_iou, number)
            for number, (seen, each) in enumerate(zip(source.captures, logits, strict=True))
        ]
        for source, logits in zip(sources, first, strict=True)
    }
    looked = look_all(found, {source.name: source for source in sources}, chosen, cache, jobs)
    return fitted(sources, looked, first, fit, fold)


def labels_of(rows: Table) -> list[str]:
    """Labels of recordings, sorted."""
    return sorted({label for source in rows.sources for label in source.labels})


def with_heads(rows: Table) -> list[str]:
    """Labels of enough recordings for a head."""
    count = {label: sum(label in source.labels for source in rows.sources) for label in labels_of(rows)}
    return [label for label, recordings in count.items() if recordings >= LEAST_RECORDINGS]


def held_out_scores(found: Fitted, types: np.ndarray, labels: Sequence[str], rates: Rates | None = None) -> np.ndarray:
    """float64[L, N]: log scores less thresholds; those of a fold's rows come from the rows of all others."""
    over = np.zeros(types.shape)
    for held_out in np.unique(found.fold):
        mine, counted = found.fold == held_out, found.described & (found.fold != held_out)
        for number, label in enumerate(labels):
            point = operating(label, types[number], found.second, found.rows, counted, rates).astype(np.float64)
            product = log_product(types[number, mine], point[0], point[1], found.second[mine])
            over[number, mine] = product - point[2]
    return over


def oracle(found: Fitted, labels: Sequence[str]) -> tuple[float, dict[str, Tally]]:
    """Scores if types were perfect: the best of a few thresholds of the fit, and what comes of it."""
    rows = found.rows
    own = np.stack([(rows.owner == label) & (rows.overlap > 0.05) for label in labels])
    best: tuple[float, dict[str, Tally]] = (-1.0, {})
    for least in ORACLE:
        over = np.where(own, found.second - least, -np.inf)
        tally = tallies(detect(over, rows, found.described, LookSettings()), rows, labels)
        best = max(best, (float(np.mean([each.f1 for each in tally.values()])), tally), key=lambda pair: pair[0])
    return best


def evaluate(found: Fitted, types: np.ndarray, labels: Sequence[str]) -> dict[str, Tally]:
    """Held-out scores of each label."""
    over = held_out_scores(found, types, labels)
    return tallies(detect(over, found.rows, found.described, LookSettings()), found.rows, labels)


def write(
    out: Path, found: Fitted, types: np.ndarray, labels: Sequence[str], tally: Mapping[str, Tally], name: str
) -> None:
    """Metric and types trained on everything, and all files. types: held out, for the operating points."""
    names = classes(found.rows)
    every = labels_of(found.rows)
    model, weight = train_metric(found.rows, names, names != UNASKED, every, CONTRACTS[name].hash)
    (out / "heads").mkdir(parents=True, exist_ok=True)
    (out / "look.safetensors").write_bytes(replace(model, fits=found.fits).as_bytes())
    for number, label in enumerate(labels):
        point = operating(label, types[number], found.second, found.rows, found.described)
        head = {"weight": weight[every.index(label)], "operating": point}
        (out / "heads" / f"{label}.safetensors").write_bytes(save(head))
    report = {
        "contract": name,
        "slope": SLOPE,
        "recordings": [source.name for source in found.rows.sources if source.kind == "recording"],
        "labels": {label: each.as_json() for label, each in tally.items()},
        "summary": summary(dict(tally)),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of labelled SigMF recordings")
    parser.add_argument("models", type=Path, help="store whose backbone describes them")
    parser.add_argument("--contract", choices=sorted(CONTRACTS), required=True, help="of the metric and the heads")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=120, help="generated scenes, for the fits alone")
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder of captures as described, to empty when their description changes (default: OUT/cache)",
    )
    parser.add_argument("--incomplete", type=Path, help="file of recordings' names in which not every signal has a box")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help="print scores by label, and those of perfect types")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.jobs)
    incomplete = frozenset(options.incomplete.read_text().split()) if options.incomplete else frozenset()
    cache = options.cache or options.out / "cache"
    whole = prepare(options.recordings, options.models, cache, options.scenes, incomplete, options.jobs)
    found = of_contract(whole, options.contract)
    every, labels = labels_of(found.rows), with_heads(found.rows)
    if not labels:
        raise InputError(
            f"{options.recordings}: no label of {options.contract} has {LEAST_RECORDINGS} recordings; add some"
        )
    held_out = held_out_types(found, classes(found.rows), every, CONTRACTS[options.contract].hash)
    types = held_out[[every.index(label) for label in labels]]
    tally = evaluate(found, types, labels)
    write(options.out, found, types, labels, tally, options.contract)
    if options.evaluate:
        print(text(tally, f"{options.contract}, held out by recording"))  # noqa: T201
        print(text(oracle(found, labels)[1], "perfect types"))  # noqa: T201


if __name__ == "__main__":
    main()
