"""Weights files and anchors: damage and malice are refused with the file, and the tensor, named."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from torchvision.models.detection.rpn import AnchorGenerator

from engine.anchors import STOCK, Anchors
from engine.errors import HydraError, StoreError
from engine.heads import FULL, TENSORS
from engine.store import weights
from engine.store.registry import Store
from engine.store.weights import read_weights

# a head type with two small tensors: what is tested here does not depend on size
FLAT = Anchors((16, 32, 64, 128, 256), (0.125, 1.0, 8.0))
SMALL = {"a": (2, 3), "b": (4,)}
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


@pytest.fixture(autouse=True)
def small_head_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TENSORS", {**TENSORS, "small": SMALL})


def entry(shape: tuple[int, ...], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


GOOD = {"a": entry((2, 3), 0, 24), "b": entry((4,), 24, 40)}


def packed(header: Mapping[str, Any] | bytes, data: bytes = bytes(40), length: int | None = None) -> bytes:
    """A safetensors file by hand: eight bytes of length, the header, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def read(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    return read_weights(path, "small")


def test_weights_are_read_as_float32_whatever_they_are_kept_in(tmp_path: Path) -> None:
    half = np.arange(6, dtype=np.float16).reshape(2, 3)
    found = read(tmp_path, save({"b": np.ones(4, np.float32), "a": half}))
    assert list(found) == ["a", "b"]
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in found.values())
    assert np.array_equal(found["a"], half)


def test_a_file_made_by_hand_is_read(tmp_path: Path) -> None:
    text = json.dumps({"__metadata__": {"made": "by hand"}, **GOOD}).encode() + b"   "  # padding is allowed behind
    found = read(tmp_path, packed(text, np.arange(10, dtype="<f4").tobytes()))
    assert found["b"].tolist() == [6, 7, 8, 9]


good = json.dumps(GOOD).encode()
ATTACKS = {
    "empty file": b"",
    "shorter than a length": b"\0\0\0\0",
    "length without header": struct.pack("<Q", 10),
    "header of 2^64 - 1 bytes": packed(GOOD, length=2**64 - 1),
    "header of 2^63 bytes": packed(GOOD, length=2**63),
    "header longer than the file": packed(GOOD, length=10_000),
    "header that ends inside": packed(GOOD, length=len(good) - 4),
    "header of no length": packed(GOOD, length=0),
    "negative offset": packed({**GOOD, "a": entry((2, 3), -24, 0)}),
    "stop before start": packed({**GOOD, "a": entry((2, 3), 24, 0)}),
    "overlap": packed({"a": entry((2, 3), 0, 24), "b": entry((4,), 20, 36)}, bytes(36)),
    "one inside the other": packed({"a": entry((2, 3), 0, 24), "b": entry((4,), 0, 16)}, bytes(24)),
    "hole": packed({"a": entry((2, 3), 0, 24), "b": entry((4,), 32, 48)}, bytes(48)),
    "hole at the start": packed({"a": entry((2, 3), 8, 32), "b": entry((4,), 32, 48)}, bytes(48)),
    "offset behind the end": packed({"a": entry((2, 3), 0, 24), "b": entry((4,), 2**62, 2**62 + 16)}),
    "data behind the last tensor": packed(GOOD, bytes(48)),
    "fractional offset": packed({**GOOD, "a": entry((2, 3), 0.0, 24.0)}),  # type: ignore[arg-type]
    "three offsets": packed({**GOOD, "a": {**entry((2, 3), 0, 24), "data_offsets": [0, 12, 24]}}),
    "shape that overflows": packed({**GOOD, "a": entry((2**62, 2**62), 0, 24)}),
    "negative shape": packed({**GOOD, "a": entry((-2, -3), 0, 24)}),
    "offsets that do not fit the shape": packed({"a": entry((2, 3), 0, 20), "b": entry((4,), 20, 36)}, bytes(36)),
    "tensor named twice, alike": packed(good[:-1] + b', "a": ' + json.dumps(GOOD["a"]).encode() + b"}"),
    "tensor named twice": packed(good[:-1] + b', "a": ' + json.dumps(entry((2, 3), 40, 64)).encode() + b"}", bytes(64)),
    "key twice inside": packed(good.replace(b'"dtype"', b'"dtype": "F32", "dtype"', 1)),
    "not UTF-8": packed(good.replace(b'"a"', b'"\xff"')),
    "UTF-16": packed(good.decode().encode("utf-16-le")),
    "BOM": packed(b"\xef\xbb\xbf" + good),
    "blanks before": packed(b"  " + good),
    "newline before": packed(b"\n" + good),
    "NUL behind": packed(good + b"\0\0"),
    "a list": packed(b"[1, 2]"),
    "nested without end": packed(b'{"a":' * 50_000),
    "number in a tensor's place": packed(b'{"a": 1, "b": 2}'),
    "metadata that is no text": packed({"__metadata__": {"x": [1]}, **GOOD}),
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
}


@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS)
def test_a_malformed_weights_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(StoreError, match=r"weights.safetensors: not a readable safetensors file .*; restore"):
        read(tmp_path, data)


