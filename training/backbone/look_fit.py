"""Training of fit: two-layer networks that tell from picture, IQ and box whether a candidate is a whole signal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from engine.second_look.model import LEAST_DEVIATION, Fit

SOFT: Final = (0.35, 0.4)  # IoU at which the target begins to rise from 0, and over which it reaches 1
WARM_UP: Final = 30  # steps
SCENE_WEIGHT: Final = 0.7  # of a generated scene against a recording


@dataclass(frozen=True)
class FitSettings:
    """How long and how wide a network of the fit is trained."""

    hidden: int = 96
    epochs: float = 6
    least_steps: int = 200
    batch: int = 512
    rate: float = 2e-3
    decay: float = 0.02
    dropped: float = 0.2  # share of inputs and of hidden values
    clip: float = 6.0
    seed: int = 0


def target(overlap: np.ndarray) -> np.ndarray:
    """float[N] in 0..1 of IoU float[N]: rises where a detection begins to count."""
    return np.asarray(((overlap - SOFT[0]) / SOFT[1]).clip(0, 1))


def by_source(source: np.ndarray, scene: np.ndarray) -> np.ndarray:
    """float64[N], weights of rows: a source with n rows counts as the root of n. source: int64[N]; scene: bool[N]."""
    count = np.bincount(source)
    return np.asarray(np.where(scene, SCENE_WEIGHT, 1.0) / np.sqrt(count[source]))


def train_fit(inputs: np.ndarray, wanted: np.ndarray, weight: np.ndarray, settings: FitSettings | None = None) -> Fit:
    """A network of inputs float32[N, D] for targets float[N] in 0..1; rows are drawn by weight float[N]."""
    settings = settings or FitSettings()
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + np.float32(LEAST_DEVIATION)
    scaled = torch.from_numpy(((inputs - mean) / deviation).clip(-settings.clip, settings.clip).astype(np.float32))
    wanted_t = torch.from_numpy(np.asarray(wanted, np.float32))
    torch.manual_seed(settings.seed)
    hidden, out = nn.Linear(inputs.shape[1], settings.hidden), nn.Linear(settings.hidden, 1)
    drop = nn.Dropout(settings.dropped)
    network = nn.Sequential(drop, hidden, nn.ReLU(), drop, out)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    steps = max(int(settings.epochs * len(inputs) / settings.batch), settings.least_steps)
    rng = np.random.default_rng(settings.seed)
    drawn = torch.from_numpy(rng.choice(len(inputs), (steps, settings.batch), p=weight / weight.sum()))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / WARM_UP) * (1 + np.cos(np.pi * step / steps)) / 2
        rows = drawn[step]
        loss = nn.functional.binary_cross_entropy_with_logits(network(scaled[rows])[:, 0], wanted_t[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Fit(
        np.asarray(mean, np.float32),
        np.asarray(deviation, np.float32),
        np.ascontiguousarray(hidden.weight.detach().numpy().T),
        hidden.bias.detach().numpy().copy(),
        out.weight.detach().numpy()[0].copy(),
        out.bias.detach().numpy().copy(),
    )


def joined(parts: Sequence[np.ndarray], weight: float) -> np.ndarray:
    """float32[N, D]: inputs of a fit, the picture's vectors first; these count by `weight`."""
    picture, *rest = (np.asarray(part, np.float32) for part in parts)
    return np.concatenate([picture * np.float32(weight), *rest], axis=1)
