"""Build hook of the wheel: the five folders go under one import name, `hydra_rf`.

`engine/` becomes `hydra_rf/engine/`, and `from engine.boxes import iou` in any file becomes
`from hydra_rf.engine.boxes import iou`. An editable install keeps the folders as they are.
"""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME: Final = "hydra_rf"
FOLDERS: Final = ("engine", "network", "export", "training", "app")
_FOLDER: Final = rf"(?=(?:{'|'.join(FOLDERS)})\b)"
# from engine.x import y; import engine.x as y; import_module("engine.x") and its like
ABSOLUTE: Final = re.compile(
    rf"""^(\s*from\s+){_FOLDER}(?=[\w.]+\s+import\b)
    | ^(\s*import\s+){_FOLDER}(?=[\w.]+\s+as\s)
    | (\b(?:import_module|find_spec|files|as_file|run_module)\(\s*["']){_FOLDER}""",
    re.MULTILINE | re.VERBOSE,
)
# binds the name `engine`, which a prefix would take away
BARE: Final = re.compile(rf"^\s*import\s+{_FOLDER}[\w.]+\s*(?:#.*)?$", re.MULTILINE)


class OneName(BuildHookInterface[Any]):
    """Copies the folders with prefixed imports, and adds the copies to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._copies = TemporaryDirectory(prefix="hydra-wheel-")
        root, package = Path(self.root), Path(self._copies.name, NAME)
        for folder in (NAME, *FOLDERS):
            target = package if folder == NAME else package / folder
            for source in packaged(root / folder):
                copy(source, target / source.relative_to(root / folder))
        build_data["force_include"][str(package)] = NAME

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._copies.cleanup()


def packaged(folder: Path) -> list[Path]:
    """All files of a package and its sub-packages, except what the interpreter keeps there."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def copy(source: Path, target: Path) -> None:
    """Copies a file, a Python file with prefixed imports."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".py":
        shutil.copyfile(source, target)
        return
    text = source.read_text(encoding="utf-8")
    if found := BARE.search(text):
        raise ValueError(f"{source}: `{found[0].strip()}` cannot be prefixed; name what it imports by `from` or `as`")
    target.write_text(prefixed(text), encoding="utf-8")


def prefixed(text: str) -> str:
    """Python source whose absolute imports of the five folders go through `hydra_rf`."""
    return ABSOLUTE.sub(lambda found: f"{found[0]}{NAME}.", text)
