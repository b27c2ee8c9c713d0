"""Legacy checkpoints: exactly the detector's tensors are taken, and nothing in the file is ever run."""

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from engine.errors import CheckpointError
from network import checkpoint
from network.checkpoint import read_checkpoint
from network.detector import Tensors, detector, freeze_norms, split

A_KEY = "rpn.head.conv.0.0.bias"
SCORES = "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(scope="session")
def model() -> FasterRCNN:
    torch.manual_seed(0)
    return detector()


@pytest.fixture(autouse=True)
def one_model_for_all(model: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader asks for an untrained detector each time; its shapes are what counts."""
    monkeypatch.setattr(checkpoint, "detector", lambda: model)


@pytest.fixture
def state(model: FasterRCNN) -> Tensors:
    """All keys and shapes of the detector over one zero each: a file of some 30 kB instead of 113 MB."""
    return {key: torch.zeros(1, dtype=t.dtype).expand(t.shape) for key, t in model.state_dict().items()}


def saved(folder: Path, what: Any, **options: Any) -> Path:
    torch.save(what, folder / "old.pth", **options)
    return folder / "old.pth"


def full(state: Tensors, key: str, value: float, dtype: torch.dtype = torch.float32) -> Tensors:
    """The state with one tensor of other values."""
    return {**state, key: torch.full(state[key].shape, value, dtype=dtype)}


def test_the_detector_splits_into_the_counts_of_the_specification(model: FasterRCNN) -> None:
    backbone, head = split(model.state_dict())
    assert (len(backbone), sum(t.numel() for t in backbone.values())) == (116, 13_793_216)
    assert (len(head), sum(t.numel() for t in head.values())) == (14, 14_499_865)
    assert set(backbone) | set(head) == set(model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_checkpoint_is_read_as_float32(tmp_path: Path, model: FasterRCNN, dtype: torch.dtype) -> None:
    kept = {key: tensor.to(dtype) for key, tensor in model.state_dict().items()}
    found = read_checkpoint(saved(tmp_path, kept))
    assert list(found) == list(model.state_dict())
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert all(torch.equal(found[key], kept[key].float()) for key in kept)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (OrderedDict, {}),
        (lambda s: dict(reversed(s.items())), {}),
        (lambda s: {key: nn.Parameter(tensor) for key, tensor in s.items()}, {}),
        (lambda s: s, {"_use_new_zipfile_serialization": False}),
    ],
    ids=["ordered dict", "other order", "parameters", "format before torch 1.6"],
)
def test_every_usual_way_of_saving_is_read(
    tmp_path: Path, state: Tensors, change: Callable[[Tensors], Any], options: dict[str, Any]
) -> None:
    found = read_checkpoint(saved(tmp_path, change(state), **options))
    assert {key: tensor.shape for key, tensor in found.items()} == {key: tensor.shape for key, tensor in state.items()}


# nothing is run


class Malice:
    """Unpickling it without care runs a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("way", ["zip", "legacy", "pickle", "inside", "as a key", "protocol 0"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, state: Tensors, way: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / "old.pth"
    malice = Malice(proof)
    match way:
        case "zip":
            torch.save(malice, path)
        case "legacy":
            torch.save(malice, path, _use_new_zipfile_serialization=False)
        case "pickle":
            path.write_bytes(pickle.dumps(malice, 2))
        case "inside":
            torch.save({**state, A_KEY: malice}, path)
        case "as a key":
            torch.save({**state, "hooks": [malice]}, path)
        case _:
            path.write_bytes(pickle.dumps(malice, 0))
    with pytest.raises(CheckpointError, match=r"old.pth: not a checkpoint of plain tensors .*; save model") as told:
        read_checkpoint(path)
    assert not proof.exists()
    assert "system" in str(told.value)
    assert "weights_only" not in str(told.value)  # no advice to load it without care


@pytest.mark.parametrize(
    "what",
    [nn.Linear(2, 2), {"model": nn.Linear(2, 2)}, {"args": Path("x")}, {"a": np.float64(3)}, {"a": np.zeros(2)}, print],
    ids=["a model", "a model inside", "a path", "a NumPy number", "a NumPy array", "a function"],
)
def test_what_needs_a_full_unpickler_is_refused_without_trying_one(tmp_path: Path, what: Any) -> None:
    with pytest.raises(CheckpointError, match=r"old.pth: .*save model.state_dict"):
        read_checkpoint(saved(tmp_path, what))


# bombs and rubble


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, state: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(torch, "load", None)  # nobody may get that far
    path = saved(tmp_path, state)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("old/data/999", bytes(2 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match=r"old.pth: unpacks to \d{7} bytes, at most 1048576 are read; save"):
        read_checkpoint(path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.touch()
    os.truncate(path, checkpoint.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(CheckpointError, match=r"old.pth: unpacks to \d+ bytes, at most"):
        read_checkpoint(path)


def test_a_storage_larger_than_its_data_is_refused(tmp_path: Path) -> None:
    """A kilobyte that speaks of 2^45 values, in both formats."""
    for new in (True, False):
        path = saved(tmp_path, {"a": torch.zeros(77_777)}, _use_new_zipfile_serialization=new)
        old, lie = b"J" + (77_777).to_bytes(4, "little"), b"\x8a\x06" + (1 << 45).to_bytes(6, "little")
        if new:
            with zipfile.ZipFile(path) as archive:
                parts = {name: archive.read(name) for name in archive.namelist()}
            assert old in parts["old/data.pkl"]
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in parts.items():
                    archive.writestr(name, data.replace(old, lie) if name.endswith(".pkl") else data)
        else:
            path.write_bytes(path.read_bytes().replace(old, lie))
        with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "data", [b"", b"no checkpoint\n", bytes(100), b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80"]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "old.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"old.pth: not a checkpoint of plain tensors .*; save model.state_dict"):
        read_checkpoint(tmp_path / "old.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(CheckpointError, match=f"{path}: cannot be read .*; check name and rights"):
            read_checkpoint(path)


@pytest.mark.parametrize("new", [True, False])
def test_damaged_bytes_are_refused_with_an_error_of_ours(tmp_path: Path, state: Tensors, new: bool) -> None:
    few = dict(list(state.items())[:4])
    path = saved(tmp_path, few, _use_new_zipfile_serialization=new)
    good, rng = path.read_bytes(), random.Random(3)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(3):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"old.pth: "):  # too few keys even where it can be read
            read_checkpoint(path)


# other tensors


def renamed(state: Tensors, old: str, new: str) -> Tensors:
    return {new if key == old else key: tensor for key, tensor in state.items()}


ONLY = "only torchvision's fasterrcnn with resnet18-FPN and 2 classes"
WRONG: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "missing": (lambda s: {k: t for k, t in s.items() if k != A_KEY}, f"missing key '{A_KEY}'; {ONLY}"),
    "extra": (lambda s: {**s, "epoch_mean": s[A_KEY]}, f"unknown key 'epoch_mean'; {ONLY}"),
    "renamed": (lambda s: renamed(s, A_KEY, "rpn.head.conv.bias"),
        f"unknown key 'rpn.head.conv.bias', missing key '{A_KEY}'; {ONLY}"),
    "key that is no text": (lambda s: {**s, 7: s[A_KEY]}, "unknown key '7'"),
    "DataParallel": (lambda s: {f"module.{k}": t for k, t in s.items()},
        r"unknown key 'module.* and 129 more, .*; saved from DataParallel: save model.module.state_dict\(\)"),
    "lies deeper": (lambda s: {"model": s, "epoch": 3}, "unknown key 'epoch' and 1 more.* lies deeper in this file"),
    "batch norm": (lambda s: {**s, "backbone.body.bn1.num_batches_tracked": torch.tensor(3)},
        "num_batches_tracked'; trained with BatchNorm2d: freeze the norms first"),
    "a list": (lambda s: list(s.values()), r"holds a list, not a state dict; save model.state_dict"),
    "a tensor": (lambda s: s[A_KEY], "holds a Tensor, not a state dict"),
    "empty": (lambda s: {}, "holds a dict, not a state dict"),
    "nothing": (lambda s: None, "holds a NoneType, not a state dict"),
    "91 classes": (lambda s: {**s, SCORES: torch.zeros(91, 1024)}, rf"{SCORES} is \[91, 1024\], expected \[2, 1024\]"),
    "turned": (lambda s: {**s, SCORES: s[SCORES].T}, rf"{SCORES} is \[1024, 2\], expected \[2, 1024\]; {ONLY}"),
    "no dimensions": (lambda s: {**s, A_KEY: torch.tensor(0.0)}, rf"{A_KEY} is \[\], expected \[256\]"),
    "NaN": (lambda s: full(s, A_KEY, float("nan")), f"{A_KEY} holds NaN or infinity; the training .* diverged"),
    "infinity": (lambda s: full(s, SCORES, float("inf")), f"{SCORES} holds NaN or infinity"),
    "whole numbers": (lambda s: full(s, A_KEY, 1, torch.int64), f"{A_KEY} is torch.int64; save .* as float32"),
    "doubles": (lambda s: full(s, A_KEY, 1, torch.float64), f"{A_KEY} is torch.float64; save .* as float32"),
    "complex": (lambda s: full(s, A_KEY, 1, torch.complex64), f"{A_KEY} is torch.complex64; save"),
    "a number": (lambda s: {**s, A_KEY: 3.0}, f"{A_KEY} is a float, not a dense tensor; {ONLY}"),
    "sparse": (lambda s: {**s, A_KEY: torch.zeros(256).to_sparse()}, f"{A_KEY} is a Tensor, not a dense tensor"),
    "without data": (lambda s: {**s, A_KEY: torch.zeros(256, device="meta")}, f"{A_KEY} is a Tensor, not a dense"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_other_tensors_are_refused_with_key_and_remedy(
    tmp_path: Path, state: Tensors, change: Callable[[Tensors], Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"old.pth: .*{message}"):
        read_checkpoint(saved(tmp_path, change(state)))


def test_a_network_trained_with_batch_norm_is_read_once_its_norms_are_frozen(tmp_path: Path, state: Tensors) -> None:
    counted = {**state, "backbone.body.bn1.num_batches_tracked": torch.tensor(3)}
    assert set(read_checkpoint(saved(tmp_path, freeze_norms(counted)))) == set(state)
