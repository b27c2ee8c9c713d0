"""Anchor boxes of a head's RPN. They belong to a head's manifest: thin signals need thin anchors."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from .errors import StoreError

LEVELS: Final = 5  # p2..p6
RATIOS_PER_LEVEL: Final = 3  # fixed by the shape of the RPN's weights
MAX_SIZE: Final = 1e6  # far beyond any image, far below what overflows


@dataclass(frozen=True)
class Anchors:
    """One size (network pixels) per level and three height/width ratios, the same on every level."""

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if len(self.sizes) != LEVELS or len(self.ratios) != RATIOS_PER_LEVEL:
            raise StoreError(
                f"anchors have {len(self.sizes)} sizes and {len(self.ratios)} ratios; "
                f"give {LEVELS} and {RATIOS_PER_LEVEL}, or restore the version from a copy"
            )
        if not all(_is_length(value) for value in (*self.sizes, *self.ratios)):
            raise StoreError(
                f"anchor sizes {self.sizes} and ratios {self.ratios} must be numbers, "
                f"{1 / MAX_SIZE:g} to {MAX_SIZE:g}: give such, or restore the version from a copy"
            )

    def cells(self) -> np.ndarray:
        """float32[5, 3, 4]: corner boxes around the origin, rounded to whole pixels as torchvision does."""
        root = np.sqrt(np.asarray(self.ratios, dtype=np.float32))  # height/width = ratio
        widths = np.asarray(self.sizes, dtype=np.float32)[:, None] * (1 / root)
        heights = np.asarray(self.sizes, dtype=np.float32)[:, None] * root
        return np.round(np.stack([-widths, -heights, widths, heights], axis=-1) / 2).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Anchors":
        """Raises StoreError on anything but two lists of numbers of the right lengths."""
        sizes, ratios = values.get("sizes"), values.get("ratios")
        if not isinstance(sizes, list | tuple) or not isinstance(ratios, list | tuple):
            raise StoreError(f"anchors {values!r} without lists of sizes and ratios; restore the version from a copy")
        return cls(tuple(sizes), tuple(ratios))


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 / MAX_SIZE <= value <= MAX_SIZE


STOCK: Final = Anchors()  # torchvision's own, those of every legacy checkpoint
