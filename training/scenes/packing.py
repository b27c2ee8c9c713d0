"""Import of rendered scenes as labelled samples, from which the shipped packs are trained.

    python -m training.scenes.packing SCENES DATA --contract wideband --signals wifi_ofdm,lte_tdd \\
        --train 60 --validation 30

Every signal gets positive scenes and half as many negative ones, which do not contain it.
Scenes of the training side become samples for training, those of the validation side, which are made of other
recordings, samples for validation. Of a signal with a single recording there are no such scenes: then the training
side's are split, and the validation is not independent. After that it is `g20 train` as for anybody.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.contract import CONTRACTS, Contract
from engine.errors import InputError
from training.samples.sample import SIDES, Box, Side
from training.samples.store import SampleStore

log = logging.getLogger(__name__)

Scene = tuple[str, np.ndarray, list[Box]]  # name, image uint8[1024, 1024], all labelled boxes


def scenes(folder: Path) -> Iterator[Scene]:
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            boxes = [
                Box.at(row.tolist(), str(label)) for row, label in zip(stored["boxes"], stored["labels"], strict=True)
            ]
            yield path.stem, stored["image"], boxes


def add(
    store: SampleStore,
    folder: Path,
    contract: Contract,
    wanted: Mapping[Side, Mapping[str, int]],
    mixed: Sequence[str] = (),
) -> None:
    """Adds scenes until every signal has as many as `wanted[side][signal]`, and half as many without it, or all are
    used. Samples of `mixed` signals are left to the split."""
    held_out: set[str] = set()  # signals in validation scenes
    for side in reversed(SIDES):
        left = {(signal, True): count for signal, count in wanted[side].items()}  # by presence in the scene
        left |= {(signal, False): count // 2 for signal, count in wanted[side].items()}
        for name, image, boxes in tqdm(list(scenes(folder / side)), desc=f"{folder.name} {side}", unit="scene"):
            if side == "validation":
                held_out |= {box.label for box in boxes}
            labels = {box.label for box in boxes}
            held = held_out - set(mixed)
            for signal in sorted(signal for signal in wanted[side] if left[signal, signal in labels] > 0):
                try:
                    store.add(
                        signal, image, boxes, contract=contract, source_capture=f"{folder.name}-{side}-{name}",
                        created_by="training.scenes.packing", side=side if signal in held else None,
                    )  # fmt: skip
                except InputError as error:  # excerpts of one recording may be equal, to the pixel
                    log.info("scene %s left out: %s", name, error)
                else:
                    left[signal, signal in labels] -= 1


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder that training.render wrote")
    parser.add_argument("data", type=Path, help="where samples are kept")
    parser.add_argument("--contract", choices=sorted(CONTRACTS), required=True)
    parser.add_argument("--signals", required=True, help="separated by commas")
    parser.add_argument("--train", type=int, default=60, help="scenes of each signal")
    parser.add_argument("--validation", type=int, default=30)
    parser.add_argument(
        "--mixed", default="", help="signals whose recordings differ in kind, so that neither side may lack one"
    )
    options = parser.parse_args(arguments)
    signals = options.signals.split(",")
    wanted = {
        side: dict.fromkeys(signals, count)
        for side, count in zip(SIDES, (options.train, options.validation), strict=True)
    }
    add(
        SampleStore(options.data),
        options.scenes / options.contract,
        CONTRACTS[options.contract],
        wanted,
        options.mixed.split(","),
    )


if __name__ == "__main__":
    main()
