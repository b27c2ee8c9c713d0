"""The shape of the repository: what may import what, and where it is imported from."""

import subprocess
import sys
from pathlib import Path

import pytest

import engine
import hydra_rf

ROOT = Path(__file__).parents[1]
ABSENT = ("torch", "torchvision", "cupy", "tensorrt", "openvino")


def test_the_packages_tested_are_those_of_this_repository() -> None:
    assert Path(engine.__file__).parent == ROOT / "engine"


@pytest.mark.parametrize("module", ["engine", "engine.engine", "app.cli.main", "hydra_rf", "hydra_rf.__main__"])
def test_runs_where_no_training_or_gpu_package_can_be_imported(module: str) -> None:
    """In a fresh interpreter that refuses to import them."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {ABSENT!r}:
            raise ImportError(name + ' is not here')
sys.meta_path.insert(0, Refuse())
import {module}
assert not any(name.split('.')[0] in {ABSENT!r} for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_of_the_engine_is_there() -> None:
    assert all(getattr(engine, name) is not None for name in engine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = engine.nothing


def test_the_name_users_import_gives_the_same_objects_as_the_engine() -> None:
    assert hydra_rf.__all__ == engine.__all__
    assert all(getattr(hydra_rf, name) is getattr(engine, name) for name in engine.__all__)
    with pytest.raises(AttributeError, match="'hydra_rf' has no attribute 'nothing'"):
        _ = hydra_rf.nothing


@pytest.mark.parametrize("module", ["engine", "hydra_rf"])
def test_importing_a_package_imports_none_of_what_it_depends_on(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({{'numpy', 'onnxruntime', 'onnx', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr.strip()


def test_no_file_is_longer_than_a_reader_follows() -> None:
    files = [path for folder in ("engine", "network", "export", "training", "app", "benchmarks", "tests")
             for kind in ("*.py", "*.cu", "*.h") for path in (ROOT / folder).rglob(kind)]  # fmt: skip
    assert len(files) > 30
    long = {path.relative_to(ROOT): lines for path in files if (lines := len(path.read_text().splitlines())) > 300}
    assert not long
