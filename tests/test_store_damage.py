"""The model store, damaged by hand or by a crash: refused with the file and the remedy named, never rewritten."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import WIDEBAND
from engine.engine import Engine
from engine.errors import HydraError, MismatchError, StoreError
from engine.snapshot import Snapshot
from engine.store import reader as reading
from engine.store.files import MAX_JSON_BYTES, sha256
from engine.store.folders import verified
from engine.store.registry import Store

from .tiny_store import BACKBONE_HASH, CONTRACT, add_head, copy_store, edit, overwrite, publish, tree

# damage


def test_a_folder_without_a_backbone_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no backbone here; give --models a store, or make one with `g20 extract`"):
        Store(tmp_path).release()
    with pytest.raises(StoreError, match="no backbone here"):
        publish(Store(tmp_path), "alpha")
    assert not tree(tmp_path)


JSON_DAMAGE = {
    "truncated": b'{"schema": 1, "revision": 3, "signals": {"al',
    "empty": b"",
    "zeros": bytes(100),
    "bom": b'\xef\xbb\xbf{"schema": 1, "revision": 3}',
    "utf16": '{"schema": 1, "revision": 3}'.encode("utf-16"),
    "not utf8": b'{"schema": 1, "revision": 3, "x": "\xff"}',
    "nan": b'{"schema": 1, "revision": NaN}',
    "infinity": b'{"schema": 1, "revision": -Infinity}',
    "twice": b'{"schema": 1, "revision": 3, "revision": 4}',
    "twice inside": b'{"schema": 1, "revision": 3, "signals": {"a": 1, "a": 2}}',
    "deep": b'{"schema": 1, "revision": 3, "x": ' + b"[" * 100_000,
    "a list": b"[1, 2]",
    "two documents": b'{"schema": 1, "revision": 3}{}',
    "number of 5000 digits": b'{"schema": 1, "revision": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("file", ["registry.json", "backbone/metadata.json", "heads/alpha/metadata.json"])
@pytest.mark.parametrize("content", JSON_DAMAGE.values(), ids=JSON_DAMAGE)
def test_damaged_json_is_refused_and_never_rewritten(tiny: Store, file: str, content: bytes) -> None:
    overwrite(tiny.path / file, content)
    before = tree(tiny.path)
    with pytest.raises(StoreError, match=rf"{file}: .*restore it from a copy"):
        tiny.snapshot()
    with pytest.raises(StoreError, match=file):
        publish(tiny, "beta")
    assert tree(tiny.path) == before


def test_a_huge_json_file_is_refused_unread(tiny: Store) -> None:
    path = tiny.path / "registry.json"
    os.truncate(path, 1 << 30)  # sparse: takes no space
    with pytest.raises(StoreError, match=rf"{1 << 30} bytes of JSON, at most {MAX_JSON_BYTES}"):
        tiny.revision()


@pytest.mark.parametrize("schema", [2, 99, "1", None, 0])
def test_an_index_of_another_schema_is_never_rewritten(tiny: Store, schema: Any) -> None:
    edit(tiny.path / "registry.json", schema=schema)
    before = tree(tiny.path)
    with pytest.raises(StoreError, match=r"registry.json: schema .*, this version reads 1; update"):
        publish(tiny, "alpha")
    assert tree(tiny.path) == before


@pytest.mark.parametrize("schema", [2, "1", None])
def test_a_manifest_of_another_schema_is_refused(tiny: Store, schema: Any) -> None:
    edit(tiny.path / "heads/alpha/v1/manifest.json", schema=schema)
    with pytest.raises(StoreError, match=r"alpha.v1: manifest schema .*; update"):
        tiny.snapshot()


@pytest.mark.parametrize("missing", ["manifest.json", "weights.safetensors"])
def test_a_partly_copied_version_is_refused(tiny: Store, missing: str) -> None:
    (tiny.path / "heads/alpha/v1" / missing).unlink()
    with pytest.raises(StoreError, match=rf"alpha/v1/{missing}: "):
        tiny.snapshot()
    assert tiny.snapshot(("beta",)).versions == {"beta": 1}


def test_a_half_written_weights_file_is_refused(tiny: Store) -> None:
    path = tiny.path / "heads/alpha/v1/weights.safetensors"
    overwrite(path, path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"weights.safetensors: SHA-256 .* restore the version from a copy"):
        tiny.snapshot()


@pytest.mark.parametrize("link", ["heads", "heads/alpha", "heads/alpha/v1", "heads/alpha/v1/weights.safetensors"])
def test_links_in_the_place_of_a_head_are_refused(tiny: Store, tmp_path: Path, link: str) -> None:
    path, outside = tiny.path / link, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    release, before = tiny.release(), tree(outside.parent)
    for version in (None, 1):
        with pytest.raises(StoreError, match=r"replace|restore"):
            tiny.head("alpha", release, version)
    if link in ("heads", "heads/alpha"):
        with pytest.raises(StoreError, match="replace the link by the folder itself"):
            publish(tiny, "alpha")
        assert tree(outside.parent) == before


def test_a_new_signal_is_not_published_through_a_link(tiny: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tiny.path / "heads/gamma").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="gamma: leads out of the store"):
        publish(tiny, "gamma")
    assert not tree(tmp_path / "outside")


@pytest.mark.parametrize(
    "file", ["backbone/v1/backbone.onnx", "backbone/v1/full.onnx", "heads/alpha/v1/weights.safetensors"]
)
def test_a_file_with_other_bytes_than_its_manifest_says_is_refused_with_both_hashes(tiny: Store, file: str) -> None:
    path = tiny.path / file
    expected, data = sha256(path), bytearray(path.read_bytes())
    data[-1] ^= 1
    overwrite(path, bytes(data))
    with pytest.raises(StoreError, match=rf"{file}: SHA-256 {sha256(path)} is not {expected}.*restore"):
        verified(path.parent, path.name)
    with pytest.raises(StoreError, match=sha256(path)):
        Engine.open(tiny.path, threads=1)


def test_a_file_changed_through_a_hard_link_is_noticed(tiny: Store, tmp_path: Path) -> None:
    path = tiny.path / "heads/alpha/v1/weights.safetensors"
    overwrite(path, path.read_bytes())  # a file of its own
    (tmp_path / "twin").hardlink_to(path)
    with (tmp_path / "twin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    with pytest.raises(StoreError, match="SHA-256"):
        tiny.snapshot()


MISFITS = (
    ({"backbone_hash": "cd" * 32}, "cd" * 32, BACKBONE_HASH),
    ({"contract": WIDEBAND.as_json()}, WIDEBAND.hash, CONTRACT.hash),
)


@pytest.mark.parametrize(("changes", "its", "ours"), MISFITS, ids=["backbone", "contract"])
def test_a_head_made_for_another_is_refused_with_both_hashes(
    tiny: Store, changes: dict[str, Any], its: str, ours: str
) -> None:
    edit(tiny.path / "heads/alpha/v1/manifest.json", **changes)
    with pytest.raises(MismatchError, match=rf"alpha.v1: .*{its}, the store has {ours}; retrain"):
        tiny.snapshot()


@pytest.mark.parametrize(("changes", "its", "ours"), MISFITS, ids=["backbone", "contract"])
def test_a_head_made_for_another_is_never_published(tiny: Store, changes: dict[str, Any], its: str, ours: str) -> None:
    before = tree(tiny.path)
    with pytest.raises(MismatchError, match=rf"{its}, the store has {ours}; retrain"):
        add_head(tiny, "gamma", **changes)
    assert tree(tiny.path) == before


def test_an_edited_contract_is_refused_with_both_hashes(tiny: Store) -> None:
    path = tiny.path / "backbone/v1/manifest.json"
    edited = {**CONTRACT.as_json(), "hop": 1024}
    edit(path, contract=edited)
    with pytest.raises(MismatchError, match=rf"{CONTRACT.hash} but its settings hash to [0-9a-f]{{64}}; .*restore"):
        tiny.release()


@pytest.mark.parametrize("head_type", ["compact9", "", None, ["full"], {"full": 1}])
def test_an_unknown_head_type_is_refused(tiny: Store, head_type: Any) -> None:
    edit(tiny.path / "heads/alpha/v1/manifest.json", head_type=head_type)
    with pytest.raises(StoreError, match=r"head type .* is not known, only full, compact, typed; update"):
        tiny.snapshot()


# anything at all in place of a value

REMOVED = object()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 0, 1, 1e308, 2**63, "1", "v1", "../..", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FILES = (
    "registry.json", "backbone/metadata.json", "backbone/v1/manifest.json", "heads/alpha/metadata.json",
    "heads/alpha/v1/manifest.json",
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), st.integers(0, 10_000), st.just(REMOVED) | values)
def test_any_value_in_place_of_another_is_refused_or_harmless(
    light: Path, tmp_path: Path, file: str, where: int, value: Any
) -> None:
    """Nothing but errors of our own come out, each with a remedy; else the store is as good as before."""
    with TemporaryDirectory(dir=tmp_path) as folder:
        store = copy_store(light, Path(folder) / "models")
        document = json.loads((store.path / file).read_text())
        spots = list(_spots(document))
        container, key = spots[where % len(spots)]
        if value is REMOVED:
            del container[key]
        else:
            container[key] = value
        overwrite(store.path / file, json.dumps(document))
        for use in (store.snapshot, lambda: publish(store, "alpha")):
            try:
                assert isinstance(use(), Snapshot | int)
            except HydraError as error:
                assert any(word in str(error) for word in ("restore", "update", "retrain", "make one", "does not know"))


def _spots(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON document."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _spots(document[key])


@pytest.fixture
def light(tiny: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with weights of five bytes, which are not read: this is about what the JSON says."""
    monkeypatch.setattr(reading, "read_weights", lambda path, head_type: {})
    for weights in tiny.path.glob("heads/*/v1/weights.safetensors"):
        overwrite(weights, b"light")
        edit(weights.with_name("manifest.json"), files={weights.name: sha256(weights)})
    return tiny.path


@pytest.mark.parametrize("nms_iou", [0, -0.1, 0.51, True, None, "0.2", [0.2]])
def test_an_overlap_that_no_head_can_have_is_refused(tiny: Store, nms_iou: Any) -> None:
    edit(tiny.path / "heads/alpha/v1/manifest.json", nms_iou=nms_iou)
    with pytest.raises(StoreError, match=r"alpha.v1: nms_iou is .*, not above 0 and up to 0.5; restore"):
        tiny.snapshot()
