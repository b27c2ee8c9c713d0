"""What a stranger installs: one import name, typed, that finds its models; built and run from the wheel itself."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from engine.store.registry import Store
from hatch_build import FOLDERS, NAME, copy, prefixed

from .test_cli import recording

__all__ = ["recording"]  # a fixture
ROOT = Path(__file__).parents[1]


def ran(*words: object, cwd: Path, **settings: str) -> str:
    """Standard output of a command that has to succeed."""
    environment = {**{key: value for key, value in os.environ.items() if key != "HYDRA_MODELS"}, **settings}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(*words: object, into: Path) -> Path:
    ran(*words, into, cwd=ROOT)
    (wheel,) = into.glob("*.whl")
    return wheel


def installed(wheel: Path, site: Path) -> None:
    ran("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", site, wheel, cwd=site.parent)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("-m", "hatchling", "build", "--target", "wheel", "--directory", into=tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel in it."""
    folder = tmp_path_factory.mktemp("wheel") / "site"
    installed(wheel, folder)
    return folder


@pytest.fixture(scope="module")
def site_with_pack(wheel: Path, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and a pack of stand-ins."""
    folder = tmp_path_factory.mktemp("packed")
    installed(wheel, folder / "site")
    installed(built("scripts/make_pack", tiny_models, "tiny", "--out", into=folder / "dist"), folder / "site")
    return folder / "site"


def test_imports_of_the_folders_are_prefixed_and_nothing_else() -> None:
    text = (
        "from engine import Engine\nfrom engine.boxes import iou\n    import app.x as y\nfrom .engine import x\n"
        "from engineering import y\nfrom training data to a head\nfiles('engine.devices.kernels')\nx = 'engine'\n"
    )
    assert prefixed(text) == (
        "from hydra_rf.engine import Engine\nfrom hydra_rf.engine.boxes import iou\n    import hydra_rf.app.x as y\n"
        "from .engine import x\nfrom engineering import y\nfrom training data to a head\n"
        "files('hydra_rf.engine.devices.kernels')\nx = 'engine'\n"
    )


def test_an_import_that_cannot_be_prefixed_stops_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("import engine.boxes\n")
    with pytest.raises(ValueError, match=r"source\.py: `import engine\.boxes` cannot be prefixed"):
        copy(source, tmp_path / "target.py")


@pytest.mark.slow
def test_the_wheel_installs_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {NAME}
    assert all(any(name.endswith(f".dist-info/{end}") for name in names) for end in ("licenses/LICENSE", "RECORD"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_folders(wheel: Path) -> None:
    have = {name.removeprefix(f"{NAME}/") for name in zipfile.ZipFile(wheel).namelist()}
    for folder in FOLDERS:
        wanted = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name for name in wanted if "__pycache__" not in name} <= have
    assert "py.typed" in have


@pytest.mark.slow
def test_no_import_in_the_wheel_is_unprefixed(site: Path) -> None:
    for path in (site / NAME).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & set(FOLDERS), f"{path}: {names}"


@pytest.mark.slow
def test_detection_runs_from_the_wheel_on_the_store_that_the_variable_names(
    site: Path, tiny_models: Path, recording: Path, tmp_path: Path
) -> None:
    words = ("-m", NAME, "detect", recording, "--json")
    out = ran(*words, cwd=tmp_path, PYTHONPATH=str(site), HYDRA_MODELS=str(tiny_models))
    assert [json.loads(line)["signal"] for line in out.splitlines()] == ["alpha", "beta"]


@pytest.mark.slow
def test_detection_runs_from_the_wheel_on_an_installed_pack(
    site_with_pack: Path, recording: Path, tmp_path: Path
) -> None:
    out = ran("-m", NAME, "detect", recording, "--json", cwd=tmp_path, PYTHONPATH=str(site_with_pack))
    assert [json.loads(line)["signal"] for line in out.splitlines()] == ["alpha", "beta"]


def test_a_pack_of_a_damaged_store_is_refused(tiny: Store, tmp_path: Path) -> None:
    graph = next(tiny.path.rglob("*.onnx"))
    graph.unlink()
    words = [sys.executable, "scripts/make_pack", tiny.path, "tiny", "--out", tmp_path / "dist"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert graph.name in done.stderr
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
def test_kernel_sources_are_found_in_the_wheel(site: Path, tmp_path: Path) -> None:
    code = "import hydra_rf.engine.devices.kernels as k; print(k.__file__, len(k.source('front_end.cu')))"
    file, length = ran("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert Path(file).is_relative_to(site) and int(length) > 1000


@pytest.mark.slow
def test_a_type_checker_knows_the_public_names_of_the_wheel(site: Path, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(
        "from hydra_rf import Engine\nreveal_type(Engine)\nreveal_type(Engine.open())\n"
    )
    words = ("-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache", "snippet.py")
    told = ran(*words, cwd=tmp_path, MYPYPATH="", PYTHONPATH=str(site))
    assert 'Revealed type is "hydra_rf.engine.engine.Engine"' in told and "Any" not in told.splitlines()[1]
