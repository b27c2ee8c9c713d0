"""Search path of the model store: a given one, else `./models`, `$HYDRA_MODELS`, an installed pack.

The nearest wins, as with a project's own settings over a user's: a store in the working directory is the one that
was trained there. A pack is a package that holds a store and registers itself under the entry point group
`hydra_rf.models`; `scripts/make_pack` builds one.
"""

import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine.errors import StoreError

FOLDER: Final = Path("models")
VARIABLE: Final = "HYDRA_MODELS"
PACKS: Final = "hydra_rf.models"  # entry point group


@dataclass(frozen=True)
class Found:
    """A model store's folder, and where it was found."""

    path: Path
    origin: str


def find_models(given: str | Path | None = None, *, to_change: bool = False) -> Path:
    """The folder of the model store to use. `given`: a folder, or the name of an installed pack.

    Raises StoreError when there is none, when one of several packs has to be chosen, or, with `to_change`, when it is
    an installed pack.
    """
    path = locate(given).path
    if to_change and path in installed_packs().values():
        raise StoreError(
            f"{path} is an installed pack, which the next update replaces; copy it by `cp -r {path} {FOLDER}` "
            "and change the copy"
        )
    return path


def locate(given: str | Path | None = None) -> Found:
    """`find_models`, with where the store was found."""
    if given is not None:
        return _named(given, "given")
    value = os.environ.get(VARIABLE)
    if is_store(FOLDER):
        return Found(FOLDER, f"./{FOLDER}" + (f", which comes before ${VARIABLE}" if value else ""))
    if value:
        found = _named(value, f"${VARIABLE}")
        if not is_store(found.path):
            raise StoreError(f"${VARIABLE} is {value!r}, which is no model store and no installed pack; correct it")
        return found
    packs = installed_packs()
    if len(packs) > 1:
        raise StoreError(
            f"{len(packs)} model packs are installed: {', '.join(packs)}; choose one by --models NAME or ${VARIABLE}"
        )
    for name, path in packs.items():
        return Found(path, f"installed pack {name}")
    raise StoreError(
        f"no model store: none in {FOLDER.absolute()}, ${VARIABLE} is not set, no model pack is installed; "
        "give a store by --models FOLDER, or pip install a pack, the wheel that scripts/make_pack builds from a store"
    )


def is_store(path: Path) -> bool:
    """True if a folder holds a model store, sound or damaged."""
    return any((path / name).is_file() for name in ("backbone/metadata.json", "registry.json"))


def installed_packs() -> dict[str, Path]:
    """Folders of the installed packs' stores by name, sorted. No code of theirs is run."""
    folders = {}
    for entry in sorted(entry_points(group=PACKS), key=lambda entry: entry.name):
        spec = find_spec(entry.module)
        if spec is not None and spec.submodule_search_locations:
            folders[entry.name] = Path(next(iter(spec.submodule_search_locations)))
    return folders


def _named(given: str | Path, origin: str) -> Found:
    """A folder, or where no such folder is, the pack of that name."""
    path = Path(given)
    pack = None if path.exists() else installed_packs().get(str(given))
    return Found(path, origin) if pack is None else Found(pack, f"{origin}, installed pack {given}")
