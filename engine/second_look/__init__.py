"""Second look: of the candidate boxes of a capture, which are whole signals (fit), and of which type each one is.

Candidates are the picture's regions and the bursts of the IQ's envelope. The best of them by a first fit are cut out of
the IQ and described; fit and type are then told from picture and IQ together.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from engine.boxes import corners, nms, to_physical
from engine.bursts import fine_power, merged_candidates, settings_for
from engine.bursts.envelope import FinePower
from engine.contract import Contract
from engine.describing import Stage, describe_boxes
from engine.sessions.base import Arrays, Session
from engine.spectrogram import ParallelMap
from engine.zoom import stft, zoom

from .geometry import PROFILE_VALUES, box_values, profile
from .model import LookModel


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes of one capture that may hold a signal, best first."""

    boxes: np.ndarray  # float64[K, 4] start_s, stop_s, low_hz, high_hz; regions are refined
    vectors: np.ndarray  # float32[K, VECTOR] of the shared layers
    from_picture: np.ndarray  # bool[K]
    values: np.ndarray  # float32[K, BOX_VALUES]
    fine: FinePower


@dataclass(frozen=True, eq=False)
class SecondLook:
    """Candidates of a capture described from picture and IQ."""

    boxes: np.ndarray  # float64[S, 4]
    embedded: np.ndarray  # float32[S, EMBEDDED] in the common metric of types
    fit: np.ndarray  # float32[S], logit: IoU of 0.5 and more with whatever is in the box


def look(
    iq: np.ndarray,
    image: np.ndarray,
    regions: np.ndarray,
    features: Arrays,
    sessions: tuple[Session, Session | None],
    contract: Contract,
    model: LookModel,
    parallel: ParallelMap,
    stage: Stage = nullcontext,
) -> SecondLook:
    """The best candidates of a capture complex64[n], described. image, regions: of that capture; features: outputs of
    the backbone; sessions: the shared layers and, where the features are p2..p6, what fuses them."""
    with stage("candidates"):
        pixels, from_picture, fine = search(iq, regions, contract, parallel)
    with stage("shared"):
        described = describe_boxes(image, pixels, features, *sessions)
    with stage("second_look"):
        found = candidates(pixels, from_picture, described.proposals, described.vectors, fine, contract)
        return describe(iq, found, contract, model, parallel)


def search(
    iq: np.ndarray, regions: np.ndarray, contract: Contract, parallel: ParallelMap
) -> tuple[np.ndarray, np.ndarray, FinePower]:
    """Candidate boxes float32[PROPOSALS, 4] in pixels, zeros at the end; which of them are regions, bool[PROPOSALS];
    and the capture's fine spectrogram."""
    fine = fine_power(iq, contract.sample_rate_hz, settings_for(contract), parallel)
    boxes, from_picture = merged_candidates(fine, regions, contract)
    return boxes, from_picture, fine


def candidates(
    pixels: np.ndarray,
    from_picture: np.ndarray,
    proposals: np.ndarray,
    vectors: np.ndarray,
    fine: FinePower,
    contract: Contract,
) -> Candidates:
    """What the shared layers say of `search`'s boxes: proposals float32[PROPOSALS, 4] and vectors, put together."""
    real = pixels[:, 2] > pixels[:, 0]
    boxes = to_physical(np.where(from_picture[:, None], proposals, pixels)[real], contract)
    boxes[:, :2] = boxes[:, :2].clip(0, fine.duration_s)
    sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2])
    boxes, from_picture = boxes[sound], from_picture[real][sound]
    values = box_values(boxes, from_picture, fine.duration_s, contract.sample_rate_hz)
    return Candidates(boxes, np.asarray(vectors, np.float32)[real][sound], from_picture, values, fine)


def first_fit(found: Candidates, model: LookModel) -> np.ndarray:
    """float32[K], logits from the picture's vectors and the boxes alone."""
    weight, clip = np.float32(model.settings.picture_weight), model.settings.clip
    return model.fits["first"].logits(np.concatenate([found.vectors * weight, found.values], axis=1), clip)


def describe(
    iq: np.ndarray, found: Candidates, contract: Contract, model: LookModel, parallel: ParallelMap
) -> SecondLook:
    """The best candidates by the first fit, described from the IQ complex64[n] of the capture."""
    settings = model.settings
    first = first_fit(found, model)
    chosen = choose(found.boxes, first, settings.choose_iou, settings.places)
    boxes, vectors = found.boxes[chosen], found.vectors[chosen]
    values = zoom(stft(iq, contract, parallel_map=parallel), boxes, contract, settings.zoom, parallel)
    profiles = profiles_of(found.fine, boxes, parallel)
    fit = second_fit(vectors, values, profiles, found.values[chosen], model)
    return SecondLook(boxes, model.embed(vectors, values), fit)


def second_fit(
    vectors: np.ndarray, values: np.ndarray, profiles: np.ndarray, box: np.ndarray, model: LookModel
) -> np.ndarray:
    """float32[S], logits from picture, IQ and box."""
    weight = np.float32(model.settings.picture_weight)
    inputs = np.concatenate([vectors * weight, values, profiles, box], axis=1)
    return model.fits["second"].logits(inputs, model.settings.clip)


def profiles_of(fine: FinePower, boxes: np.ndarray, parallel: ParallelMap) -> np.ndarray:
    """float32[N, PROFILE_VALUES]."""
    for size in fine.settings.sizes:
        fine.power(size), fine.floor(size)  # once, before several threads ask for them
    found = list(parallel(lambda place, _: profile(fine, boxes[place]), len(boxes), 1))
    return np.array(found, np.float32).reshape(len(boxes), PROFILE_VALUES)


def choose(boxes: np.ndarray, logits: np.ndarray, most_iou: float, most: int) -> np.ndarray:
    """int64[K <= most]: boxes float64[N, 4] of the highest logits, no two with more than `most_iou` (greedy NMS)."""
    return nms(corners(boxes), logits, most_iou)[:most]


def suppress(boxes: np.ndarray, scores: np.ndarray, most_iou: float, most_share: float) -> np.ndarray:
    """int64[K]: boxes float64[N, 4] kept, best score first: none overlaps a better one by an IoU above `most_iou`, nor
    is it, or holds, one whose smaller area lies inside the other by more than `most_share`."""
    order = np.argsort(-scores, kind="stable")
    boxes = boxes[order]
    sides = [
        np.minimum(boxes[:, None, k + 1], boxes[None, :, k + 1]) - np.maximum(boxes[:, None, k], boxes[None, :, k])
        for k in (0, 2)
    ]
    both = sides[0].clip(0) * sides[1].clip(0)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    union = area[:, None] + area[None] - both
    clash = (both > most_iou * union) | (both > most_share * np.minimum(area[:, None], area[None]))
    free, kept = np.ones(len(order), bool), []
    for place in range(len(order)):
        if free[place]:
            kept.append(place)
            free &= ~clash[place]
    return order[np.array(kept, np.int64)]
