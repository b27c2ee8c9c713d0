"""Scenes: the same seed gives the same samples, and every label lies where its signal is."""

from pathlib import Path

import numpy as np
import pytest

from engine.boxes import physical, to_pixels
from engine.contract import Contract
from engine.recordings.annotation import Annotation
from engine.recordings.writing import write_sigmf
from engine.spectrogram import spectrogram
from training.scenes.bursts import Burst, cut_bursts, load_burst, save_burst, shift, split_recordings
from training.scenes.compose import SceneSettings, compose, native
from training.scenes.render import make_scene, render, sources, to_sample

SHORT = Contract(capture_s=0.02)
PLAIN = SceneSettings(bursts=(1, 1), snr_db=(20.0, 20.0), empty=0.0, train_of_bursts=0.0, artefacts=0.0)


def noise_burst(label: str, width_hz: float, duration_s: float, seed: int = 0) -> Burst:
    rng = np.random.default_rng(seed)
    n = round(duration_s * SHORT.sample_rate_hz)
    spectrum = np.fft.fft(rng.standard_normal(n) + 1j * rng.standard_normal(n))
    spectrum[np.abs(np.fft.fftfreq(n, 1 / SHORT.sample_rate_hz)) > width_hz / 2] = 0
    iq = np.fft.ifft(spectrum)
    iq /= np.sqrt(np.mean(np.abs(iq) ** 2))
    return Burst(iq.astype(np.complex64), SHORT.sample_rate_hz, -width_hz / 2, width_hz / 2, label, "test")


BURSTS = (noise_burst("wide", 8e6, 0.002), noise_burst("narrow", 0.5e6, 0.008), noise_burst("short", 2e6, 0.0006))


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again, other = (compose(SHORT, BURSTS, seed) for seed in (4, 4, 5))
    assert np.array_equal(first.iq, again.iq) and first.truths == again.truths
    assert not np.array_equal(first.iq, other.iq)


@pytest.mark.parametrize("seed", range(12))
def test_every_label_lies_inside_the_capture_and_on_energy(seed: int) -> None:
    scene = compose(SHORT, BURSTS, seed, PLAIN)
    (truth,) = scene.truths
    assert 0 <= truth.start_s < truth.stop_s <= SHORT.capture_s
    box = to_pixels(physical([truth]), SHORT)[0]
    x_min, y_min, x_max, y_max = np.round(box.clip(0, 1024)).astype(int)
    image = spectrogram(scene.iq, SHORT)
    inside = image[y_min : y_max + 1, x_min : x_max + 1].mean()
    assert inside > image.mean() + 0.05  # 20 dB of 80 is 0.25; a box across the burst's edges shows less


def test_a_burst_has_the_level_over_the_noise_that_its_label_says() -> None:
    burst = BURSTS[0]
    scene = compose(SHORT, (burst,), 3, PLAIN)
    (truth,) = scene.truths
    rate = SHORT.sample_rate_hz
    alone = shift(scene.iq, -(truth.low_hz + truth.high_hz) / 2, rate)
    first, last = (round(time * rate) for time in (truth.start_s, truth.stop_s))

    def density(piece: np.ndarray) -> float:
        spectrum = np.abs(np.fft.fft(piece)) ** 2 / len(piece)
        return float(spectrum[np.abs(np.fft.fftfreq(len(piece), 1 / rate)) < 3.5e6].mean())

    quiet = alone[:first] if first > len(alone) - last else alone[last:]
    level_db = 10 * np.log10(density(alone[first:last]) / density(quiet) - 1)
    assert level_db == pytest.approx(20.0, abs=1.5)  # an echo or a fade may stand in the burst


def test_an_empty_scene_has_no_labels() -> None:
    assert compose(SHORT, (), 0, SceneSettings(empty=1.0, artefacts=1.0)).truths == ()


