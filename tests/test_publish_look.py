"""Publishing of a second look and typed heads: one release more, versions by the F1 of recordings left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from engine.contract import WIDEBAND
from engine.engine import Engine
from engine.errors import HydraError, InputError
from engine.heads import EMBEDDED
from engine.store.registry import Store
from engine.store.release import LOOK
from training.backbone.publish_look import main, publish

from .looks import look_model
from .toy_store import CONTRACT, add_head, toy_store

MEASURED = {"f1": 0.8, "precision": 0.9, "recall": 0.72, "truths": 30, "recordings": 4, "alarms_per_s": 0.1}


def fitted(folder: Path, contract: object = CONTRACT, **f1: float) -> Path:
    """What training.backbone.second_look would write."""
    (folder / "heads").mkdir(parents=True)
    assert isinstance(contract, type(CONTRACT))
    (folder / LOOK).write_bytes(look_model(contract).as_bytes())
    tensors = {"weight": np.zeros(EMBEDDED, np.float32), "operating": np.array([-8, 1, -1.4], np.float32)}
    for signal in f1:
        (folder / "heads" / f"{signal}.safetensors").write_bytes(save(tensors))
    report = {"labels": {signal: {**MEASURED, "f1": value} for signal, value in f1.items()}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_heads_that_are_good_enough_become_active_and_old_heads_stay(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    add_head(store, "dark", 150)
    published = publish(fitted(tmp_path / "out", bright=0.8, zwave=0.7, poor=0.3), store)
    assert published == {"bright": 2, "zwave": 1}
    assert store.release().version == 2 and store.check() == []
    with Engine.open(store.path) as engine:
        assert engine.snapshot.versions == {"bright": 2, "dark": 1, "zwave": 1}
    entry = store.history("bright")["versions"][-1]
    assert entry["metrics"]["f1_score"] == 0.8
    assert "F1 0.8000 on 30 objects of 4 recordings, each left out" in entry["promotion_reason"]


def test_a_rollback_brings_the_compact_head_back(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    publish(fitted(tmp_path / "out", bright=0.8), store)
    store.rollback("bright")
    with Engine.open(store.path) as engine:
        assert engine.snapshot.versions == {"bright": 1}


def test_nothing_is_written_for_another_front_end_or_with_damaged_weights(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    with pytest.raises(InputError, match="not for front-end contract"):
        publish(fitted(tmp_path / "other", WIDEBAND, bright=0.8), store)
    broken = fitted(tmp_path / "broken", bright=0.8)
    (broken / "heads" / "bright.safetensors").write_bytes(b"no weights")
    with pytest.raises(HydraError, match=r"bright\.safetensors"):
        publish(broken, store)
    assert store.release().version == 1 and store.signals() == ()


def test_the_command_says_what_it_published_and_fails_on_another_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store: Store = toy_store(tmp_path / "models")
    with pytest.raises(SystemExit, match="0"):
        main([str(fitted(tmp_path / "out", bright=0.8)), str(store.path)])
    assert "published bright v1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "nothing"), str(store.path)])
    assert "not a folder of training.backbone.second_look" in capsys.readouterr().err
