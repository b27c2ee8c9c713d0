"""A head as files that run elsewhere: the same answers as in the engine."""

import json
from pathlib import Path

import onnxruntime
import pytest

from engine.engine import Engine
from engine.errors import StoreError, UnavailableError
from engine.regions import regions
from engine.spectrogram import as_grey
from engine.store.release import LOOK
from export.bundle import export_head

from .looks import add_typed, look_model
from .toy_store import CONTRACT, add_head, image, toy_store


def test_an_exported_head_finds_what_the_engine_finds(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    export_head(store, "bright", tmp_path / "out")
    shown = as_grey(image([(3, 4)], [(9, 9)]))
    run = {
        name: onnxruntime.InferenceSession(tmp_path / "out" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("trunk", "shared", "head")
    }
    fed = {"image": shown[None, None]}
    fused = run["trunk"].run(None, fed)[0]
    proposals, vectors = run["shared"].run(None, {"regions": regions(shown), "fused": fused, **fed})
    _, scores = run["head"].run(None, {"proposals": proposals, "vectors": vectors})
    with Engine.open(store.path) as engine:
        found = engine.detect_image(shown)
    assert len(found) == 1
    assert float(scores.max()) == pytest.approx(found[0].score, abs=1e-5)


def test_the_bundle_says_what_it_is_and_is_never_written_over(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    add_head(store, "bright", 190)
    export_head(store, "bright", tmp_path / "out", version=2)
    about = json.loads((tmp_path / "out" / "bundle.json").read_text())
    assert (about["signal"], about["version"], about["head_type"]) == ("bright", 2, "compact")
    with pytest.raises(StoreError, match="exists"):
        export_head(store, "bright", tmp_path / "out")
    with pytest.raises(StoreError):
        export_head(store, "bright", tmp_path / "other", version=9)
    assert not (tmp_path / "other").exists()


def test_a_typed_head_is_not_exported_and_the_error_says_what_is(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models", {LOOK: look_model(CONTRACT).as_bytes()})
    add_typed(store, "bright")
    with pytest.raises(UnavailableError, match=r"bright v1 is a typed head, .*; compact and full heads are exported"):
        export_head(store, "bright", tmp_path / "out")
    assert not (tmp_path / "out").exists()
