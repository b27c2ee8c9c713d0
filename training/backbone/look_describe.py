"""Describing of captures by the engine's own functions, in several processes, with a cache."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.bursts import fine_power, settings_for
from engine.loading import Loader
from engine.regions import regions
from engine.second_look import candidates, profiles_of, search
from engine.second_look.geometry import PROFILE_VALUES
from engine.sessions.base import Session
from engine.spectrogram import serial_map, spectrogram
from engine.store.registry import Store
from engine.zoom import stft, zoom

from .look_data import (
    LOOKED,
    SEEN,
    Looked,
    Seen,
    Source,
    numbered,
    read_looked,
    read_source,
    write_arrays,
)
from .look_sources import Labelled, Origin

MOST_16_BIT: Final = 6e4


def seen(capture: Labelled, trunk: Session, shared: Session) -> Seen:
    """All candidates of a capture."""
    image = np.asarray(spectrogram(capture.iq, capture.contract), np.float32)
    pixels, from_picture, fine = search(capture.iq, regions(image), capture.contract, serial_map)
    fed = {"image": image[None, None]}
    told = shared.run({"regions": pixels, **fed, **trunk.run(fed)})
    found = candidates(pixels, from_picture, told["proposals"], told["vectors"], fine, capture.contract)
    labels = np.array(capture.labels, "U24")
    return Seen(
        found.boxes,
        found.vectors.astype(np.float16),
        found.values,
        capture.truths,
        labels,
        np.array(capture.valid_s),
    )


def looked(capture: Labelled, boxes: np.ndarray, chosen: np.ndarray) -> Looked:
    """Zoom values and profiles of the chosen of boxes float64[K, 4]."""
    contract, boxes = capture.contract, boxes[chosen]
    fine = fine_power(capture.iq, contract.sample_rate_hz, settings_for(contract), serial_map)
    zoomed = zoom(stft(capture.iq, contract), boxes, contract)
    profiles = profiles_of(fine, boxes, serial_map) if len(boxes) else np.zeros((0, PROFILE_VALUES), np.float32)
    return Looked(chosen, *(x.clip(-MOST_16_BIT, MOST_16_BIT).astype(np.float16) for x in (zoomed, profiles)))


def describe_all(origins: Sequence[Origin], models: Path, cache: Path, jobs: int) -> list[Source]:
    """All sources, from the cache where they are there; those without a capture are left out."""
    work = [(_describe, (origin, models, cache / "seen" / f"{origin.name}.npz")) for origin in origins]
    found = zip(origins, _spread(work, jobs), strict=True)
    return [replace(source, complete=origin.complete) for origin, source in found if source and source.captures]


def look_all(
    origins: Sequence[Origin],
    sources: Mapping[str, Source],
    chosen: Mapping[str, list[np.ndarray]],
    cache: Path,
    jobs: int,
) -> dict[str, tuple[Looked, ...]]:
    """Chosen candidates (int64[S] for each capture, by source) described from the IQ, likewise."""
    work = []
    for origin in origins:
        if origin.name in sources:
            boxes = [each.boxes for each in sources[origin.name].captures]
            path = cache / "looked" / f"{origin.name}.npz"
            work.append((_look, (origin, boxes, chosen[origin.name], path)))
    return dict(_spread(work, jobs))


def _describe(origin: Origin, models: Path, path: Path) -> Source | None:
    known = read_source(path)
    if known is None:
        found = [seen(capture, *_sessions(models)) for capture in origin.captures()]
        write_arrays(path, {"kind": origin.kind, "contract": origin.contract, **numbered(found, SEEN)})
        known = read_source(path)
    return known


def _look(
    origin: Origin, boxes: list[np.ndarray], chosen: list[np.ndarray], path: Path
) -> tuple[str, tuple[Looked, ...]]:
    known = read_looked(path)
    wanted = [len(np.setdiff1d(want, have.chosen)) for want, have in zip(chosen, known or (), strict=False)]
    if known is None or len(known) != len(chosen) or any(wanted):
        found = [looked(*each) for each in zip(origin.captures(), boxes, chosen, strict=True)]
        write_arrays(path, numbered(found, LOOKED))
        known = tuple(found)
    return origin.name, known


@lru_cache(maxsize=1)
def _sessions(models: Path) -> tuple[Session, Session]:
    loader = Loader(Store(models).release(), "onnxruntime", 1, "float32")
    return loader.trunk(), loader.shared()


def _spread(work: list[Any], jobs: int) -> Iterator[Any]:
    """Results of (function, arguments), in order."""
    from tqdm import tqdm  # comes with the train extra

    if jobs < 2:
        for function, arguments in tqdm(work, unit="source"):
            yield function(*arguments)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in work]
        for future in tqdm(futures, unit="source"):
            yield future.result()
