"""Scenes rendered to labelled images on disk, so that training reads instead of composing.

    python -m training.scenes.render OUT --recordings DIR --generated DIR --contract wideband --count 400

One .npz a scene: image uint8[1024, 1024]; boxes float32[N, 4] in pixels; labels; snr_db (NaN where unknown).
"""

import argparse
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.boxes import physical, to_pixels
from engine.contract import CONTRACTS, Contract
from engine.errors import HydraError
from engine.recordings.open import open_recording
from engine.spectrogram import spectrogram
from training.samples.sample import SIDES

from .bursts import NOT_A_SIGNAL, Burst, cut_bursts, load_burst, split_recordings
from .compose import Scene, SceneSettings, compose, native

log = logging.getLogger(__name__)

NATIVE_SHARE = 0.25  # of scenes that are excerpts of one recording
WIDTHS_HZ = {"wideband": (0.3e6, 19e6), "ism": (2e3, 0.5e6)}  # of a recording's widest signal
GENERATED_VALIDATION = 5  # every fifth generated burst is for validation only


@dataclass(frozen=True)
class Sources:
    """Bursts and recordings that scenes of one contract and side are made of."""

    bursts: tuple[Burst, ...]
    recordings: tuple[Path, ...]


@lru_cache(maxsize=1)
def sources(
    recordings: Path, generated: Path | None, contract_name: str, side: str, without: tuple[str, ...] = ()
) -> Sources:
    """Bursts and whole recordings of one side, less those of the labels `without`. A recording with foreign
    signals in it is not used whole."""
    contract = CONTRACTS[contract_name]
    paths = split_recordings(sorted(recordings.glob("*/*.sigmf-meta")))[SIDES.index(side)]
    bursts: list[Burst] = []
    whole: list[Path] = []
    for path in paths:
        labels = {note.label for note in open_recording(path).annotations}
        if fits(path, contract_name) and not labels & set(without):
            bursts += cut_bursts(path, contract)
            if not labels & {"other"}:
                whole.append(path)
    files = sorted((generated / contract_name).glob("*/*.npz")) if generated else []
    held_out = side == "validation"
    bursts += [load_burst(path) for path in files if (int(path.stem) % GENERATED_VALIDATION == 0) == held_out]
    return Sources(tuple(burst for burst in bursts if burst.label not in without), tuple(whole))


def fits(path: Path, contract_name: str) -> bool:
    """True where the bandwidth of a recording's widest signal suits the contract: a few pixels, and inside the band."""
    recording = open_recording(path)
    widths_hz = [note.high_hz - note.low_hz for note in recording.annotations if note.label not in NOT_A_SIGNAL]
    narrowest_hz, widest_hz = WIDTHS_HZ[contract_name]
    if not widths_hz:
        return recording.sample_rate_hz >= CONTRACTS[contract_name].sample_rate_hz / 4
    return narrowest_hz <= max(widths_hz) <= widest_hz


def make_scene(sources: Sources, contract: Contract, seed: int, settings: SceneSettings) -> Scene:
    rng = np.random.default_rng([seed, 1])
    if sources.recordings and rng.random() < NATIVE_SHARE:
        return native(contract, sources.recordings[rng.integers(len(sources.recordings))], seed)
    return compose(contract, sources.bursts, seed, settings)


def to_sample(scene: Scene, contract: Contract) -> dict[str, np.ndarray]:
    """The arrays of one .npz; boxes are clipped to the image."""
    image = spectrogram(scene.iq, contract)
    boxes = to_pixels(physical(scene.truths), contract).clip(0, contract.image_size)
    return {
        "image": np.round(image * 255).astype(np.uint8),
        "boxes": boxes.astype(np.float32),
        "labels": np.array([t.label for t in scene.truths], dtype=np.str_),
        "snr_db": np.array([np.nan if t.snr_db is None else t.snr_db for t in scene.truths], dtype=np.float32),
    }


def render(
    seed: int,
    out: Path,
    recordings: Path,
    generated: Path | None,
    contract_name: str,
    side: str,
    favour: str | None,
    without: tuple[str, ...] = (),
) -> None:
    """One scene to `out`/`seed`.npz, unless it is there already."""
    target = out / f"{seed:06d}.npz"
    if target.exists():
        return
    contract = CONTRACTS[contract_name]
    try:
        scene = make_scene(
            sources(recordings, generated, contract_name, side, without),
            contract,
            seed,
            SceneSettings(favour=favour),
        )
    except HydraError:
        log.exception("scene %d", seed)
        return
    partial_file = target.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez_compressed(partial_file, allow_pickle=False, **to_sample(scene, contract))
    partial_file.replace(target)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recordings", type=Path, required=True, help="folder of SigMF recordings with annotations")
    parser.add_argument("--generated", type=Path, help="folder that training.generated wrote")
    parser.add_argument("--contract", choices=sorted(CONTRACTS), default="wideband")
    parser.add_argument("--side", choices=SIDES, default="train")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--favour", help="a label that every third burst has")
    parser.add_argument("--without", action="append", default=[], metavar="LABEL", help="leave this label out")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    out = options.out / options.contract / options.side
    out.mkdir(parents=True, exist_ok=True)
    one = partial(
        render,
        out=out,
        recordings=options.recordings,
        generated=options.generated,
        contract_name=options.contract,
        side=options.side,
        favour=options.favour,
        without=tuple(options.without),
    )
    sources(
        options.recordings, options.generated, options.contract, options.side, tuple(options.without)
    )  # loaded once, shared by fork
    seeds = range(options.seed, options.seed + options.count)
    with ProcessPoolExecutor(options.processes) as pool:
        for _ in tqdm(pool.map(one, seeds), total=len(seeds), unit="scene"):
            pass


if __name__ == "__main__":
    main()
