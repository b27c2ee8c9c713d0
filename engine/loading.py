"""Graphs of a backbone release, loaded for the heads that are to run. What is loaded already is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Final

from .devices.base import Device
from .devices.cpu import Cpu
from .devices.machine import cores
from .errors import MismatchError, UnavailableError
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
from .second_look.model import LookModel, read_look
from .sessions.base import Session
from .sessions.choice import AUTO, FLOAT32, Choice, chosen
from .sessions.graphs import Shapes, read_graph, with_room
from .sessions.half import half_graph
from .sessions.open import open_session
from .snapshot import Snapshot
from .store.release import LOOK, BackboneRelease

TRUNKS: Final = {"float32": "trunk.onnx", "int8": "trunk.int8.onnx", "float16": "trunk.onnx"}  # the last is changed
GRIDDED: Final = ("tensorrt", "tensorrt_rtx")  # runtimes that take the shared layers without RoiAlign


@dataclass(frozen=True)
class Loader:
    """Loads what a release holds into one runtime. `precision` is that of the trunk; all else is float32."""

    release: BackboneRelease
    runtime: str = AUTO
    threads: int = 0
    precision: str = FLOAT32
    device: Device = field(default_factory=Cpu)

    @cached_property
    def choice(self) -> Choice:
        """Runtime and precision on this machine; see `engine.sessions.choice`."""
        return chosen(self.runtime, self.precision, self.release.backbone_hash, kind=self.device.kind)

    def network(self, snapshot: Snapshot, have: Network | None = None) -> Network:
        """The graphs that `snapshot` needs. Those of `have` are used again, so only what is missing is built.

        Full heads need the backbone's feature maps. Where there are none, the trunk does, which is half as much work.
        """
        lean = not snapshot.full and self.release.has("trunk.onnx")
        network = have
        if network is None or network.lean != lean:
            reader = self.trunk() if lean else self.backbone()
            heads, shared, capacity = (have.heads, have.shared, have.capacity) if have else ({}, None, 0)
            precision = self.choice.precision if lean else FLOAT32
            network = Network(reader, heads, shared, capacity, lean=lean, precision=precision)
        if snapshot.full and "full" not in network.heads:
            features = feature_shapes(self.release.input_size)
            session = self._open("full.onnx", {**features, **CELLS, **FULL}, DETECTIONS)
            network = replace(network, heads={**network.heads, "full": session})
        if (snapshot.compact.heads or snapshot.typed.heads) and network.shared is None:
            network = replace(network, shared=self.shared())
        if snapshot.typed.heads and network.look is None:
            network = replace(network, look=self.look())
        if network.shared is not None and not lean and network.fuse is None:
            network = replace(network, fuse=self.fuse())
        if snapshot.compact.heads and snapshot.compact.capacity != network.capacity:
            room = snapshot.compact.capacity
            session = self.compact(room)
            network = replace(network, heads={**network.heads, "compact": session}, capacity=room)
        return network

    def backbone(self) -> Session:
        """image -> p2..p6. Raises UnavailableError in any precision but float32."""
        if self.precision != FLOAT32:
            raise UnavailableError("full heads run in float32 only; leave --precision out, or choose compact signals")
        if self.choice.runtime in GRIDDED:
            raise UnavailableError("full heads do not run in TensorRT; take --runtime onnxruntime")
        return self._open("backbone.onnx", IMAGE, feature_shapes(self.release.input_size))

    def trunk(self) -> Session:
        """image -> fused. Raises UnavailableError where the release does not have it in the precision asked for."""
        name = TRUNKS[self.choice.precision]
        if not self.release.has(name):
            raise UnavailableError(f"{self.release.folder} holds no trunk in {self.choice.precision}; take float32")
        size = self.release.input_size
        change = partial(half_graph, size=size) if self.choice.precision == "float16" else bytes
        return self._open(name, IMAGE, fused_shape(size), change)

    def fuse(self) -> Session:
        """p2..p6 -> fused."""
        size = self.release.input_size
        return self._open("fuse.onnx", feature_shapes(size), fused_shape(size))

    def shared(self) -> Session:
        """regions, image, fused -> proposals, vectors."""
        name = "shared.grid.onnx" if self.choice.runtime in GRIDDED else "shared.onnx"
        if not self.release.has(name):
            raise UnavailableError(f"{self.release.folder} holds no {name}; use --runtime onnxruntime")
        return self._open(name, {**REGIONS, **IMAGE, **fused_shape(self.release.input_size)}, DESCRIBED)

    def look(self) -> LookModel:
        """Constants of the second look. Raises UnavailableError on a GPU, StoreError where the release has none."""
        if self.device.kind != "cpu":
            raise UnavailableError(f"typed heads run on the CPU only, not on {self.device.name}; take --device cpu")
        model = read_look(self.release.file(LOOK).read_bytes(), str(self.release.folder / LOOK))
        if model.contract_hash != self.release.contract.hash:
            raise MismatchError(
                f"{self.release.folder / LOOK}: made for front-end contract {model.contract_hash}, the release has "
                f"{self.release.contract.hash}; restore the release from a copy"
            )
        return model

    def compact(self, capacity: int) -> Session:
        """proposals, vectors and the weights of so many compact heads -> boxes, scores."""
        change = partial(with_room, capacity=capacity, ports=[*COMPACT, *BATCHED])
        return self._open("compact.onnx", {**DESCRIBED, **batched(COMPACT)}, BATCHED, change)

    def _open(self, name: str, inputs: Shapes, outputs: Shapes, change: Callable[[bytes], bytes] = bytes) -> Session:
        graph = change(read_graph(self.release.file(name), inputs, outputs))
        return open_session(graph, self.choice.runtime, self.threads or cores(), self.device)
