"""A signal of which there is one recording: refused, or divided in time and said to be so."""

from pathlib import Path

import pytest

from engine.errors import InputError
from training.samples.splits import NOT_INDEPENDENT

from .labelled import Listed, recordings, window
from .tiny_store import CONTRACT


def test_windows_of_a_single_recording_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one recording, a, .*second recording.*--allow-one-recording"):
        Listed(tmp_path, *recordings("a", 9)).split()


def test_a_single_recording_is_divided_in_time_when_that_is_allowed(tmp_path: Path) -> None:
    split = Listed(tmp_path, *recordings("a", 10)).split(allow_shared_source=True)
    assert split.val_samples == ("a-8", "a-9")
    assert split.notes == NOT_INDEPENDENT


def test_no_window_reaches_over_the_cut(tmp_path: Path) -> None:
    back = window("a", 4, time_offset_sec=3.3 * CONTRACT.capture_s)  # the last one, reaching back over the one before
    split = Listed(tmp_path, *recordings("a", 4), back).split(allow_shared_source=True)
    assert split.val_samples == ("a-3", "a-4")


def test_windows_that_cannot_be_divided_in_time_are_refused(tmp_path: Path) -> None:
    packed = [window("a", n, time_offset_sec=n * 0.1 * CONTRACT.capture_s) for n in range(6)]
    with pytest.raises(InputError, match="cannot be divided in time"):
        Listed(tmp_path, *packed).split(allow_shared_source=True)


def test_later_windows_of_a_divided_recording_keep_to_the_cut(tmp_path: Path) -> None:
    store = Listed(tmp_path, *(window("a", n) for n in (0, 2, 4, 6, 8, 10)))
    first = store.split(allow_shared_source=True)
    for number in (1, 3, 12):
        store.samples[f"a-{number}"] = window("a", number)
    second = store.split(allow_shared_source=True)
    assert {key for key in second.train_samples if key not in first.sides} == {"a-1", "a-3"}
    assert "a-12" in second.val_samples and second.notes == NOT_INDEPENDENT
    store.samples["b-0"] = window("b")
    assert store.split().notes == NOT_INDEPENDENT


def test_a_later_window_that_reaches_over_the_cut_is_refused(tmp_path: Path) -> None:
    store = Listed(tmp_path, *(window("a", n) for n in (0, 2, 4, 6, 8, 10)))
    store.split(allow_shared_source=True)
    store.samples["a-99"] = window(
        "a", 99, time_offset_sec=7.5 * CONTRACT.capture_s, duration_sec=4 * CONTRACT.capture_s
    )
    with pytest.raises(InputError, match=r"sample a-99: its window reaches into training and validation of a"):
        store.split(allow_shared_source=True)


def test_a_window_that_asks_for_the_other_side_of_the_cut_is_refused(tmp_path: Path) -> None:
    store = Listed(tmp_path, *recordings("a", 10))
    store.split(allow_shared_source=True)
    store.samples["a-20"] = window("a", 20, side="train")
    with pytest.raises(InputError, match=r"a-20 asks for train, but its recording a stands on validation"):
        store.split(allow_shared_source=True)
