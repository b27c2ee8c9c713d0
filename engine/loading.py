"""Graphs of a backbone release, loaded for the heads that are to run. What is loaded already is kept."""

from dataclasses import dataclass, replace

from .graphs import Shapes, read_graph, with_room
from .heads import (
    BATCHED,
    CELLS,
    COMPACT,
    DESCRIBED,
    DETECTIONS,
    FULL,
    IMAGE,
    REGIONS,
    batched,
    feature_shapes,
    fused_shape,
)
from .pipeline import Network
from .registry import Release
from .sessions.base import Session
from .sessions.open import open_session
from .snapshot import Snapshot


@dataclass(frozen=True)
class Loader:
    """Loads what a release holds into one runtime."""

    release: Release
    runtime: str = "auto"
    threads: int = 0

    def network(self, snapshot: Snapshot, have: Network | None = None) -> Network:
        """The graphs that `snapshot` needs. Those of `have` are used again, so only what is missing is built.

        Full heads need the backbone's feature maps. Where there are none, the trunk does, which is half as much work.
        """
        lean = not snapshot.full and self.release.has("trunk.onnx")
        network = have
        if network is None or network.lean != lean:
            reader = self.trunk() if lean else self.backbone()
            heads, shared, capacity = (have.heads, have.shared, have.capacity) if have else ({}, None, 0)
            network = Network(reader, heads, shared, capacity, lean=lean)
        if snapshot.full and "full" not in network.heads:
            features = feature_shapes(self.release.input_size)
            session = self._open("full.onnx", {**features, **CELLS, **FULL}, DETECTIONS)
            network = replace(network, heads={**network.heads, "full": session})
        if snapshot.compact.heads and network.shared is None:
            network = replace(network, shared=self.shared())
        if snapshot.compact.heads and not lean and network.fuse is None:
            network = replace(network, fuse=self.fuse())
        if snapshot.compact.heads and snapshot.compact.capacity != network.capacity:
            room = snapshot.compact.capacity
            session = self.compact(room)
            network = replace(network, heads={**network.heads, "compact": session}, capacity=room)
        return network

    def backbone(self) -> Session:
        """image -> p2..p6."""
        return self._open("backbone.onnx", IMAGE, feature_shapes(self.release.input_size))

    def trunk(self) -> Session:
        """image -> fused."""
        return self._open("trunk.onnx", IMAGE, fused_shape(self.release.input_size))

    def fuse(self) -> Session:
        """p2..p6 -> fused."""
        size = self.release.input_size
        return self._open("fuse.onnx", feature_shapes(size), fused_shape(size))

    def shared(self) -> Session:
        """regions, image, fused -> proposals, vectors."""
        return self._open("shared.onnx", {**REGIONS, **IMAGE, **fused_shape(self.release.input_size)}, DESCRIBED)

    def compact(self, capacity: int) -> Session:
        """proposals, vectors and the weights of so many compact heads -> boxes, scores."""
        return self._open("compact.onnx", {**DESCRIBED, **batched(COMPACT)}, BATCHED, capacity)

    def _open(self, name: str, inputs: Shapes, outputs: Shapes, room: int | None = None) -> Session:
        graph = read_graph(self.release.file(name), inputs, outputs)
        if room is not None:
            graph = with_room(graph, room, [*COMPACT, *BATCHED])
        return open_session(graph, self.runtime, self.threads)
