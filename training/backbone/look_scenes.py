"""Generated scenes of no particular type: bursts of many modulations with exact boxes, for what a whole signal is.

Fit is told from these as well as from recordings; types are not.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from engine.contract import ISM, WIDEBAND, Contract
from training.scenes.bursts import Burst
from training.scenes.compose import SceneSettings, compose
from training.scenes.generated import occupied_band, trim

from .look_modulation import chirps, fsk, linear, linear_sweep, ofdm, on_off

LABEL: Final = "generated"
KINDS: Final = 10  # bursts that a scene is composed of
SETTINGS: Final = SceneSettings(bursts=(4, 16), empty=0.03, snr_db=(6.0, 35.0))
CUT: Final = 0.3  # share of scenes that are shortened, as a short recording is
LEAST_SAMPLES: Final = 64
MOST_S: Final = 0.19
Maker = Callable[[np.random.Generator, float], np.ndarray]


def scene(seed: int) -> tuple[np.ndarray, Contract, float, np.ndarray, list[str]]:
    """IQ complex64[capture_samples], contract (they take turns), its seconds, boxes float64[T, 4] and labels."""
    contract = WIDEBAND if seed % 2 else ISM
    rng = np.random.default_rng([11, seed])
    composed = compose(contract, [_burst(contract, rng) for _ in range(KINDS)], 90_000 + seed, SETTINGS)
    half = contract.sample_rate_hz / 2
    truths = np.array([(t.start_s, t.stop_s, t.low_hz, t.high_hz) for t in composed.truths]).reshape(-1, 4)
    truths[:, :2], truths[:, 2:] = truths[:, :2].clip(0, contract.capture_s), truths[:, 2:].clip(-half, half)
    iq, valid_s = composed.iq, contract.capture_s
    if rng.random() < CUT and len(truths):
        iq, valid_s, truths = _shortened(iq, truths, contract, rng)
    return iq, contract, valid_s, truths, [LABEL] * len(truths)


def _shortened(
    iq: np.ndarray, truths: np.ndarray, contract: Contract, rng: np.random.Generator
) -> tuple[np.ndarray, float, np.ndarray]:
    """A stretch of a scene that begins near a burst, padded with zeros."""
    wide = contract is WIDEBAND
    valid_s = _between(rng, 1e-3, 0.1) if wide else _between(rng, 1e-2, 0.15)
    at = truths[rng.integers(len(truths)), 0] - rng.uniform(-0.2, 0.6) * valid_s
    first = int(np.clip(at, 0, contract.capture_s - valid_s) * contract.sample_rate_hz)
    start_s, count = first / contract.sample_rate_hz, int(valid_s * contract.sample_rate_hz)
    cut = np.zeros_like(iq)
    cut[:count] = iq[first : first + count]
    times = (truths[:, :2] - start_s).clip(0, valid_s)
    kept = times[:, 1] > times[:, 0]
    return cut, valid_s, np.concatenate([times, truths[:, 2:]], axis=1)[kept]


def _burst(contract: Contract, rng: np.random.Generator) -> Burst:
    makers = _WIDE if contract is WIDEBAND else _NARROW
    rate_hz = contract.sample_rate_hz
    while True:
        name = list(makers)[rng.integers(len(makers))]
        iq = trim(makers[name](rng, rate_hz).astype(np.complex64))
        if len(iq) >= LEAST_SAMPLES:
            iq = (iq / np.sqrt(np.mean(np.abs(iq) ** 2))).astype(np.complex64)
            return Burst(iq, rate_hz, *occupied_band(iq, rate_hz), name, "own")


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _count(rng: np.random.Generator, rate_hz: float, low_s: float, high_s: float) -> int:
    return int(min(_between(rng, low_s, high_s), MOST_S) * rate_hz)


def _ofdm(width_hz: tuple[float, float], spacing_hz: tuple[float, ...], last_s: tuple[float, float]) -> Maker:
    return lambda rng, rate: ofdm(
        rng, rate, _count(rng, rate, *last_s), _between(rng, *width_hz), float(rng.choice(spacing_hz))
    )


def _fsk(bauds: tuple[float, ...], index: tuple[float, float], last_s: tuple[float, float]) -> Maker:
    def make(rng: np.random.Generator, rate: float) -> np.ndarray:
        baud = float(rng.choice(bauds))
        return fsk(rng, rate, _count(rng, rate, *last_s), baud, baud * rng.uniform(*index))

    return make


def _linear(symbols_hz: tuple[float, float], last_s: tuple[float, float]) -> Maker:
    return lambda rng, rate: linear(
        rng, rate, _count(rng, rate, *last_s), _between(rng, *symbols_hz), rng.uniform(0.1, 0.5)
    )


def _on_off(code: str, bit_s: tuple[float, float], bits: tuple[int, int]) -> Maker:
    def make(rng: np.random.Generator, rate: float) -> np.ndarray:
        bit = _between(rng, *bit_s)
        return on_off(rng, rate, int(min(bit * rng.integers(*bits), MOST_S) * rate), bit, code)

    return make


def _chirps(widths_hz: tuple[float, ...]) -> Maker:
    def make(rng: np.random.Generator, rate: float) -> np.ndarray:
        width_hz = float(rng.choice(widths_hz))
        symbol_s = 2 ** int(rng.integers(7, 11)) / width_hz
        return chirps(rng, rate, int(min(symbol_s * rng.integers(10, 40), MOST_S) * rate), width_hz, symbol_s)

    return make


def _any_fsk(rng: np.random.Generator, rate: float) -> np.ndarray:
    baud = _between(rng, 1e3, 1e5)
    count = int(min(_between(rng, 60, 2000) / baud, 0.15) * rate)
    return fsk(rng, rate, count, baud, max(baud * 0.3, _between(rng, 4e3, 8e4)), smooth=bool(rng.random() < 0.5))


def _four_level(rng: np.random.Generator, rate: float) -> np.ndarray:
    baud = _between(rng, 1.2e3, 2e4)
    return fsk(rng, rate, _count(rng, rate, 0.02, 0.2), baud, baud * rng.uniform(0.4, 1.5), levels=4)


_WIDE: Final[dict[str, Maker]] = {
    "ofdm": _ofdm((1e6, 17e6), (312.5e3, 15e3, 30e3), (60e-6, 12e-3)),
    "ofdm short": _ofdm((1e6, 17e6), (312.5e3,), (40e-6, 1e-3)),
    "gfsk": _fsk((0.25e6, 0.5e6, 1e6, 2e6), (0.2, 0.4), (60e-6, 3e-3)),
    "msk": _fsk((2e6,), (0.25, 0.25), (0.3e-3, 4.3e-3)),
    "psk": _linear((2e5, 6e6), (2e-4, 4e-2)),
    "pulses": _on_off("manchester", (0.5e-6, 0.5e-6), (64, 121)),
    "on off": _on_off("any", (20e-6, 2e-4), (60, 400)),
    "chirps": _chirps((125e3, 250e3, 500e3)),
    "subframe": _ofdm((360e3, 7.2e6), (15e3,), (0.92e-3, 0.94e-3)),
    "band": _linear((2e5, 8e6), (1e-3, 8e-2)),
    "sweep": lambda rng, rate: linear_sweep(rate, _count(rng, rate, 2e-5, 2e-3), _between(rng, 5e5, 8e6)),
}
_NARROW: Final[dict[str, Maker]] = {
    "pulse width": _on_off("width", (3e-5, 8e-4), (60, 400)),
    "pulse position": _on_off("position", (3e-5, 8e-4), (60, 400)),
    "manchester": _on_off("manchester", (3e-5, 8e-4), (60, 400)),
    "on off": _on_off("any", (3e-5, 8e-4), (60, 400)),
    "fsk": _any_fsk,
    "fsk again": _any_fsk,
    "four level": _four_level,
    "psk": _linear((5e3, 4e5), (5e-3, 0.2)),
    "chirps": _chirps((31.25e3, 62.5e3, 125e3, 250e3)),
    "steady": _fsk((500.0, 1500.0, 5e3), (2.0, 12.0), (0.19, 0.2)),
    "pulses": _on_off("manchester", (0.5e-6, 0.5e-6), (64, 121)),
    "gfsk": _fsk((0.25e6, 0.5e6, 1e6), (0.2, 0.4), (60e-6, 3e-3)),
    "gmsk": _fsk((270.8e3,), (0.25, 0.25), (0.57e-3, 0.58e-3)),
    "ofdm": _ofdm((1e5, 1.6e6), (15e3,), (1e-3, 0.1)),
}
