"""Augmentation of samples: random shifts in time and frequency, gain, and added noise.

A head must not learn position or level of the few examples. Views are made on the image, by their seed alone, so that
the features of each can be cached.
"""

from dataclasses import dataclass

import numpy as np

from engine.contract import IMAGE_SIZE, RANGE_DB

MIN_PIECE_SHARE = 0.25  # of a box that the image's border has cut, or the piece is no label


@dataclass(frozen=True)
class View:
    """Parameters of one augmentation. Shifts are cyclic, in pixels; levels are in dB."""

    right: int = 0
    down: int = 0
    level_db: float = 0.0  # what is added to every pixel
    noise_db: float | None = None  # level of added noise above the image's median
    seed: int = 0


PLAIN = View()


def draw_views(count: int, seed: int) -> list[View]:
    """Random augmentations: the identity and `count` - 1 others."""
    rng = np.random.default_rng(seed)
    views = [PLAIN]
    for number in range(1, count):
        noise_db = float(rng.uniform(-4, 6)) if rng.random() < 0.5 else None
        right, down = (int(step) for step in rng.integers(0, IMAGE_SIZE, 2))
        views.append(View(right, down, float(rng.uniform(-6, 3)), noise_db, seed + number))
    return views


def augment_image(image: np.ndarray, view: View) -> np.ndarray:
    """Augmented image, uint8[1024, 1024]."""
    if view == PLAIN:
        return image
    moved = np.roll(image, (view.down, view.right), axis=(0, 1)).astype(np.float32) * (RANGE_DB / 255)
    if view.noise_db is not None:
        rng = np.random.default_rng(view.seed)
        # power of complex Gaussian noise is exponential; two neighbouring bins of four are averaged in dB
        power = rng.exponential(size=(2, *image.shape)).astype(np.float32)
        noise = 10 * np.log10(power + 1e-6).mean(axis=0) + (float(np.median(moved)) + view.noise_db)
        moved = 10 * np.log10(10 ** (moved / 10) + 10 ** (noise / 10))
    return np.round((moved + view.level_db).clip(0, RANGE_DB) * (255 / RANGE_DB)).astype(np.uint8)


def augment_boxes(boxes: np.ndarray, view: View) -> np.ndarray:
    """Pixel boxes float32[N, 4] moved with the image: float32[M, 4], cut where they wrap round a border."""
    pieces = boxes + np.array([view.right, view.down] * 2, np.float32)
    pieces = np.concatenate([pieces - shift for shift in _wraps()])
    clipped = pieces.clip(0, IMAGE_SIZE)
    whole, kept = pieces[:, 2:] - pieces[:, :2], clipped[:, 2:] - clipped[:, :2]
    share = np.prod(kept, axis=1) / np.maximum(np.prod(whole, axis=1), 1e-9)
    return np.asarray(clipped[share >= MIN_PIECE_SHARE], np.float32)


def _wraps() -> list[np.ndarray]:
    return [np.array([x, y, x, y], np.float32) * IMAGE_SIZE for x in (0, 1) for y in (0, 1)]
