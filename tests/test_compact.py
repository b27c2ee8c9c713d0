"""Compact heads: one graph, any number of heads, each as if it were alone; and what they share, exported."""

from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.engine import Engine
from engine.errors import InputError
from engine.heads import BATCHED, COMPACT, DESCRIBED, PROPOSALS, Head, batched, feature_shapes, fused_shape
from engine.loading import Loader
from engine.sessions.base import Session
from engine.sessions.graphs import with_room
from engine.sessions.open import open_session
from engine.sessions.scripted import ScriptedSession
from engine.snapshot import EMPTY_LOGIT, Snapshot, capacity_for, stack
from engine.spectrogram import as_grey
from engine.store.registry import Store
from export.to_onnx import (
    backbone_graph,
    backbone_tensors,
    compact_heads_graph,
    full_head_graph,
    fuse_graph,
    shared_graph,
    stored_tensors,
    trunk_graph,
)
from network.compact import compact_heads
from network.detector import detector, split
from network.shared import FINE, FINE_POOLS, Fuse, SharedLayers, fine_features

from .toy_store import add_head, image, toy_store

INPUT = (128, 192)  # small, and not square
SAME = 1e-4  # of boxes in image pixels and of scores, torch against ONNX Runtime


def head(signal: str, seed: int, version: int = 1) -> Head:
    rng = np.random.default_rng(seed)
    return Head(
        signal, version, "compact", None, {k: rng.normal(0, 0.05, v).astype(np.float32) for k, v in COMPACT.items()}
    )


def described(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 900, (PROPOSALS, 2))
    boxes = np.hstack([corner, corner + rng.uniform(2, 120, (PROPOSALS, 2))]).astype(np.float32)
    return {"proposals": boxes, "vectors": rng.normal(0, 1, DESCRIBED["vectors"]).astype(np.float32)}


def run(heads: list[Head], capacity: int | None = None) -> dict[str, np.ndarray]:
    stacked = stack(heads)
    graph = with_room(compact_heads_graph(), capacity or stacked.capacity, [*COMPACT, *BATCHED])
    session = open_session(graph, threads=1)
    try:
        return session.run({**described(), **stacked.weights})
    finally:
        session.close()


def test_the_graph_computes_what_torch_computes() -> None:
    heads = [head("a", 1), head("b", 2)]
    found, shared = run(heads), {k: torch.from_numpy(v) for k, v in described().items()}
    weights = {k: torch.from_numpy(np.stack([h.weights[k] for h in heads])) for k in COMPACT}
    boxes, scores = compact_heads(shared["proposals"], shared["vectors"], weights)
    assert np.abs(found["boxes"][:2] - boxes.numpy()).max() < SAME * 1024
    assert np.abs(found["scores"][:2] - scores.numpy()).max() < SAME


@pytest.mark.parametrize("count", [1, 2, 12, 16, 17, 48])
def test_a_head_finds_the_same_beside_any_number_of_others(count: int) -> None:
    alone, among = run([head("me", 7)]), run([head("me", 7), *(head(f"s{k}", k) for k in range(count - 1))])
    assert np.abs(alone["scores"][0] - among["scores"][0]).max() < SAME
    assert np.abs(alone["boxes"][0] - among["boxes"][0]).max() < SAME * 1024


def test_empty_places_score_nothing() -> None:
    found = run([head("a", 1)])
    assert found["scores"].shape == (16, PROPOSALS)
    assert (found["scores"][1:] <= 1 / (1 + np.exp(-EMPTY_LOGIT)) + 1e-9).all()


@pytest.mark.parametrize("count, capacity", [(0, 16), (1, 16), (16, 16), (17, 32), (33, 64), (64, 64), (65, 128)])
def test_room_grows_by_doubling(count: int, capacity: int) -> None:
    assert capacity_for(count) == capacity


def test_only_compact_heads_are_stacked_and_in_order() -> None:
    full = replace(head("f", 1), head_type="full")
    snapshot = Snapshot(1, 1, "ab", (head("b", 2), full, head("a", 3)))
    assert [h.signal for h in snapshot.compact.heads] == ["b", "a"]
    assert [h.signal for h in snapshot.full] == ["f"]
    assert np.array_equal(snapshot.compact.weights["out.bias"][1], snapshot.heads[2].weights["out.bias"])


