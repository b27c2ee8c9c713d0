"""Zoom: cuts against an exact filter, values against plain formulas, and what they tell apart."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from engine.contract import Contract
from engine.devices.cpu import Cpu
from engine.errors import InputError
from engine.zoom import GROUPS, VALUES, ZoomSettings, cut, describe, stft, zoom
from engine.zoom.autocorrelation import DELAYS_S

CONTRACT = Contract(capture_s=0.02)
RATE = CONTRACT.sample_rate_hz
SETTINGS = ZoomSettings()
BOX = np.array([4e-3, 8e-3, 2e6, 3e6])  # 1 MHz, 4 ms
KINDS = ("am", "fsk", "psk", "ofdm", "chirp")
PLACES = dict(zip(GROUPS, np.cumsum([0, *GROUPS.values()]), strict=False))


def capture(signal: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """complex64[400000]: noise 30 dB below a signal complex[n] that begins at 4 ms, 2.5 MHz from the centre."""
    rng = np.random.default_rng(0)
    iq = 0.03 * (rng.standard_normal(CONTRACT.capture_samples) + 1j * rng.standard_normal(CONTRACT.capture_samples))
    first = round(BOX[0] * RATE)
    iq[first : first + len(signal)] += signal * np.exp(2j * np.pi * 2.5e6 / RATE * np.arange(len(signal)))
    return (gain * iq).astype(np.complex64)


def keyed(kind: str, seed: int = 1) -> np.ndarray:
    """complex128[80000]: 4 ms of a signal about 1 MHz wide."""
    rng, count = np.random.default_rng(seed), 80_000
    time_s = np.arange(count) / RATE
    bits = rng.integers(0, 2, count // 40 + 1).repeat(40)[:count]  # 500 kBd
    slow = np.convolve(rng.standard_normal(count), np.hanning(400) / 14, "same")
    if kind == "am":
        return (1 + 0.5 * slow).astype(complex)
    if kind == "fsk":
        return np.exp(2j * np.pi * np.cumsum((2 * bits - 1) * 180e3) / RATE)
    if kind == "psk":
        return np.convolve(2.0 * bits - 1, np.hanning(20) / 10, "same").astype(complex)
    if kind == "chirp":
        return np.exp(1j * np.pi * (np.mod(time_s, 1e-3) - 0.5e-3) ** 2 * 0.9e6 / 1e-3)
    useful = 1280  # samples: 64 us, prefix 16 us, 60 carriers 15.6 kHz apart
    symbols = []
    for _ in range(count // 1600):
        bins = np.zeros(useful, complex)
        bins[np.arange(-30, 31)] = rng.choice([1, -1, 1j, -1j], 61)
        symbol = np.fft.ifft(bins) * useful / 8
        symbols.append(np.concatenate([symbol[-320:], symbol]))
    return np.concatenate(symbols)


def described(iq: np.ndarray, box: np.ndarray = BOX) -> np.ndarray:
    return np.asarray(zoom(stft(iq, CONTRACT), box, CONTRACT)[0])


def group(values: np.ndarray, name: str) -> np.ndarray:
    return values[PLACES[name] : PLACES[name] + GROUPS[name]]


def test_a_cut_is_the_signal_as_an_exact_mixer_and_filter_give_it() -> None:
    iq = capture(keyed("fsk"))
    found = cut(stft(iq, CONTRACT), BOX, CONTRACT, SETTINGS)
    mixed = iq * np.exp(-2j * np.pi * round(2.5e6 / RATE * 4096) / 4096 * np.arange(len(iq)))
    spectrum = np.fft.fft(mixed)
    freq_hz = np.abs(np.fft.fftfreq(len(iq), 1 / RATE))
    inner_hz, edge_hz = 0.6 * 1e6 + 1.5 * RATE / 4096, 0.15 * 1e6 + RATE / 4096
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * ((freq_hz - inner_hz) / edge_hz).clip(0, 1))
    half = len(iq) // 2
    exact = np.fft.ifft(np.concatenate([spectrum[:half], np.zeros(15 * len(iq)), spectrum[half:]]))  # 16 a sample
    step = RATE / found.rate_hz
    start = (BOX[0] * RATE - 2048) + found.before * step
    place = round(start / step) * step + step * np.arange(len(found.iq))
    expected = exact[np.rint(16 * place).astype(int)]
    inner = slice(200, -200)
    gain = np.vdot(found.iq[inner], expected[inner]) / np.vdot(found.iq[inner], found.iq[inner])
    error = np.abs(gain * found.iq - expected)[inner]
    # the nearest 16th of a sample is 1e-3 off at the deviation of 180 kHz
    loss = np.sqrt((error**2).mean() / (np.abs(expected[inner]) ** 2).mean())
    assert loss < 2e-3


def test_a_cut_ends_where_the_burst_does() -> None:
    found = cut(stft(capture(keyed("fsk")[:40_000]), CONTRACT), BOX, CONTRACT, SETTINGS)
    assert len(found.iq) / found.rate_hz == pytest.approx(2e-3, abs=2e-5)  # 16 samples of smoothing at 2 MS/s: 8 us


def test_autocorrelation_is_that_of_the_definition() -> None:
    spectrum = stft(capture(keyed("ofdm")), CONTRACT)
    found = cut(spectrum, BOX, CONTRACT, SETTINGS)
    x = found.iq.astype(np.complex128)
    lags = np.arange(1, int(0.7 * len(x)))
    size = np.array([np.abs(np.vdot(x[:-lag], x[lag:])) / (len(x) - lag) for lag in lags])
    delay_s = lags / found.rate_hz
    expected = [
        size[(delay_s >= low) & (delay_s < high)].max(initial=0)
        for low, high in pairwise(DELAYS_S[8:])  # longer than a sample
    ]
    values = group(described(capture(keyed("ofdm"))), "autocorrelation")[20 + 8 : 60]
    # float32 FFTs of 8,192 points: 1e-5; delays on an edge may fall to either side of it
    assert np.isclose(values, expected, atol=1e-3).mean() > 0.9


def test_histograms_are_those_of_the_definition() -> None:
    found = cut(stft(capture(keyed("psk")), CONTRACT), BOX, CONTRACT, SETTINGS)
    values = group(np.asarray(describe([found])[0]), "histograms")
    x = found.iq.astype(np.complex128)
    product = x[1:] * x[:-1].conj()
    freq = np.angle(product)[np.abs(product) > 0.3] * found.rate_hz / (2 * np.pi * found.width_hz)
    of_frequency = np.histogram(freq, np.linspace(-0.8, 0.8, 25))[0] / len(freq)
    of_amplitude = np.histogram(np.abs(x), np.linspace(0, 3, 17))[0] / len(x)
    # a sample on the edge of a cell may fall to either side of it
    assert np.allclose(values[:24] ** 2, of_frequency, atol=2e-3)
    assert np.allclose(values[68:84] ** 2, of_amplitude, atol=2e-3)


def test_chirp_tones_are_those_of_the_definition() -> None:
    found = cut(stft(capture(keyed("chirp")), CONTRACT), BOX, CONTRACT, SETTINGS)
    values = group(np.asarray(describe([found])[0]), "chirps")
    x = found.iq.astype(np.complex128)
    delay = round(8 * found.rate_hz / found.width_hz)
    product = x[delay:] * x[:-delay].conj()
    product /= np.abs(product)
    tops = [np.abs(np.fft.fft(product[k : k + 256])).max() ** 2 / 256**2 for k in range(0, len(product) - 255, 256)]
    assert values[12] == pytest.approx(4 * np.mean(tops[:24]), rel=1e-3)  # float32


@pytest.mark.parametrize("gain", [1e-6, 1e-3, 1e6])
def test_level_does_not_change_the_values(gain: float) -> None:
    reference, found = described(capture(keyed("psk"))), described(capture(keyed("psk"), gain))
    # float32 rounds anew; the logarithm of a weak line shows it most
    assert np.abs(found - reference).max() < 0.02


def test_the_order_of_boxes_and_threads_do_not_change_the_values() -> None:
    spectrum = stft(capture(keyed("psk")), CONTRACT)
    boxes = np.array(
        [BOX, [1e-3, 1.2e-3, -8e6, 8e6], [0, 0.02, -1e5, 1e5], [5e-3, 5.01e-3, 0, 4e6], [6e-3, 7e-3, 2e6, 3e6]]
    )
    values = zoom(spectrum, boxes, CONTRACT)
    assert np.array_equal(values, zoom(spectrum, boxes, CONTRACT, parallel_map=Cpu().parallel_map))
    assert np.allclose(values[::-1], zoom(spectrum, boxes[::-1], CONTRACT), atol=1e-4)
    assert np.allclose(values[0], zoom(spectrum, boxes[:1], CONTRACT)[0], atol=1e-4)


def of_each_kind(name: str, place: int) -> dict[str, float]:
    return {kind: float(group(described(capture(keyed(kind))), name)[place]) for kind in KINDS}


def test_only_ofdm_repeats_itself_after_its_useful_symbol() -> None:
    size = of_each_kind("autocorrelation", 20 + int(np.searchsorted(DELAYS_S, 64e-6)) - 1)
    # a fifth of each symbol is prefix; AM keeps its carrier and chirps are alike at every delay
    assert size["ofdm"] > 0.15 > 0.1 > max(size["psk"], size["fsk"])


def test_only_chirps_are_a_tone_when_multiplied_by_their_past() -> None:
    tone = of_each_kind("chirps", 12)
    assert tone["chirp"] > 2 * max(tone[kind] for kind in ("psk", "fsk", "ofdm"))


def test_psk_has_a_carrier_when_squared_and_fsk_and_ofdm_have_none() -> None:
    line = of_each_kind("lines", 135)
    assert line["psk"] > 1 + max(line["fsk"], line["ofdm"])


def test_amplitude_is_steady_in_fsk_and_chirps_and_varies_in_am_psk_and_ofdm() -> None:
    variation = of_each_kind("histograms", 84 + 2)
    assert max(variation["fsk"], variation["chirp"]) < 0.5 * min(variation[kind] for kind in ("am", "psk", "ofdm"))


def test_frequency_stays_in_am_and_moves_in_fsk_and_chirps() -> None:
    parallel_map = of_each_kind("histograms", 84 + 3)
    assert parallel_map["am"] < 0.2 * min(parallel_map["fsk"], parallel_map["chirp"])


def test_a_capture_shorter_than_a_frame_is_refused_with_its_length() -> None:
    with pytest.raises(InputError, match="iq has 100 samples"):
        stft(np.zeros(100, np.complex64), CONTRACT)


def test_another_setting_is_another_hash() -> None:
    assert replace(SETTINGS, active=0.5).hash != SETTINGS.hash == ZoomSettings().hash


@few(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-38, 1e-15, 1.0, 1e20, 3e38]),
    st.lists(st.tuples(*[st.floats(-0.1, 1.1)] * 4), max_size=6),
)
def test_any_finite_capture_and_any_box_gives_finite_values(
    seed: int, gain: float, boxes: list[tuple[float, ...]]
) -> None:
    rng = np.random.default_rng(seed)
    iq = (rng.uniform(-1, 1, (20_000, 2)) * gain).astype(np.float32).view(np.complex64)[:, 0]
    edges = np.array(boxes).reshape(-1, 2, 2)
    edges = np.sort(edges, axis=2).reshape(-1, 4) * [1e-3, 1e-3, RATE, RATE] - [0, 0, RATE / 2, RATE / 2]
    values = zoom(stft(iq, CONTRACT), edges, CONTRACT)
    assert values.shape == (len(boxes), VALUES) and values.dtype == np.float32
    assert np.isfinite(values).all()
