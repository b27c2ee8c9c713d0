"""Numbers and texts of metadata, history and index that no writer writes: refused with the field and the remedy."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.cli.main import app
from engine.errors import HydraError, StoreError
from engine.store.files import read_json
from engine.store.folders import MOST_VERSION, versions_in
from engine.store.registry import Store

from .tiny_store import add_compact, copy_store, edit, overwrite, tree

METADATA = "heads/alpha/metadata.json"

# numbers that JSON can hold and arithmetic cannot


@pytest.mark.parametrize(
    "number", ["1" + "0" * 400, "-1" + "0" * 400, "9" * 5000, str(1 << 63), "1e999", "-1e999", "1" * 400 + ".0"]
)
@pytest.mark.parametrize("file", ["registry.json", "backbone/metadata.json", METADATA])
def test_a_number_beyond_64_bits_or_float_is_refused_with_the_file(small: Store, file: str, number: str) -> None:
    overwrite(small.path / file, (small.path / file).read_text().replace("{", f'{{"extra": {number}, ', 1))
    for use in (small.snapshot, small.signals if file == "registry.json" else small.index):
        with pytest.raises(StoreError, match=rf"{file}: cannot be read as JSON .*restore it from a copy"):
            use()


def test_the_largest_number_of_64_bits_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(f'{{"most": {(1 << 63) - 1}, "least": {1 - (1 << 63)}, "float": 1e308}}')
    assert read_json(tmp_path / "x.json") == {"most": (1 << 63) - 1, "least": 1 - (1 << 63), "float": 1e308}


def test_half_a_surrogate_pair_is_refused_and_a_whole_one_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"notes": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "x.json") == {"notes": "\U0001f600"}
    (tmp_path / "x.json").write_text('{"notes": "\\ud83d"}')
    with pytest.raises(StoreError, match=r"cannot be read as JSON .*surrogates"):
        read_json(tmp_path / "x.json")


# fields of a version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0), ("version", -1), ("version", MOST_VERSION + 1), ("version", 1.0), ("version", True),
        ("sample_count", -1), ("sample_count", 1.5), ("sample_count", 10**16), ("sample_count", "12"),
        ("epochs_trained", True), ("training_time_sec", -0.1), ("training_time_sec", 1e16), ("learning_rate", "fast"),
        ("parent_version", 0), ("backbone_version", MOST_VERSION + 1), ("created_at", 5), ("promoted_at", ["now"]),
        ("promotion_reason", {"why": 1}), ("weights_removed_at", 0), ("notes", False), ("pinned", 1),
        ("early_stopped", "yes"), ("metrics", [1]), ("metrics", {"f1_score": 1.01}), ("metrics", {"precision": -0.1}),
        ("metrics", {"recall": "0.5"}), ("metrics", {"val_loss": 1e300}), ("metrics", {"f1_score": True}),
    ],
)  # fmt: skip
def test_a_field_of_a_version_that_is_out_of_bounds_is_refused(small: Store, field: str, value: Any) -> None:
    path = small.path / METADATA
    (entry,) = json.loads(path.read_text())["versions"]
    edit(path, versions=[{**entry, field: value}])
    before = tree(small.path)
    for use in (small.snapshot, small.index, lambda: small.history("alpha"), lambda: small.pin("alpha", 1)):
        with pytest.raises(StoreError, match=r"alpha/metadata\.json: .*restore"):
            use()
    assert tree(small.path) == before
    assert small.check()


@pytest.mark.parametrize("info", [{"metrics": {"f1_score": float("nan")}}, {"sample_count": 1e999}, {"notes": 3}])
def test_what_could_not_be_read_again_is_never_published(small: Store, info: dict[str, Any]) -> None:
    before = tree(small.path)
    for signal in ("alpha", "gamma"):
        with pytest.raises(StoreError, match=rf"{signal}/metadata\.json: version \d: "):
            add_compact(small, signal, None, info=info)
    assert tree(small.path) == before


def test_folders_whose_numbers_no_version_has_are_no_versions(tmp_path: Path) -> None:
    for name in ("v0", "v01", "v-1", "v1.bak", "v²", "v٣", "v" + "9" * 200, f"v{MOST_VERSION + 1}", "v7"):
        (tmp_path / name).mkdir()
    assert versions_in(tmp_path) == [7]


def test_a_store_whose_numbers_are_used_up_says_so(small: Store) -> None:
    path = small.path / METADATA
    (entry,) = json.loads(path.read_text())["versions"]
    edit(path, versions=[entry, {**entry, "version": MOST_VERSION, "is_active": False}])
    with pytest.raises(StoreError, match=f"version {MOST_VERSION} is the last number there is"):
        add_compact(small, "alpha")


@pytest.mark.parametrize("name", ["../v1/manifest.json", "a/b", "x" * 300, "\0", "", ".hidden"])
def test_a_file_name_in_a_manifest_that_leads_elsewhere_is_refused(small: Store, name: str) -> None:
    edit(small.path / "heads/alpha/v1/manifest.json", files={name: "00"})
    assert any("no file name; restore" in problem.what for problem in small.check())


@pytest.mark.parametrize("signals", [None, [], {"../x": {}}, {"": {}}, "alpha"])
def test_an_index_whose_signals_are_none_is_refused_and_made_anew(small: Store, signals: Any) -> None:
    edit(small.path / "registry.json", signals=signals)
    with pytest.raises(StoreError, match=r"registry\.json: signals is .*make it anew by `g20 store check --repair`"):
        small.snapshot()
    small.repair()
    assert small.snapshot().versions == {"alpha": 1, "beta": 1}


# anything at all in place of a value

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(
        [
            10**400,
            -(10**400),
            2**63,
            2**53,
            2**31,
            0,
            -1,
            1e308,
            "\ud800",
            "[/]",
            "9999-12-31T23:59:59-14:00",
            "x" * 300,
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FILES = ("registry.json", "backbone/metadata.json", METADATA, "heads/alpha/v1/manifest.json")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), st.integers(0, 10_000), VALUES)
def test_no_value_in_place_of_another_ends_in_anything_but_an_error_of_our_own(
    small_models: Path, tmp_path: Path, file: str, where: int, value: Any
) -> None:
    with TemporaryDirectory(dir=tmp_path) as folder:
        store = copy_store(small_models, Path(folder) / "models")
        document = json.loads((store.path / file).read_text())
        spots = list(_spots(document))
        container, key = spots[where % len(spots)]
        container[key] = value
        overwrite(store.path / file, json.dumps(document))
        assert isinstance(store.check(), list)
        for use in (
            store.signals, store.index, store.snapshot, store.incompatible, lambda: store.history("alpha"),
            lambda: store.probe(16), lambda: add_compact(store, "alpha"), lambda: store.rollback("alpha"),
            lambda: store.promote("alpha", 2, "better"), store.reset, store.repair,
        ):  # fmt: skip
            try:
                use()
            except HydraError as error:
                assert isinstance(error, StoreError), error
        for words in (["versions"], ["versions", "alpha"], ["store", "check"]):
            done = CliRunner().invoke(app, [*words, "--models", str(store.path)])
            assert done.exception is None or isinstance(done.exception, StoreError | SystemExit), done.exception


def _spots(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON document."""
    keys = list(document) if isinstance(document, dict) else range(len(document))
    found = [(document, key) for key in keys]
    return found + [s for key in keys if isinstance(document[key], dict | list) for s in _spots(document[key])]
