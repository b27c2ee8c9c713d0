"""A signal's history, as heads/<signal>/metadata.json holds it: which versions there are, and what was active when.

Pure functions: a history goes in, the next one comes out. `activations` is a log that only grows, in the order of
its sequence numbers, never of the clock: each entry makes a version active or, as a rollback, undoes the last one
that is not undone yet. `revision` counts the writes. `active_version` is null as long as there are only candidates.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreError

from .entries import checked_entry, checked_step
from .folders import int_field, version_number

RETENTION: Final = 5  # versions of a head whose weights are kept
ROLLBACK: Final = "rollback"
VERSION_FIELDS: Final = (  # of a history's entry; what is not known of a version is null
    *("version", "created_at", "sample_count", "split_version", "epochs_trained", "early_stopped", "best_epoch"),
    *("metrics", "training_time_sec", "learning_rate", "batch_size", "parent_version", "auto_promoted"),
    *("promoted_at", "promotion_reason", "is_active", "notes"),
)
History = dict[str, Any]


def now() -> str:
    """For people to read; nothing is ordered by it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_history(signal: str) -> History:
    return {
        "signal_name": signal,
        "revision": 0,
        "versions": [],
        "activations": [],
        "version_retention": RETENTION,
        "active_version": None,
    }


def with_version(history: History, version: int, backbone_version: int, info: Mapping[str, Any]) -> History:
    """With one more version, a candidate until a decision is noted."""
    own = {"version": version, "created_at": now(), "is_active": False, "backbone_version": backbone_version}
    entry = {**dict.fromkeys(VERSION_FIELDS), **info, **own}
    return {**history, "backbone_version": backbone_version, "versions": [*history["versions"], entry]}


def activated(history: History, version: int, reason: str, how: str = "promotion", auto: bool = False) -> History:
    """With `version` active, and that kept in the log."""
    notes = {"promoted_at": now(), "promotion_reason": reason, "auto_promoted": auto}
    return _moved(noted(history, version, **notes), version, how, reason)


def rolled_back(history: History, version: int) -> History:
    """With `version`, the one active before, active again."""
    return _moved(history, version, ROLLBACK, f"version {history['active_version']} rolled back")


def noted(history: History, version: int, **values: Any) -> History:
    """With other values in the entry of a version."""
    entries = [{**entry, **values} if entry["version"] == version else entry for entry in history["versions"]]
    return {**history, "versions": entries}


def entry_of(history: History, version: int) -> dict[str, Any]:
    """Entry of a version. Raises StoreError when there is none of this number."""
    for entry in history["versions"]:
        if entry["version"] == version:
            return entry  # type: ignore[no-any-return]
    numbers = ", ".join(str(entry["version"]) for entry in history["versions"])
    raise StoreError(f"{history.get('signal_name')} has no version {version!r}; it has {numbers}")


def is_kept(entry: Mapping[str, Any]) -> bool:
    """True if a version's weights are kept; retention has removed those of the others."""
    return not entry.get("weights_removed_at")


def was_active(history: History) -> list[int]:
    """Versions that rollbacks would go through, the active one last: what was activated and not undone."""
    stack: list[int] = []
    for entry in activations(history):
        if entry["how"] == ROLLBACK:
            stack.pop()
        else:
            stack.append(entry["version"])
    return stack


def activations(history: History) -> list[dict[str, Any]]:
    """The log; of a history from before there was one, that its active version is active."""
    if history.get("activations"):
        return history["activations"]  # type: ignore[no-any-return]
    if history["active_version"] is None:
        return []
    active = entry_of(history, history["active_version"])
    at, reason = active.get("promoted_at"), active.get("promotion_reason")
    return [{"sequence": 1, "version": active["version"], "how": "promotion", "at": at, "reason": reason}]


def ever_active(history: History) -> list[dict[str, Any]]:
    """Entries of the versions that were active at some time and whose weights are kept, in the order of numbers."""
    been = {step["version"] for step in activations(history)}
    found = (e for e in history["versions"] if is_kept(e) and (e["version"] in been or e.get("promoted_at")))
    return sorted(found, key=_number)


def evictable(history: History) -> list[int]:
    """Versions whose weights may go: not the active one, the one active before, the first one active on each backbone
    (`reset` goes there), one of the last five, a pinned one, or a candidate that nobody has decided on, which may be
    under test.
    """
    kept = sorted((entry for entry in history["versions"] if is_kept(entry)), key=_number)
    firsts = {str(entry.get("backbone_version")): entry["version"] for entry in reversed(ever_active(history))}
    last = (entry["version"] for entry in kept[-RETENTION:])
    spared = {*was_active(history)[-2:], *firsts.values(), *last}
    return [
        entry["version"]
        for entry in kept
        if entry["version"] not in spared and entry.get("promotion_reason") and not entry.get("pinned")
    ]


def history_revision(history: Mapping[str, Any], path: Path) -> int:
    """Number of times a history was written; of one from before this was counted, its number of versions."""
    if "revision" in history:
        return int_field(history, "revision", path)
    versions = history.get("versions")
    return len(versions) if isinstance(versions, list) else 0


def checked_history(history: dict[str, Any], path: Path) -> History:
    """`history` if every field has its type and bounds, version numbers are unique, and the active version is what the
    log says; raises StoreError otherwise."""
    entries = history.get("versions")
    if not isinstance(entries, list):
        raise StoreError(f"{path}: versions are not a list of objects; restore the file from a copy")
    numbers, active = [checked_entry(entry, path) for entry in entries], _active(history, path)
    if len(set(numbers)) != len(numbers) or active not in (None, *numbers):
        raise StoreError(f"{path}: active_version {active} of versions {numbers}; restore the file from a copy")
    recorded = _checked_log(history, path)
    if recorded != active:
        raise StoreError(
            f"{path}: active_version is {active}, but what was activated last is {recorded}: edited by hand? "
            f"restore {recorded}, and choose another by `g20 versions SIGNAL --promote N`"
        )
    return {**history, "revision": history_revision(history, path)}


def _active(history: History, path: Path) -> int | None:
    """The active version; None only where the file says null. Raises StoreError on anything else."""
    if "active_version" in history and history["active_version"] is None:
        return None
    return version_number(history, "active_version", path)


def _checked_log(history: History, path: Path) -> int | None:
    """The version that the log makes active. Raises StoreError on a log that contradicts itself."""
    log = history.get("activations") or []
    broken = StoreError(f"{path}: the activations are no log of what was active when; restore the file from a copy")
    if not isinstance(log, list) or not all(isinstance(entry, dict) for entry in log):
        raise broken
    stack: list[int] = []
    for sequence, entry in enumerate(log, start=1):
        version, how = checked_step(entry, sequence, path)
        if how == ROLLBACK:
            if stack[-2:-1] != [version]:
                raise broken
            stack.pop()
        else:
            stack.append(version)
    return stack[-1] if stack else _active(history, path)


def _moved(history: History, version: int, how: str, reason: str) -> History:
    log = activations(history)
    step = {"sequence": len(log) + 1, "version": version, "how": how, "at": now(), "reason": reason}
    entries = [{**entry, "is_active": entry["version"] == version} for entry in history["versions"]]
    return {**history, "active_version": version, "activations": [*log, step], "versions": entries}


def _number(entry: Mapping[str, Any]) -> int:
    return entry["version"]  # type: ignore[no-any-return]
