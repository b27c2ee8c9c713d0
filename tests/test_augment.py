"""Augmentation of IQ: signals and their boxes move together, whatever the level."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.boxes import to_physical, to_pixels
from training.samples import augment
from training.samples.sample import Box
from training.samples.windows import OTHER

from .recordings import noise, tone
from .tiny_store import CONTRACT

RATE, N = CONTRACT.sample_rate_hz, CONTRACT.capture_samples


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def power(iq: np.ndarray) -> float:
    return float(np.mean(np.abs(iq) ** 2))


def strongest_hz(iq: np.ndarray) -> float:
    return float(np.fft.fftfreq(len(iq), 1 / RATE)[np.abs(np.fft.fft(iq)).argmax()])


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "frequency": lambda iq: augment.frequency_shifted(iq, 0.1),
    "time": lambda iq: augment.time_shifted(iq, 123),
    "level": lambda iq: augment.scaled(iq, -7.0),
    "noise": lambda iq: augment.noise_added(iq, 6.0, rng()),
    "clock": lambda iq: augment.clock_error(iq, 50.0),
    "slow clock": lambda iq: augment.clock_error(iq, -120.0),
    "drift": lambda iq: augment.carrier_drift(iq, 0.3, 1e-5),
    "multipath": lambda iq: augment.multipath(iq, [1, 3], [0.3j, -0.2]),
    "tilt": lambda iq: augment.filter_tilt(iq, 3.0, -4.0),
    "8 bits": lambda iq: augment.quantised_8bit(iq, 0.9),
    "all": lambda iq: augment.augmented(iq, (), CONTRACT, rng(6))[0],
}


@pytest.mark.parametrize("name", STEPS)
def test_every_step_changes_the_samples_keeps_their_number_and_leaves_its_input(name: str) -> None:
    iq = noise(N)
    found = STEPS[name](iq)
    assert (found.dtype, found.shape) == (np.complex64, iq.shape)
    assert np.isfinite(found.view(np.float32)).all()
    assert (found != iq).any() and (iq == noise(N)).all()


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**12])
def test_no_step_depends_on_the_level(name: str, scale: float) -> None:
    iq = noise(N)
    assert STEPS[name](iq * np.float32(scale)) == pytest.approx(STEPS[name](iq) * scale, rel=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_silence_stays_silence(name: str) -> None:
    assert not STEPS[name](np.zeros(N, np.complex64)).any()


def test_a_frequency_shift_goes_round_at_the_edge_of_the_band() -> None:
    assert strongest_hz(augment.frequency_shifted(tone(N, 4e5, RATE), 0.05)) == pytest.approx(4.5e5)
    assert strongest_hz(augment.frequency_shifted(tone(N, 4e5, RATE), 0.2)) == pytest.approx(-4e5)


@pytest.mark.parametrize("drop_db", [3.0, 10.0])
def test_noise_lowers_the_ratio_by_what_was_asked_for(drop_db: float) -> None:
    quiet = noise(N) + 30 * tone(N, 1e5, RATE)  # the tone does not count as noise
    added = augment.noise_added(quiet, drop_db, rng()) - quiet
    assert 10 * np.log10(1 + power(added) / power(noise(N))) == pytest.approx(drop_db, abs=0.3)


def test_the_noise_floor_of_a_narrow_recording_is_that_of_its_band() -> None:
    spectrum = np.fft.fft(noise(N))
    spectrum[np.abs(np.fft.fftfreq(N)) > 0.1] *= 1e-5
    floor = augment.noise_floor(np.fft.ifft(spectrum).astype(np.complex64))
    assert 10 * np.log10(floor / power(noise(N))) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("ppm", [50.0, -50.0, 400.0])
def test_a_fast_clock_stretches_time_and_lowers_frequencies(ppm: float) -> None:
    found = augment.clock_error(tone(N, 3e5, RATE), ppm)
    steps = np.angle(found[2000:-2000] * found[1999:-2001].conj()) * RATE / (2 * np.pi)
    assert float(np.mean(steps)) == pytest.approx(3e5 / (1 + ppm * 1e-6), abs=0.5)


def test_the_carrier_runs_off_to_the_drift_asked_for() -> None:
    found = augment.carrier_drift(np.ones(N, np.complex64), 0.25, 1e-3)
    assert found[0] == pytest.approx(1j)
    assert float(np.angle(found[-1] * found[-2].conj())) / (2 * np.pi) == pytest.approx(1e-3, rel=1e-3)


def test_echoes_come_later_and_weaker() -> None:
    pulse = np.zeros(16, np.complex64)
    pulse[2] = 1
    found = augment.multipath(pulse, [1, 4], [0.5, 0.25j])
    assert found.nonzero()[0].tolist() == [2, 3, 6] and found[6] == 0.25j


def test_a_tilted_filter_has_the_levels_asked_for_at_the_edges() -> None:
    found = np.fft.fft(augment.filter_tilt(np.fft.ifft(np.ones(1000)).astype(np.complex64), 3.0, 4.0))
    level_db = 20 * np.log10(np.abs(found))
    assert level_db[[0, 499, 500]] == pytest.approx([0, 2 - 3, -2 - 3], abs=0.05)


def test_8_bits_have_255_levels_and_clip_beyond_full_scale() -> None:
    found = augment.quantised_8bit(noise(N), 0.5).view(np.float32)
    assert len(np.unique(found)) == 255
    assert np.abs(found).max() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_a_burst_and_its_box_move_together(seed: int) -> None:
    """At least 90 % of the power of a burst without noise, as far as the image reaches, lies in its boxes."""
    start, stop, hz = 15_000, 23_000, 1.3e5
    iq = np.zeros(N, np.complex64)
    iq[start:stop] = tone(stop - start, hz, RATE)
    edges = np.array([[start / RATE, stop / RATE, hz - 2e3, hz + 2e3]])
    (box,) = (Box(*row, "alpha") for row in to_pixels(edges, CONTRACT).tolist())
    found, boxes = augment.augmented(iq, [box], CONTRACT, rng(seed))
    assert 1 <= len(boxes) <= 4
    first, last = (to_physical(np.array([[0, 0, 1024, 1024]]), CONTRACT)[0, :2] * RATE).astype(int)
    inside, frequencies = 0.0, np.fft.fftfreq(N, 1 / RATE)
    for box in boxes:
        start_s, stop_s, low_hz, high_hz = to_physical([[box.x_min, box.y_min, box.x_max, box.y_max]], CONTRACT)[0]  # type: ignore[arg-type]
        part = np.zeros_like(found)
        part[round(start_s * RATE) : round(stop_s * RATE)] = found[round(start_s * RATE) : round(stop_s * RATE)]
        band = (frequencies >= low_hz - 300) & (frequencies <= high_hz + 300)  # a bin more to each side
        inside += float(np.sum(np.abs(np.fft.fft(part)[band]) ** 2)) / N
    assert inside >= 0.9 * float(np.sum(np.abs(found[first:last]) ** 2))


@pytest.mark.parametrize(
    ("low", "high", "pieces"),
    [(0.4, 0.6, [("alpha", 0, 102), ("alpha", 922, 1024)]), (0.32, 0.52, [("alpha", 0, 184), (OTHER, 1003, 1024)])],
)
def test_a_box_cut_at_the_bands_edge_comes_back_in_pieces_and_slivers_are_other(
    low: float, high: float, pieces: list[tuple[str, int, int]]
) -> None:
    boxes = augment._in_window(np.array([[0.01, 0.02, low * RATE, high * RATE]]), ["alpha"], 0.05, CONTRACT)
    found = sorted(((box.label, box.y_min, box.y_max) for box in boxes), key=lambda piece: piece[1])
    assert [(label, pytest.approx(top, abs=1), pytest.approx(foot, abs=1)) for label, top, foot in pieces] == found


def test_a_seed_gives_the_same_samples_and_another_one_others() -> None:
    boxes = [Box(100, 200, 300, 400, "alpha"), Box(1, 1, 5, 5, "beta")]
    (one, places), (same, same_places), (other, other_places) = (
        augment.augmented(noise(N), boxes, CONTRACT, rng(seed)) for seed in (3, 3, 4)
    )
    assert (one == same).all() and places == same_places
    assert (one != other).any() and places != other_places


def test_a_window_without_boxes_has_none_afterwards() -> None:
    assert augment.augmented(noise(N), (), CONTRACT, rng())[1] == ()