def test_the_exported_shared_layers_compute_what_torch_computes() -> None:
    torch.manual_seed(0)
    shared = SharedLayers(INPUT).eval()
    regions = torch.from_numpy(described()["proposals"])
    session = open_session(shared_graph(shared), threads=1)
    fed = {"regions": regions, "image": torch.rand(1, 1, 1024, 1024), "fused": torch.rand(fused_shape(INPUT)["fused"])}
    with torch.no_grad():
        boxes, vectors = shared(*fed.values())
    found = session.run({name: tensor.numpy() for name, tensor in fed.items()})
    session.close()
    assert np.abs(found["proposals"] - boxes.numpy()).max() < SAME * 1024
    assert np.abs(found["vectors"] - vectors.numpy()).max() < 1e-3
    assert found["proposals"].min() >= 0 and found["proposals"].max() <= 1024


def test_the_trunk_is_the_backbone_and_the_fusing_layers_borders_included() -> None:
    torch.manual_seed(2)
    tensors, _ = split(detector().state_dict())
    fuse = Fuse().eval()
    graphs = [trunk_graph(tensors, fuse, INPUT), backbone_graph(tensors, INPUT), fuse_graph(fuse, INPUT)]
    trunk, backbone, joined = (open_session(graph, threads=1) for graph in graphs)
    fed = {"image": np.random.default_rng(0).random((1, 1, 1024, 1024), np.float32)}
    plain, lean = joined.run(backbone.run(fed))["fused"], trunk.run(fed)["fused"]
    assert plain.shape == lean.shape == fused_shape(INPUT)["fused"]
    assert plain.std() > 0.01
    assert np.abs(plain - lean).max() < 1e-4 * np.abs(plain).max()
    for session in (trunk, backbone, joined):
        session.close()


def test_the_shared_layers_can_be_read_back_from_their_graph() -> None:
    shared = SharedLayers(INPUT)
    with torch.no_grad():
        for weight in shared.parameters():
            weight.copy_(weight.half())  # as a release stores them
    stored = stored_tensors(shared_graph(shared))
    assert all(torch.equal(stored[name], value) for name, value in shared.state_dict().items())


def test_the_fine_look_tells_a_rough_region_from_an_even_one_at_any_level() -> None:
    even = torch.full((1, 1, 64, 96), 0.5)
    rough = even.clone()
    rough[..., ::2] += 0.2
    roi = torch.tensor([[0.0, 10, 10, 40, 40]])
    plain, louder, other = (fine_features(grey, roi)[0] for grey in (even, even + 0.3, rough))
    assert plain.shape == (FINE,)
    level = torch.zeros(FINE, dtype=torch.bool)
    level[[sum(2 * r * c + 1 for r, c in FINE_POOLS[: n + 1]) - 1 for n in range(len(FINE_POOLS))]] = True
    assert (plain[~level] - louder[~level]).abs().max() < 1e-2
    assert torch.allclose(louder[level] - plain[level], torch.tensor(0.3 * 4))
    assert (plain[~level] - other[~level]).abs().max() > 0.5


def test_a_backbone_of_another_input_size_keeps_its_tensors_and_feeds_full_heads_too() -> None:
    torch.manual_seed(1)
    tensors, _ = split(detector().state_dict())
    graph = backbone_graph(tensors, INPUT)
    assert all(torch.equal(tensors[name], value) for name, value in backbone_tensors(graph).items())
    backbone, full = open_session(graph, threads=1), open_session(full_head_graph(INPUT), threads=1)
    features = backbone.run({"image": np.random.default_rng(0).random((1, 1, 1024, 1024), np.float32)})
    assert {name: array.shape for name, array in features.items()} == feature_shapes(INPUT)
    assert set(full.inputs) > set(features)
    for session in (backbone, full):
        session.close()


@pytest.fixture
def toys(tmp_path: Path) -> Store:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    add_head(store, "faint", 130)
    return store


def test_all_heads_answer_for_an_image(toys: Store) -> None:
    with Engine.open(toys.path) as engine:
        found = engine.detect_image(image([(1, 2)], [(7, 7), (10, 3)]))
    assert sorted(d.signal for d in found) == ["bright", "faint", "faint"]


