"""The runtime that `auto` resolves to: the one measured here and remembered, else ONNX Runtime; never the precision."""

import json
from pathlib import Path

import pytest

from engine.errors import UnavailableError
from engine.sessions import choice
from engine.sessions.choice import PLAIN, Choice, chosen, remember

HASH = "ab" * 32
FAST = Choice("openvino", "float32")


def test_without_a_measurement_auto_is_onnx_runtime_in_float32(tmp_path: Path) -> None:
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN == Choice("onnxruntime", "float32")


def test_what_was_measured_is_taken_for_this_release_alone(tmp_path: Path) -> None:
    remember(FAST, HASH, tmp_path)
    assert chosen("auto", "float32", HASH, tmp_path) == FAST
    assert chosen("auto", "float32", "cd" * 32, tmp_path) == PLAIN
    remember(PLAIN, HASH, tmp_path)
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN


def test_another_machine_or_set_of_runtimes_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(FAST, HASH, tmp_path)
    with monkeypatch.context() as changed:
        changed.setattr(choice, "describe_cpu", lambda: "another processor")
        assert chosen("auto", "float32", HASH, tmp_path) == PLAIN
    monkeypatch.setattr(choice, "installed", lambda: {"onnxruntime": "99"})
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN


@pytest.mark.parametrize("measured", ["float32", "int8"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("runtime", ["auto", "onnxruntime", "openvino"])
def test_no_measurement_changes_the_precision_that_was_asked_for(
    tmp_path: Path, measured: str, precision: str, runtime: str
) -> None:
    remember(Choice("openvino", measured), HASH, tmp_path)
    assert chosen(runtime, precision, HASH, tmp_path).precision == precision


def test_what_was_measured_in_one_precision_says_nothing_about_another(tmp_path: Path) -> None:
    remember(Choice("openvino", "int8"), HASH, tmp_path)
    assert chosen("auto", "int8", HASH, tmp_path) == Choice("openvino", "int8")
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN


def test_a_runtime_that_was_named_is_never_replaced(tmp_path: Path) -> None:
    remember(FAST, HASH, tmp_path)
    assert chosen("onnxruntime", "float32", HASH, tmp_path) == PLAIN


def test_choices_of_earlier_versions_with_a_precision_in_them_are_not_taken(tmp_path: Path) -> None:
    remember(FAST, HASH, tmp_path)
    path = tmp_path / "choices.json"
    path.write_text(
        json.dumps({key: {"runtime": "openvino", "precision": "int8"} for key in json.loads(path.read_text())})
    )
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}', '{"x": "tpu"}', '{"x": ["onnxruntime"]}'])
def test_a_damaged_memory_is_as_none_and_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "choices.json").write_text(text)
    assert chosen("auto", "float32", HASH, tmp_path) == PLAIN
    remember(FAST, HASH, tmp_path)
    assert chosen("auto", "float32", HASH, tmp_path) == FAST


def test_names_that_are_not_known_are_refused_with_those_that_are(tmp_path: Path) -> None:
    for name in ("int4", "auto", "float16"):
        with pytest.raises(
            UnavailableError, match=f"precision {name!r} is not known on cpu; choose one of float32, int8"
        ):
            chosen("auto", name, HASH, tmp_path)
    with pytest.raises(UnavailableError, match="runtime 'tpu' is not known; choose one of auto, onnxruntime, openvino"):
        chosen("tpu", "float32", HASH, tmp_path)
