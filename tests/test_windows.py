"""Recordings become samples: windows as the engine sees them, with all that is in them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import to_physical, to_pixels
from engine.contract import WIDEBAND
from engine.errors import InputError
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from engine.spectrogram import spectrogram
from training.samples.store import SampleStore

from .labelled import CENTRE_HZ, at, record
from .tiny_store import CONTRACT


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "data")


def test_a_window_is_what_the_engine_sees(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02))
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT)
    capture = next(open_recording(path).captures(CONTRACT))
    assert (sample.image() == np.round(spectrogram(capture.iq, CONTRACT) * 255)).all()
    assert (sample.time_offset_sec, sample.center_freq_hz) == (0, CENTRE_HZ)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0, 0.9), st.floats(0.05, 1), st.sampled_from([CONTRACT, WIDEBAND])
)
def test_pixels_and_seconds_and_hertz_are_the_same_box(
    x: float, width: float, y: float, height: float, contract: Any
) -> None:
    box = np.array([[x, y, min(1, x + width), min(1, y + height)]]) * 1024
    assert to_pixels(to_physical(box, contract), contract) == pytest.approx(box, abs=1e-6)


def test_annotations_come_back_from_the_samples_boxes(store: SampleStore, tmp_path: Path) -> None:
    wanted = at(0.06, 0.08)
    (sample,) = store.add_recording("alpha", record(tmp_path / "r", wanted, seconds=0.1), contract=CONTRACT)
    (found,) = sample.annotations
    assert (found.start_s, found.stop_s) == pytest.approx((wanted.start_s, wanted.stop_s), abs=1e-6)
    assert (found.low_hz, found.high_hz) == pytest.approx((wanted.low_hz, wanted.high_hz), abs=1)


def test_all_that_is_in_a_window_is_labelled(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02), at(0.01, 0.03, "lte", 2e5, 3e5), at(0.02, 0.03, "", -4e5, -3e5))
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT)
    assert sorted(box.label for box in sample.boxes) == ["alpha", "lte", "other"]


def test_progress_counts_the_windows_gone_through(store: SampleStore, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    path = record(tmp_path / "r", at(0.01, 0.02), seconds=0.15)
    store.add_recording("alpha", path, contract=CONTRACT, on_window=lambda done, total: counts.append((done, total)))
    assert counts == [(0, 3), (1, 3), (2, 3)]


def test_the_files_own_name_for_the_signal_can_be_given(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02, "WiFi 802.11"))
    with pytest.raises(InputError, match=r"no window shows 'alpha' \(labels in it: 'WiFi 802.11'\); .*--label"):
        store.add_recording("alpha", path, contract=CONTRACT)
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT, label="WiFi 802.11")
    assert [box.label for box in sample.boxes] == ["alpha"]


def test_objects_cut_to_less_than_a_quarter_are_looked_away_from(store: SampleStore, tmp_path: Path) -> None:
    cut = (at(0.04, 0.054), at(0.044, 0.0745, "beta", 2e5, 3e5))  # mostly seen, hardly seen; second window: reversed
    first, second = store.add_recording(
        "alpha", record(tmp_path / "r", *cut, at(0.08, 0.09), seconds=0.1), contract=CONTRACT
    )
    labels = [
        [box.label for box in sample.boxes] for sample in sorted((first, second), key=lambda s: s.time_offset_sec)
    ]
    assert labels == [["alpha", "other"], ["beta", "other", "alpha"]]


def test_a_signal_longer_than_a_window_is_in_every_window(store: SampleStore, tmp_path: Path) -> None:
    found = store.add_recording("alpha", record(tmp_path / "r", at(0, 0.3), seconds=0.3), contract=CONTRACT)
    assert [len(sample.own_boxes) for sample in found] == [1] * 6


def test_windows_without_the_signal_are_kept_only_when_asked_for(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02), at(0.06, 0.07), seconds=0.25)
    assert len(store.add_recording("alpha", path, contract=CONTRACT, limit=1)) == 1
    assert len(store.add_recording("alpha", path, contract=CONTRACT)) == 2
    found = store.add_recording("alpha", path, contract=CONTRACT, negatives=2)
    assert sorted(len(sample.own_boxes) for sample in found) == [0, 0, 1, 1]
    assert len(store.list("alpha")) == 4


def test_a_recording_shorter_than_a_capture_makes_one_window(store: SampleStore, tmp_path: Path) -> None:
    (sample,) = store.add_recording("alpha", record(tmp_path / "r", at(0.001, 0.01), seconds=0.02), contract=CONTRACT)
    assert (sample.duration_sec, len(sample.own_boxes)) == (CONTRACT.capture_s, 1)


def test_the_window_that_reaches_back_knows_where_it_starts(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0, 0.12), seconds=0.12)
    starts = [sample.time_offset_sec for sample in store.add_recording("alpha", path, contract=CONTRACT)]
    assert starts == pytest.approx([capture.start_s for capture in open_recording(path).captures(CONTRACT)])


def test_silent_windows_are_passed_over_as_the_engine_does(store: SampleStore, tmp_path: Path) -> None:
    path = write_sigmf(tmp_path / "r", np.zeros(100_000, np.complex64), sample_rate_hz=1e6, annotations=[])
    with pytest.raises(InputError, match="no window shows 'alpha'"):
        store.add_recording("alpha", path, contract=CONTRACT, negatives=5)


@pytest.mark.parametrize("centre_hz", [CENTRE_HZ, None])
def test_boxes_may_be_given_in_seconds_and_hertz(store: SampleStore, tmp_path: Path, centre_hz: float | None) -> None:
    path, low_hz = record(tmp_path / "r", centre_hz=centre_hz), (centre_hz or 0) + 1e5
    box = (0.01, 0.02, low_hz, low_hz + 1e5, "alpha")
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT, boxes_physical=[box])
    wanted = to_pixels(np.array([[0.01, 0.02, 1e5, 2e5]]), CONTRACT)
    assert sample.own_boxes == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    "box", [(0.02, 0.01, 1e9, 1.1e9), (0.01, 0.02, 2e9, 3e9), (9, 10, 9e8, 2e9), (0.01, float("nan"), 9e8, 2e9)]
)
def test_boxes_outside_the_recording_are_refused(store: SampleStore, tmp_path: Path, box: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"has no area in it: it spans 0 to 0\.05 s, 9\.995e\+08 to 1\.0005e\+09 Hz"):
        store.add_recording("alpha", record(tmp_path / "r"), contract=CONTRACT, boxes_physical=[(*box, "alpha")])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((-0.01, 0.02, 9.998e8, 1.0001e9), (0, 0.02, 9.998e8, 1.0001e9)),
        ((0.03, 9, 9.998e8, 1.0001e9), (0.03, 0.05, 9.998e8, 1.0001e9)),
        ((0.01, 0.02, 9e8, 1.0001e9), (0.01, 0.02, 9.995e8, 1.0001e9)),
        ((0.01, 0.02, 9.998e8, 2e9), (0.01, 0.02, 9.998e8, 1.0005e9)),
    ],
    ids=["before the start", "behind the end", "below the band", "above the band"],
)
def test_a_box_that_sticks_out_is_clipped_to_the_recording(
    store: SampleStore, tmp_path: Path, box: tuple[float, ...], clipped: tuple[float, ...]
) -> None:
    path = record(tmp_path / "r")
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT, boxes_physical=[(*box, "alpha")])  # type: ignore[list-item]
    shift = np.array([0, 0, CENTRE_HZ, CENTRE_HZ])
    wanted = to_pixels(np.array([clipped]) - shift, CONTRACT).clip(0, 1024)
    assert sample.own_boxes == pytest.approx(wanted, abs=1e-3)


COLUMN_S = CONTRACT.frames * CONTRACT.hop / CONTRACT.image_size / CONTRACT.sample_rate_hz
TWO_BINS_HZ = 2 * CONTRACT.sample_rate_hz / CONTRACT.n_fft


@pytest.mark.parametrize(("columns", "bins"), [(0.9, 40), (40, 0.9)], ids=["short", "narrow"])
@pytest.mark.parametrize("annotated", [True, False])
def test_a_box_smaller_than_a_column_by_two_bins_is_refused_by_name(
    store: SampleStore, tmp_path: Path, columns: float, bins: float, annotated: bool
) -> None:
    small = at(0.01, 0.01 + columns * COLUMN_S, "alpha", 1e5, 1e5 + bins * TWO_BINS_HZ)
    path = record(tmp_path / "r", at(0.01, 0.02), *[small] * annotated)
    given = [] if annotated else [(small.start_s, small.stop_s, small.low_hz, small.high_hz, "alpha")]
    with pytest.raises(InputError, match=r"r\.sigmf-\w+: box 'alpha', 0\.01 to .* s, .* Hz is .*one image column"):
        store.add_recording("alpha", path, contract=CONTRACT, boxes_physical=given)
    assert store.list("alpha") == []


def test_a_box_of_a_column_by_two_bins_is_kept(store: SampleStore, tmp_path: Path) -> None:
    box = (0.01, 0.01 + COLUMN_S, CENTRE_HZ, CENTRE_HZ + TWO_BINS_HZ, "alpha")
    (sample,) = store.add_recording("alpha", record(tmp_path / "r"), contract=CONTRACT, boxes_physical=[box])
    assert len(sample.own_boxes) == 1


def test_small_annotations_of_other_signals_are_kept(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02), at(0.03, 0.03 + COLUMN_S / 2, "beta"))
    (sample,) = store.add_recording("alpha", path, contract=CONTRACT)
    assert sorted(box.label for box in sample.boxes) == ["alpha", "beta"]


def test_a_recording_refused_half_way_says_how_many_windows_were_added(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02), at(0.06, 0.07), seconds=0.1)
    first, second = store.add_recording("alpha", path, contract=CONTRACT)
    store.remove("alpha", min(first, second, key=lambda sample: sample.time_offset_sec).sample_id)
    box = (0.08, 0.09, CENTRE_HZ, CENTRE_HZ + 1e5, "beta")
    with pytest.raises(
        InputError, match=r"is sample .* with other boxes.*; 1 windows of r.sigmf-meta before it were added"
    ):
        store.add_recording("alpha", path, contract=CONTRACT, boxes_physical=[box])


def test_a_renamed_copy_of_a_recording_is_the_same_recording(store: SampleStore, tmp_path: Path) -> None:
    path = record(tmp_path / "r", at(0.01, 0.02))
    for ending in (".sigmf-meta", ".sigmf-data"):
        shutil.copy(path.with_suffix(ending), tmp_path / f"copy{ending}")
    (first,) = store.add_recording("alpha", path, contract=CONTRACT)
    assert store.add_recording("alpha", tmp_path / "copy.sigmf-meta", contract=CONTRACT) == [first]
    assert first.source_capture.startswith("r.sigmf-meta#")
