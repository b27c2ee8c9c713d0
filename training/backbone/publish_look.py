"""Publishing of a fitted second look and its typed heads in a store.

    python -m training.backbone.publish_look OUT MODELS [--least-f1 0.5]

OUT: folder that training.backbone.second_look wrote. A new backbone release holds the files of the one in force and the
second look; heads made for the backbone stay compatible. Every typed head whose F1, measured on recordings left out of
its training, is at least `--least-f1` becomes the active version of its signal.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import HydraError, InputError
from engine.second_look.model import read_look
from engine.store.folders import object_field, read_manifest
from engine.store.registry import Store
from engine.store.release import LOOK
from engine.store.weights import read_weights

LEAST_F1: Final = 0.5
REPORT: Final = "report.json"


def publish_look(store: Store, look: bytes) -> int:
    """Adds a second look to the release in force, as a new release; returns its version. Raises InputError on one
    made for another front end."""
    release = store.release()
    if read_look(look, LOOK).contract_hash != release.contract.hash:
        raise InputError(f"the second look is not for front-end contract {release.contract.hash}, that of {store.path}")
    manifest = read_manifest(release.folder)
    names = object_field(manifest, "files", release.folder)
    files = {name: release.file(name).read_bytes() for name in names} | {LOOK: look}
    info = store.release_info()
    kept = {key: value for key, value in manifest.items() if key not in ("files", "schema")}
    return store.add_backbone(files, kept, {**info, "notes": "with a second look in the IQ"})


def publish_head(store: Store, signal: str, weights: bytes, measured: Mapping[str, Any]) -> int:
    """Adds a typed head as the active version of `signal`; `measured`: f1, precision, recall, truths, recordings,
    alarms_per_s on recordings left out of training."""
    release = store.release()
    manifest = {
        "head_type": "typed",
        "backbone_hash": release.backbone_hash,
        "contract": release.contract.as_json(),
        "look_hash": release.hash_of(LOOK),
        "metrics": dict(measured),
    }
    reason = (
        f"F1 {measured['f1']:.4f} on {measured['truths']} objects of {measured['recordings']} recordings, each left "
        f"out of training in turn; false alarms on other recordings {measured['alarms_per_s']:.2f} per second"
    )
    info = {
        "sample_count": int(measured["truths"]),
        "metrics": {"f1_score": measured["f1"], "precision": measured["precision"], "recall": measured["recall"]},
        "promotion_reason": reason,
        "notes": "typed head, trained by training.backbone.second_look",
    }
    known = signal in store.signals()
    against = store.history(signal)["active_version"] if known else None
    return store.add_head(signal, {"weights.safetensors": weights}, manifest, info, promote=True, against=against)


def publish(out: Path, store: Store, least_f1: float = LEAST_F1) -> dict[str, int]:
    """Publishes all that OUT holds; versions by signal. Raises HydraError on files that are damaged or missing."""
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        heads = {str(signal): dict(measured) for signal, measured in report["labels"].items()}
        look = (out / LOOK).read_bytes()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{out}: not a folder of training.backbone.second_look ({error})") from error
    chosen = sorted(signal for signal, measured in heads.items() if measured["f1"] >= least_f1)
    for signal in chosen:
        read_weights(out / "heads" / f"{signal}.safetensors", "typed")  # damage shows before anything is written
    publish_look(store, look)
    weights = {signal: (out / "heads" / f"{signal}.safetensors").read_bytes() for signal in chosen}
    return {signal: publish_head(store, signal, weights[signal], heads[signal]) for signal in chosen}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--least-f1", type=float, default=LEAST_F1)
    options = parser.parse_args(arguments)
    try:
        published = publish(options.out, Store(options.models), options.least_f1)
    except HydraError as error:
        parser.exit(1, f"{error}\n")
    parser.exit(0, f"published {', '.join(f'{signal} v{version}' for signal, version in published.items())}\n")


if __name__ == "__main__":
    main()
