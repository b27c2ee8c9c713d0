"""Types and bounds of the fields of one version in a head's metadata.json. Absent and null mean "not known"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreError

from .folders import version_number

COUNTS: Final = ("sample_count", "split_version", "epochs_trained", "best_epoch", "batch_size")
NUMBERS: Final = ("training_time_sec", "learning_rate")
SHARES: Final = ("f1_score", "precision", "recall")  # of metrics
LOSSES: Final = ("val_loss", "train_loss")  # of metrics
FLAGS: Final = ("early_stopped", "auto_promoted", "is_active", "pinned")
TEXTS: Final = ("created_at", "promoted_at", "promotion_reason", "notes", "weights_removed_at")
MOST: Final = 1e15  # of a count, a duration in seconds, a rate, or a loss


def checked_entry(entry: Any, path: Path) -> int:
    """The version number of an entry of `versions` whose fields all have their types and bounds.

    Raises StoreError that names the field and its value otherwise.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("metrics") or {}, dict):
        raise StoreError(f"{path}: versions are not a list of objects; restore the file from a copy")
    version = version_number(entry, "version", path)
    metrics = entry.get("metrics") or {}
    for values, keys, is_right, meaning in (
        (entry, COUNTS, _is_count, f"a whole number of 0 to {MOST:g}"),
        (entry, NUMBERS, _is_number, f"a number of 0 to {MOST:g}"),
        (metrics, LOSSES, _is_number, f"a number of 0 to {MOST:g}"),
        (metrics, SHARES, _is_share, "a number of 0 to 1"),
        (entry, FLAGS, _is_flag, "true or false"),
        (entry, TEXTS, _is_text, "text"),
    ):
        for key in keys:
            value = values.get(key)
            if value is not None and not is_right(value):
                raise StoreError(
                    f"{path}: version {version}: {key} is {value!r:.50}, not {meaning}; restore the file from a copy"
                )
    for key in ("parent_version", "backbone_version"):
        if entry.get(key) is not None:
            version_number(entry, key, path)
    return version


def checked_step(step: Mapping[str, Any], sequence: int, path: Path) -> tuple[int, str]:
    """Version and kind of an entry of `activations`, the `sequence`-th. Raises StoreError on one out of order."""
    version, how = version_number(step, "version", path), step.get("how")
    texts = (step.get("at"), step.get("reason"))
    if step.get("sequence") != sequence or not isinstance(how, str) or not all(t is None or _is_text(t) for t in texts):
        raise StoreError(
            f"{path}: the activations are no log of what was active when: entry {sequence} is {dict(step)!r:.120}; "
            "restore the file from a copy"
        )
    return version, how


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_share(value: Any) -> bool:
    return _is_number(value) and value <= 1


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