def test_only_full_heads_ask_for_the_backbones_maps_and_compact_ones_answer_the_same_beside_them(
    toys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(toys.release())
    snapshot = toys.snapshot()
    lean = loader.network(snapshot)
    assert lean.lean and lean.backbone.outputs == ("fused",) and lean.fuse is None
    monkeypatch.setattr(Loader, "_open", partialmethod(_without_full, Loader._open))
    full = replace(snapshot.heads[0], signal="full", head_type="full")
    both = loader.network(replace(snapshot, heads=(*snapshot.heads, full)), lean)
    assert not both.lean and "p2" in both.backbone.outputs and both.fuse is not None
    assert both.shared is lean.shared
    shown = {"image": as_grey(image([(1, 2)], [(7, 7)]))[None, None]}
    assert np.allclose(both.fuse.run(both.backbone.run(shown))["fused"], lean.backbone.run(shown)["fused"])
    back = loader.network(snapshot, both)
    assert back.lean and back.fuse is None


def _without_full(self: Loader, real: Any, name: str, *shapes: Any) -> Session:
    """A toy store has no graph of full heads."""
    return ScriptedSession((), (), dict) if name == "full.onnx" else real(self, name, *shapes)


def test_heads_come_and_go_without_a_graph_being_built(toys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.open(toys.path, arbitrate=False) as engine:
        shown = image([(1, 2)], [(7, 7)])
        assert len(engine.detect_image(shown)) == 2
        add_head(toys, "third", 200)
        monkeypatch.setattr("engine.loading.open_session", lambda *given: pytest.fail("a graph was built"))
        assert engine.refresh()
        assert [d.signal for d in engine.detect_image(shown)].count("third") == 1
        assert not engine.refresh()


def test_more_heads_than_places_load_the_graph_with_more_room(toys: Store) -> None:
    with Engine.open(toys.path, arbitrate=False) as engine:
        for number in range(16):
            add_head(toys, f"more_{number:02}", 200)
        assert engine.refresh()
        assert len(engine.detect_image(image([(1, 2)]))) == 17  # the faint one has nothing to say


def test_a_promotion_and_a_rollback_reach_a_running_engine(toys: Store) -> None:
    second = add_head(toys, "bright", 130)
    with Engine.open(toys.path, signals=["bright"]) as engine:
        shown = image([(1, 2)], [(7, 7), (10, 3)])
        assert [d.version for d in engine.detect_image(shown)] == [1]
        toys.promote("bright", second, "for the test")
        assert engine.refresh()
        assert [d.version for d in engine.detect_image(shown)] == [2, 2]
        toys.rollback("bright")
        assert engine.refresh()
        assert [d.version for d in engine.detect_image(shown)] == [1]


def test_another_version_than_the_active_one_can_be_run(toys: Store) -> None:
    second = add_head(toys, "bright", 130)
    with Engine.open(toys.path, versions={"bright": second}) as engine:
        assert engine.snapshot.versions == {"bright": 2, "faint": 1}


def test_one_head_answers_for_a_burst_unless_all_are_asked_for(toys: Store) -> None:
    add_head(toys, "rival", 200)
    with Engine.open(toys.path, arbitrate=False) as engine, Engine.open(toys.path) as arbitrating:
        shown = image([(1, 2)])
        assert sorted(d.signal for d in engine.detect_image(shown)) == ["bright", "rival"]
        assert len(arbitrating.detect_image(shown)) == 1


@pytest.mark.parametrize(
    "bad", [np.zeros((1024, 1023), np.uint8), np.zeros((1024, 1024)), np.full((1024, 1024), 2, np.float32), "image"]
)
def test_what_is_no_image_is_refused(toys: Store, bad: object) -> None:
    with Engine.open(toys.path) as engine, pytest.raises(InputError, match="hand over"):
        engine.detect_image(bad)  # type: ignore[arg-type]


def test_stacked_shapes_are_those_of_one_head_times_the_count() -> None:
    assert batched(COMPACT, 5)["hidden.weight"] == (5, *COMPACT["hidden.weight"])
