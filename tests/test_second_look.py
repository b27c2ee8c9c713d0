"""Typed heads: candidates of picture and IQ, described and scored, from a store through the engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.boxes import corners, iou, physical
from engine.bursts import fine_power, settings_for
from engine.contract import WIDEBAND
from engine.engine import Engine
from engine.errors import HydraError, MismatchError, StoreError
from engine.heads import EMBEDDED, PROPOSALS, VECTOR, ZOOM_VALUES
from engine.loading import Loader
from engine.second_look import choose, suppress
from engine.second_look.geometry import PROFILE_VALUES, box_values, profile
from engine.second_look.model import read_look
from engine.store.registry import Store
from engine.store.release import LOOK
from engine.typed import log_sigmoid
from engine.zoom import VALUES

from .looks import SURE, add_typed, look_model
from .scripted import noise
from .toy_store import CONTRACT, add_head, image, toy_store

RATE = CONTRACT.sample_rate_hz
BURST = (0.3, 0.4, -0.1, 0.15)  # start and stop in captures, edges in sample rates
SHOWN = image([(3, 4)])


def capture() -> np.ndarray:
    """Noise with one burst of noise in a band, 30 dB over it."""
    n = CONTRACT.capture_samples
    start, stop = (round(share * n) for share in BURST[:2])
    spectrum = np.fft.fft(noise(stop - start, seed=1))
    turns = np.fft.fftfreq(stop - start)
    band = np.fft.ifft(np.where((turns > BURST[2]) & (turns < BURST[3]), spectrum, 0))
    iq = noise(n) * 0.01
    iq[start:stop] += band.astype(np.complex64)
    return iq.astype(np.complex64)


TRUE = np.array([[*(share * CONTRACT.capture_s for share in BURST[:2]), *(share * RATE for share in BURST[2:])]])


def a_store(folder: Path, fit: float = SURE) -> Store:
    return toy_store(folder / "models", {LOOK: look_model(CONTRACT, fit).as_bytes()})


def found(engine: Engine, iq: np.ndarray) -> np.ndarray:
    """Corner boxes of what is detected."""
    return corners(physical(engine.detect(iq, sample_rate_hz=RATE)))


def test_values_of_a_candidate_are_as_many_as_heads_read() -> None:
    assert VALUES == ZOOM_VALUES and EMBEDDED == VECTOR + VALUES


def test_a_burst_is_found_where_it_is(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything")
    with Engine.open(store.path, device="cpu") as engine:
        assert iou(corners(TRUE), found(engine, capture())).max() > 0.8


@pytest.mark.parametrize("scale", [1e-2, 1e3])
def test_level_does_not_matter(tmp_path: Path, scale: float) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything", weight=np.random.default_rng(0).normal(0, 0.02, EMBEDDED).astype(np.float32))
    with Engine.open(store.path) as engine:
        plain, scaled = (engine.detect(iq, sample_rate_hz=RATE) for iq in (capture(), capture() * np.float32(scale)))
    assert len(plain) == len(scaled) > 0
    assert np.allclose(plain.boxes(), scaled.boxes(), rtol=0, atol=1e-3 * RATE)
    assert np.allclose(plain.scores(), scaled.scores(), atol=0.02)


def test_a_box_that_does_not_fit_and_a_type_that_is_another_are_no_detection(tmp_path: Path) -> None:
    store = a_store(tmp_path / "unfit", fit=-SURE)
    add_typed(store, "anything")
    with Engine.open(store.path) as engine:
        assert not engine.detect(capture(), sample_rate_hz=RATE)
    store = a_store(tmp_path / "other")
    add_typed(store, "another", offset=SURE)
    with Engine.open(store.path) as engine:
        assert not engine.detect(capture(), sample_rate_hz=RATE)


def test_half_is_the_operating_point(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_typed(store, "edge", offset=-float(np.log(3)))  # the type's logit is log 3
    with Engine.open(store.path, threshold=0.01) as engine:
        scores = engine.detect(capture(), sample_rate_hz=RATE).scores()
    expected = 1 / (1 + np.exp(-(log_sigmoid(np.log(3)) + log_sigmoid(SURE) - np.log(0.25))))
    assert len(scores) and np.allclose(scores, expected, atol=1e-5)


def test_an_image_without_iq_gives_typed_heads_nothing_to_look_at(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything")
    with Engine.open(store.path) as engine:
        assert engine.detect_image(SHOWN) == ()


def test_compact_heads_find_the_same_beside_typed_ones(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_head(store, "bright", 200)
    with Engine.open(store.path, arbitrate=False, threshold=0.0) as engine:
        alone = engine.detect(capture(), sample_rate_hz=RATE)
    add_typed(store, "anything")
    with Engine.open(store.path, arbitrate=False, threshold=0.0) as engine:
        together = engine.detect(capture(), sample_rate_hz=RATE)
    assert [d for d in together if d.signal == "bright"] == list(alone)
    assert any(d.signal == "anything" for d in together)


def test_typed_heads_come_and_go_while_the_engine_runs(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_head(store, "bright", 200)
    with Engine.open(store.path) as engine:
        before = {d.signal for d in engine.detect(capture(), sample_rate_hz=RATE)}
        add_typed(store, "anything")
        assert engine.refresh()
        after = {d.signal for d in engine.detect(capture(), sample_rate_hz=RATE)}
    assert "anything" not in before and "anything" in after


def test_a_capture_without_a_candidate_is_one_without_a_detection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything")
    nothing = np.zeros((PROPOSALS, 4), np.float32)
    with Engine.open(store.path) as engine:
        ops = replace(engine._device.ops, regions=lambda image: nothing)
        monkeypatch.setattr(engine._device, "ops", ops)
        result = engine.detect(capture(), sample_rate_hz=RATE)
    assert (result.data_quality, len(result)) == ("ok", 0)


def test_silence_and_what_is_not_finite_stay_what_they_are(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything")
    bad = capture()
    bad[7] = np.nan
    with Engine.open(store.path) as engine:
        for iq, quality in ((np.zeros_like(bad), "silent"), (bad, "invalid")):
            result = engine.detect(iq, sample_rate_hz=RATE)
            assert (result.data_quality, len(result)) == (quality, 0)


def test_a_head_of_another_second_look_is_refused(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    add_typed(store, "anything", look_hash="ab" * 32)
    with pytest.raises(MismatchError, match="made for second look abab"):
        Engine.open(store.path)


def test_a_second_look_of_another_front_end_is_refused(tmp_path: Path) -> None:
    other = replace(CONTRACT, capture_s=CONTRACT.capture_s / 2)
    store = toy_store(tmp_path / "models", {LOOK: look_model(other).as_bytes()})
    add_typed(store, "anything")
    with pytest.raises(MismatchError, match="made for front-end contract"):
        Engine.open(store.path)


def test_a_second_look_comes_back_as_it_was_stored() -> None:
    model = look_model(WIDEBAND, places=7)
    again = read_look(model.as_bytes(), "here")
    assert again.settings == model.settings and again.contract_hash == WIDEBAND.hash
    values = np.random.default_rng(0).normal(size=(3, VECTOR)), np.random.default_rng(1).normal(size=(3, VALUES))
    assert np.array_equal(model.embed(*values), again.embed(*values))


@pytest.mark.parametrize("share", np.linspace(0, 0.99, 12).tolist())
def test_a_second_look_that_is_cut_is_refused(share: float) -> None:
    data = look_model(WIDEBAND).as_bytes()
    with pytest.raises(HydraError, match="there: not a readable second look"):
        read_look(data[: int(share * len(data))], "there")


def test_a_second_look_with_a_value_that_is_not_finite_is_refused() -> None:
    model = look_model(WIDEBAND)
    model.mean[3] = np.inf
    with pytest.raises(StoreError, match=r"mean is .* or not finite"):
        read_look(model.as_bytes(), "there")


def test_the_gpu_refuses_typed_heads_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(tmp_path)
    loader = Loader(store.release())
    monkeypatch.setattr(loader.device, "kind", "cuda")
    with pytest.raises(HydraError, match="typed heads run on the CPU only"):
        loader.look()


def test_of_boxes_that_overlap_the_best_is_chosen_and_the_rest_by_rank() -> None:
    boxes = np.array([[0, 1, 0, 1], [0, 0.9, 0, 1], [2, 3, 0, 1], [5, 6, 0, 1]], float)
    assert choose(boxes, np.array([1.0, 2.0, 0.0, 3.0]), 0.6, 3).tolist() == [3, 1, 2]
    assert choose(boxes, np.array([1.0, 2.0, 0.0, 3.0]), 0.6, 1).tolist() == [3]


def test_a_box_inside_a_better_one_is_suppressed_and_its_neighbour_is_not() -> None:
    boxes = np.array([[0, 10, 0, 1], [4, 5, 0, 1], [10, 11, 0, 1]], float)
    assert suppress(boxes, np.array([0.9, 0.8, 0.7]), 0.5, 0.8).tolist() == [0, 2]
    assert suppress(boxes, np.array([0.5, 0.8, 0.7]), 0.5, 0.8).tolist() == [1, 2]


def test_a_profile_is_higher_inside_a_burst_than_around_it() -> None:
    fine = fine_power(capture(), RATE, settings_for(CONTRACT))
    values = profile(fine, TRUE[0])
    assert values.shape == (PROFILE_VALUES,) and np.isfinite(values).all()
    before, inside = values[:3], values[8:14]
    assert inside.min() > before.max() + 1


def test_values_of_boxes_are_finite_for_any_box_in_a_capture() -> None:
    rng = np.random.default_rng(0)
    edges = (
        np.sort(rng.uniform(0, CONTRACT.capture_s, (50, 2)), axis=1),
        np.sort(rng.uniform(-RATE / 2, RATE / 2, (50, 2)), axis=1),
    )
    boxes = np.concatenate(edges, axis=1)
    fine = fine_power(capture(), RATE, settings_for(CONTRACT))
    assert np.isfinite(box_values(boxes, rng.random(50) < 0.5, CONTRACT.capture_s, RATE)).all()
    assert all(np.isfinite(profile(fine, box)).all() for box in boxes)