def test_a_favoured_label_comes_more_often() -> None:
    settings = SceneSettings(bursts=(8, 8), empty=0, train_of_bursts=0, overlap=1.0, favour="narrow")
    labels = [t.label for seed in range(12) for t in compose(SHORT, BURSTS, seed, settings).truths]
    assert labels.count("narrow") > 0.4 * len(labels)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Six recordings of two signals, at half the contract's rate."""
    rng = np.random.default_rng(1)
    rate, n = SHORT.sample_rate_hz / 2, 60_000
    for index in range(6):
        label = "beacon" if index % 2 else "link"
        iq = 0.01 * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
        iq[20_000:40_000] += 0.5 * np.exp(2j * np.pi * 0.1 * np.arange(20_000))
        box = Annotation(label, 20_000 / rate, 40_000 / rate, 100e6 + 0.7e6, 100e6 + 1.3e6)
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        write_sigmf(
            folder / f"{label}{index}",
            iq.astype(np.complex64),
            sample_rate_hz=rate,
            center_freq_hz=100e6,
            annotations=[box],
        )
    return tmp_path


def test_a_recording_stands_on_one_side_and_never_changes_it(recordings: Path) -> None:
    paths = sorted(recordings.glob("*/*.sigmf-meta"))
    train, validation = split_recordings(paths)
    assert sorted(train + validation) == paths and not set(train) & set(validation)
    assert {path.stem[:4] for path in validation} == {"beac", "link"}
    assert split_recordings(paths[::-1]) == (train, validation)


def test_a_cut_burst_is_its_box_and_nothing_beside_it(recordings: Path) -> None:
    path = sorted(recordings.glob("*/*.sigmf-meta"))[0]
    (burst,) = cut_bursts(path, SHORT)
    assert burst.sample_rate_hz == SHORT.sample_rate_hz
    assert len(burst.iq) == pytest.approx(40_000, rel=0.01)
    assert (burst.low_hz, burst.high_hz) == pytest.approx((-0.3e6, 0.3e6))
    spectrum = np.abs(np.fft.fft(burst.iq)) ** 2
    beside = np.abs(np.fft.fftfreq(len(burst.iq), 1 / burst.sample_rate_hz)) > 0.5e6
    assert spectrum[beside].sum() < 1e-3 * spectrum.sum()


def test_a_whole_recording_keeps_its_labels_on_its_signals(recordings: Path) -> None:
    path = sorted(recordings.glob("*/*.sigmf-meta"))[0]
    for seed in range(6):
        scene = native(SHORT, path, seed)
        (truth,) = scene.truths
        middle = round((truth.start_s + truth.stop_s) / 2 * SHORT.sample_rate_hz)
        piece = scene.iq[middle - 2048 : middle + 2048] * np.hanning(4096)
        peak_hz = np.fft.fftfreq(4096, 1 / SHORT.sample_rate_hz)[np.argmax(np.abs(np.fft.fft(piece)))]
        assert truth.low_hz <= peak_hz <= truth.high_hz


def test_bursts_survive_the_disk(tmp_path: Path) -> None:
    save_burst(tmp_path / "b.npz", BURSTS[1])
    back = load_burst(tmp_path / "b.npz")
    assert (back.label, back.low_hz, back.high_hz) == ("narrow", -0.25e6, 0.25e6)
    assert np.abs(back.iq - BURSTS[1].iq).max() < 1e-3 * np.abs(BURSTS[1].iq).max()


def test_rendering_again_changes_nothing(recordings: Path, tmp_path: Path) -> None:
    sources.cache_clear()
    out = tmp_path / "out"
    out.mkdir()
    render(3, out, recordings, None, "wideband", "train", None)
    data = (out / "000003.npz").read_bytes()
    (out / "000003.npz").unlink()
    render(3, out, recordings, None, "wideband", "train", None)
    assert (out / "000003.npz").read_bytes() == data
    contract = Contract()
    scene = make_scene(sources(recordings, None, "wideband", "train"), contract, 3, SceneSettings())
    sample = to_sample(scene, contract)
    assert sample["image"].shape == (1024, 1024) and len(sample["boxes"]) == len(sample["labels"])
    sources.cache_clear()
