"""What `auto` comes down to: what was measured here and remembered, else the plain way; never what was not asked."""

from pathlib import Path

import pytest

from engine import choice
from engine.choice import PLAIN, Choice, chosen, remember
from engine.errors import UnavailableError

HASH = "ab" * 32
FAST = Choice("openvino", "int8")


def test_without_a_measurement_auto_is_onnx_runtime_in_float32(tmp_path: Path) -> None:
    assert chosen("auto", "auto", HASH, tmp_path) == PLAIN == Choice("onnxruntime", "float32")


def test_what_was_measured_is_taken_for_this_release_alone(tmp_path: Path) -> None:
    remember(FAST, HASH, tmp_path)
    assert chosen("auto", "auto", HASH, tmp_path) == FAST
    assert chosen("auto", "auto", "cd" * 32, tmp_path) == PLAIN
    remember(PLAIN, HASH, tmp_path)
    assert chosen("auto", "auto", HASH, tmp_path) == PLAIN


def test_another_machine_or_set_of_runtimes_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(FAST, HASH, tmp_path)
    with monkeypatch.context() as changed:
        changed.setattr(choice, "describe_cpu", lambda: "another processor")
        assert chosen("auto", "auto", HASH, tmp_path) == PLAIN
    monkeypatch.setattr(choice, "installed", lambda: {"onnxruntime": "99"})
    assert chosen("auto", "auto", HASH, tmp_path) == PLAIN


@pytest.mark.parametrize(
    ("runtime", "precision", "expected"),
    [
        ("openvino", "auto", FAST),
        ("auto", "int8", FAST),
        ("onnxruntime", "auto", PLAIN),  # what is fastest in another runtime says nothing about this one
        ("auto", "float32", PLAIN),
        ("onnxruntime", "int8", Choice("onnxruntime", "int8")),
    ],
)
def test_what_was_asked_for_is_never_changed(tmp_path: Path, runtime: str, precision: str, expected: Choice) -> None:
    remember(FAST, HASH, tmp_path)
    assert chosen(runtime, precision, HASH, tmp_path) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}', '{"x": {"runtime": "onnxruntime"}}'])
def test_a_damaged_memory_is_as_none_and_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "choices.json").write_text(text)
    assert chosen("auto", "auto", HASH, tmp_path) == PLAIN
    remember(FAST, HASH, tmp_path)
    assert chosen("auto", "auto", HASH, tmp_path) == FAST


def test_names_that_are_not_known_are_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="precision 'int4' is not known on cpu; choose one of auto, float32"):
        chosen("auto", "int4", HASH, tmp_path)
    with pytest.raises(UnavailableError, match="runtime 'tpu' is not known; choose one of auto, onnxruntime, openvino"):
        chosen("tpu", "auto", HASH, tmp_path)
