"""RoIAlign as a grid of sample points: what torchvision's gives, at the edges and beyond them too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.heads import FUSED, IMAGE, PROPOSALS, fused_shape
from engine.sessions.open import open_session
from export.to_onnx import grid_graph, shared_graph
from network.pooling import grid_align, plain_align
from network.shared import SharedLayers

INPUT = (64, 96)
SAME = 2e-4  # of values about 1: two ways of adding the same products in single precision
SHAPES = ((7, 7), (32, 2), (2, 32), (10, 10))


def rois(boxes: list[tuple[float, float, float, float]]) -> torch.Tensor:
    return torch.tensor([(0.0, *box) for box in boxes])


@pytest.mark.parametrize("shape", SHAPES)
def test_it_pools_what_torchvision_pools(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    features = torch.randn(1, 3, 40, 60)
    corners = torch.rand(50, 2, 2) * torch.tensor([300.0, 220.0]) - 30
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    given_rois = torch.cat([torch.zeros(50, 1), boxes], dim=1)
    ours = grid_align(features, given_rois, shape, 0.25, 2)
    theirs = plain_align(features, given_rois, shape, 0.25, 2)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < SAME


side = st.floats(-400, 400, width=32)
long = st.floats(0, 800, width=32)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(side, side, long, long), min_size=1, max_size=4))
def test_boxes_of_no_size_outside_and_larger_than_the_map_are_no_exception(
    places: list[tuple[float, float, float, float]],
) -> None:
    features = torch.linspace(-1, 1, 2 * 20 * 30).reshape(1, 2, 20, 30)
    boxes = rois([(x, y, x + width, y + height) for x, y, width, height in places])
    ours = grid_align(features, boxes, (7, 7), 0.25, 2)
    theirs = plain_align(features, boxes, (7, 7), 0.25, 2)
    # a point on the very border between inside and outside may fall on either side of it
    assert ((ours - theirs).abs() < SAME).float().mean() > 0.98


def test_the_shared_layers_without_roialign_say_the_same() -> None:
    torch.manual_seed(2)
    shared = SharedLayers(INPUT).eval()
    rng = np.random.default_rng(3)
    regions = rng.uniform(0, 900, (PROPOSALS, 4)).astype(np.float32)
    regions[:, 2:] = regions[:, :2] + rng.uniform(2, 120, (PROPOSALS, 2))
    regions[-20:] = 0  # padding
    fed = {
        "regions": regions,
        "image": rng.random(IMAGE["image"], np.float32),
        "fused": rng.standard_normal(fused_shape(INPUT)["fused"]).astype(np.float32),
    }
    assert fed["fused"].shape[1] == FUSED
    plain, gridded = (open_session(graph, threads=1) for graph in (shared_graph(shared), grid_graph(shared)))
    first, second = plain.run(fed), gridded.run(fed)
    assert abs(first["proposals"] - second["proposals"]).max() < 0.01  # pixels of 1024
    assert abs(first["vectors"] - second["vectors"]).max() < 1e-3 * abs(first["vectors"]).max()