@pytest.mark.parametrize("dtype", ["F64", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3"])
def test_other_types_than_two_floats_are_refused(tmp_path: Path, dtype: str) -> None:
    split = 6 * SIZES[dtype]
    end = split + 4 * SIZES[dtype]
    header = {"a": entry((2, 3), 0, split, dtype), "b": entry((4,), split, end, dtype)}
    with pytest.raises(StoreError, match=rf"weights.safetensors: tensor 'a' is {dtype}, not F16 or F32; restore"):
        read(tmp_path, packed(header, bytes(end)))


floats = np.zeros((2, 3), np.float32)
four = np.zeros(4, np.float32)
WRONG_SETS = {
    "missing": ({"a": floats}, r"tensor 'b' is missing, a small head has \(4,\)"),
    "none at all": ({}, "tensor 'a' is missing"),
    "one more": ({"a": floats, "b": four, "c": four}, r"tensor 'c' is \(4,\), a small head has none"),
    "renamed": ({"a": floats, "module.b": four}, "tensor 'b' is missing"),
    "turned": ({"a": floats.T.copy(), "b": four}, r"tensor 'a' is \(3, 2\), a small head has \(2, 3\)"),
    "flat": ({"a": floats.ravel(), "b": four}, r"tensor 'a' is \(6,\)"),
    "no values": ({"a": floats, "b": np.zeros((0,), np.float32)}, r"tensor 'b' is \(0,\)"),
    "no values in two": ({"a": np.zeros((0, 3), np.float32), "b": four}, r"tensor 'a' is \(0, 3\)"),
    "a number": ({"a": floats, "b": np.array(1, np.float32)}, r"tensor 'b' is \(\)"),
}


@pytest.mark.parametrize(("tensors", "message"), WRONG_SETS.values(), ids=WRONG_SETS)
def test_another_set_of_tensors_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(StoreError, match=rf"weights.safetensors: {message}.*; restore"):
        read(tmp_path, save(tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: type[np.floating[Any]]) -> None:
    bad = np.zeros(4, dtype)
    bad[3] = value
    with pytest.raises(StoreError, match=r"weights.safetensors: tensor 'b' holds NaN or infinity; restore or retrain"):
        read(tmp_path, save({"a": floats, "b": bad}))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = packed(GOOD)
    for length in range(len(whole)):
        with pytest.raises(StoreError, match=r"weights.safetensors: .* restore"):
            read(tmp_path, whole[:length])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(packed(GOOD)) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_refused_or_still_weights(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(packed(GOOD))
    for at, value in changes:
        data[at] = value
    try:
        found = read(tmp_path, bytes(data))
    except HydraError as error:
        assert "weights.safetensors" in str(error)
    else:
        assert {name: array.shape for name, array in found.items()} == SMALL
        assert all(np.isfinite(array).all() for array in found.values())


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(StoreError, match=f"{path}: not a readable safetensors file"):
            read_weights(path, "small")


def test_a_full_head_feeds_its_graph_weights_and_cells(tiny_models: Path) -> None:
    store = Store(tiny_models)
    feeds = store.head("alpha", store.release()).feeds
    assert {name: array.shape for name, array in feeds.items()} == {"cells": (5, 3, 4), **FULL}


# anchors


@pytest.mark.parametrize("anchors", [STOCK, FLAT, Anchors((8, 30, 77, 100, 999), (0.3, 1.1, 3.7))])
def test_cells_are_those_of_torchvision(anchors: Anchors) -> None:
    generator = AnchorGenerator(tuple((size,) for size in anchors.sizes), (anchors.ratios,) * 5)
    assert np.array_equal(anchors.cells(), torch.stack(generator.cell_anchors).numpy())
    assert (anchors.cells().shape, anchors.cells().dtype) == ((5, 3, 4), np.float32)


def test_anchors_survive_json() -> None:
    assert Anchors.from_json(json.loads(json.dumps(FLAT.as_json()))) == FLAT


BAD_ANCHORS: dict[str, Callable[[], object]] = {
    "four sizes": lambda: Anchors((32, 64, 128, 256)),
    "two ratios": lambda: Anchors(ratios=(0.5, 1.0)),
    "zero size": lambda: Anchors((0, 64, 128, 256, 512)),
    "negative ratio": lambda: Anchors(ratios=(-0.5, 1.0, 2.0)),
    "NaN": lambda: Anchors(ratios=(float("nan"), 1.0, 2.0)),
    "infinity": lambda: Anchors(ratios=(float("inf"), 1.0, 2.0)),
    "beyond float32": lambda: Anchors((10**400, 64, 128, 256, 512)),
    "vanishing": lambda: Anchors(ratios=(1e-300, 1.0, 2.0)),
    "text": lambda: Anchors.from_json({"sizes": "12345", "ratios": [0.5, 1, 2]}),
    "texts": lambda: Anchors.from_json({"sizes": ["1", "2", "3", "4", "5"], "ratios": [0.5, 1, 2]}),
    "truth values": lambda: Anchors.from_json({"sizes": [1, 2, 3, 4, 5], "ratios": [True, True, True]}),
    "lists": lambda: Anchors.from_json({"sizes": [[32], [64], [128], [256], [512]], "ratios": [0.5, 1, 2]}),
    "no ratios": lambda: Anchors.from_json({"sizes": [1, 2, 3, 4, 5]}),
    "null": lambda: Anchors.from_json({"sizes": None, "ratios": None}),
}


@pytest.mark.parametrize("make", BAD_ANCHORS.values(), ids=BAD_ANCHORS)
def test_anchors_that_are_none_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(StoreError, match=r"anchor.* restore the version"):
        make()
