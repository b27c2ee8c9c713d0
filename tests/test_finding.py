"""Where a model store is looked for when none is given, and which one wins."""

from pathlib import Path

import pytest

from engine import Engine
from engine.errors import StoreError
from engine.store.finding import Found, find_models, installed_packs, locate

from .test_cli import Run, g20, recording

__all__ = ["g20", "recording"]  # fixtures


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no variable set, no pack installed but those of a test."""
    monkeypatch.delenv("HYDRA_MODELS", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_store(folder: Path) -> Path:
    (folder / "backbone").mkdir(parents=True)
    (folder / "backbone" / "metadata.json").write_text("{}")
    return folder


def install(site: Path, name: str) -> Path:
    """A pack as pip leaves it. Importing it would fail: no code of a pack is run."""
    info = site / f"hydra_rf_{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hydra-rf-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[hydra_rf.models]\n{name} = hydra_rf_{name}\n")
    store = make_store(site / f"hydra_rf_{name}")
    (store / "__init__.py").write_text("raise RuntimeError")
    return store


def test_a_given_store_comes_before_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(Path("models"))
    monkeypatch.setenv("HYDRA_MODELS", str(make_store(tmp_path / "mine")))
    assert locate(tmp_path / "other") == Found(tmp_path / "other", "given")


def test_the_store_in_the_working_directory_comes_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(Path("models"))
    monkeypatch.setenv("HYDRA_MODELS", str(make_store(tmp_path / "mine")))
    assert locate() == Found(Path("models"), "./models, which comes before $HYDRA_MODELS")


def test_the_variable_comes_before_an_installed_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "wideband")
    monkeypatch.setenv("HYDRA_MODELS", str(make_store(tmp_path / "mine")))
    assert locate() == Found(tmp_path / "mine", "$HYDRA_MODELS")


def test_an_installed_pack_is_found_without_running_its_code(tmp_path: Path) -> None:
    store = install(tmp_path / "site", "wideband")
    assert locate() == Found(store, "installed pack wideband")


def test_a_folder_named_models_that_is_no_store_is_passed_over(tmp_path: Path) -> None:
    Path("models").mkdir()
    store = install(tmp_path / "site", "wideband")
    assert find_models() == store


def test_of_several_packs_one_has_to_be_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wideband", "ism"):
        install(tmp_path / "site", name)
    with pytest.raises(StoreError, match="2 model packs are installed: ism, wideband; choose one by --models NAME"):
        find_models()
    assert find_models("ism") == tmp_path / "site" / "hydra_rf_ism"
    monkeypatch.setenv("HYDRA_MODELS", "wideband")
    assert locate() == Found(tmp_path / "site" / "hydra_rf_wideband", "$HYDRA_MODELS, installed pack wideband")


def test_a_folder_comes_before_a_pack_of_the_same_name(tmp_path: Path) -> None:
    install(tmp_path / "site", "ism")
    make_store(Path("ism"))
    assert find_models("ism") == Path("ism")


def test_a_variable_that_names_no_store_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "wideband")
    monkeypatch.setenv("HYDRA_MODELS", "/no/such/store")
    with pytest.raises(StoreError, match=r"\$HYDRA_MODELS is '/no/such/store', which is no model store.*correct it"):
        find_models()


def test_nothing_found_names_all_three_places_and_the_remedy(nowhere: Path) -> None:
    with pytest.raises(StoreError) as told:
        Engine.open()
    assert str(nowhere / "models") in str(told.value)
    assert all(word in str(told.value) for word in ("$HYDRA_MODELS", "pack", "--models", "pip install"))


def test_a_pack_is_not_changed(tmp_path: Path) -> None:
    store = install(tmp_path / "site", "wideband")
    with pytest.raises(StoreError, match=f"cp -r {store} models"):
        find_models(to_change=True)
    make_store(Path("models"))
    assert find_models(to_change=True) == Path("models")


def test_a_pack_without_its_files_is_not_listed(tmp_path: Path) -> None:
    store = install(tmp_path / "site", "wideband")
    assert installed_packs() == {"wideband": store}
    for path in (store / "backbone" / "metadata.json", store / "__init__.py"):
        path.unlink()
    (store / "backbone").rmdir()
    store.rmdir()
    assert installed_packs() == {}


def test_the_engine_opens_the_store_that_is_found(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_MODELS", str(tiny_models))
    with Engine.open() as engine:
        assert set(engine.snapshot.versions) == {"alpha", "beta"}


def test_detect_names_the_store_it_found(
    g20: Run, recording: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_MODELS", str(tiny_models))
    found, given = g20("detect", recording, models=None), g20("detect", recording)
    assert found.code == 0
    assert f"models: {tiny_models} ($HYDRA_MODELS)" in found.err
    assert "models:" not in given.err
