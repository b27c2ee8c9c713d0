"""Plain modulators, complex128[count] at a sample rate in Hz, of random symbols."""

import numpy as np

Rng = np.random.Generator


def fsk(
    rng: Rng, rate_hz: float, count: int, baud: float, deviation_hz: float, levels: int = 2, smooth: bool = True
) -> np.ndarray:
    """Frequency shift keying; Gaussian pulses where `smooth`, and a preamble every other time."""
    per_symbol = rate_hz / baud
    symbols = (rng.integers(0, levels, int(count / per_symbol) + 2) * 2 - (levels - 1)) / (levels - 1)
    if rng.random() < 0.5:
        begin = min(len(symbols), 32)
        symbols[:begin] = np.resize([1.0, -1.0], begin)
    shift = symbols[(np.arange(count) / per_symbol).astype(int)]
    if smooth and per_symbol >= 2 and count > 4 * per_symbol:
        width = max(int(per_symbol / 2), 1)
        taps = np.exp(-4 * (np.arange(-2 * width, 2 * width + 1) / width) ** 2)
        shift = np.convolve(shift, taps / taps.sum(), "same")
    return _turning(shift * deviation_hz, rate_hz)


def linear(rng: Rng, rate_hz: float, count: int, symbols_hz: float, roll_off: float) -> np.ndarray:
    """BPSK or QPSK with root raised cosine pulses."""
    total = int(count * symbols_hz / rate_hz) + 2
    points = 4 if rng.random() < 0.5 else 2
    symbols = np.exp(2j * np.pi * (rng.integers(0, points, total) + 0.5) / points)
    at = (np.arange(total) * rate_hz / symbols_hz).astype(int)
    impulses = np.zeros(count, np.complex128)
    impulses[at[at < count]] = symbols[at < count]
    frequency_hz = np.abs(np.fft.fftfreq(count, 1 / rate_hz)) if count else np.zeros(0)
    edge = ((frequency_hz - symbols_hz / 2 * (1 - roll_off)) / (symbols_hz * roll_off)).clip(0, 1)
    return np.asarray(np.fft.ifft(np.fft.fft(impulses) * np.sqrt(0.5 + 0.5 * np.cos(np.pi * edge))))


def ofdm(rng: Rng, rate_hz: float, count: int, width_hz: float, spacing_hz: float) -> np.ndarray:
    """OFDM of QPSK carriers with a cyclic prefix."""
    size = max(round(rate_hz / spacing_hz), 16)
    prefix = int(size * rng.choice([0.07, 0.125, 0.25]))
    half = min(max(int(width_hz / spacing_hz) // 2, 1), size // 2 - 1)
    carriers = np.r_[1 : half + 1, -half:0]
    blocks = count // (size + prefix) + 1
    spectrum = np.zeros((blocks, size), np.complex128)
    spectrum[:, carriers] = np.exp(0.5j * np.pi * (rng.integers(0, 4, (blocks, len(carriers))) + 0.5))
    symbols = np.fft.ifft(spectrum, axis=1) * np.sqrt(size)
    return np.concatenate([symbols[:, size - prefix :], symbols], axis=1).ravel()[:count]


def on_off(rng: Rng, rate_hz: float, count: int, bit_s: float, code: str) -> np.ndarray:
    """On-off keying: pulses by "width", "position", "manchester", or of any length."""
    level, at = np.zeros(count), 0
    while at < count:
        one = rng.random() < 0.5
        on, off, low_first = {
            "width": ((3, 1) if one else (1, 3)) + (False,),
            "position": (1, 4 if one else 2, False),
            "manchester": (1, 1, one),
        }.get(code, (int(rng.integers(1, 4)), int(rng.integers(1, 4)), False))
        first, second = int(on * bit_s * rate_hz) + 1, int(off * bit_s * rate_hz) + 1
        level[at + first : at + first + second] = float(low_first)
        level[at : at + first] = float(not low_first)
        at += first + second
    edge = max(int(rate_hz * bit_s * 0.08), 1)
    level = np.convolve(level, np.ones(edge) / edge, "same") if 1 < edge < count else level
    wander = np.cumsum(rng.normal(0, 1, count)) * rng.choice([0, 0.002])
    return np.asarray(level * np.exp(1j * wander))


def chirps(rng: Rng, rate_hz: float, count: int, width_hz: float, symbol_s: float) -> np.ndarray:
    """Chirp parallel_map spectrum."""
    turns = np.arange(count) / max(int(symbol_s * rate_hz), 8)
    starts = rng.random(int(count * 1.0 / max(int(symbol_s * rate_hz), 8)) + 2)
    place = (turns % 1 + starts[turns.astype(int)]) % 1 - 0.5
    return _turning(place * width_hz, rate_hz)


def linear_sweep(rate_hz: float, count: int, width_hz: float) -> np.ndarray:
    """One linear sweep over `width_hz`."""
    return _turning((np.arange(count) / max(count, 1) - 0.5) * width_hz, rate_hz)


def _turning(frequency_hz: np.ndarray, rate_hz: float) -> np.ndarray:
    return np.asarray(np.exp(2j * np.pi * (np.cumsum(frequency_hz) / rate_hz % 1.0)))
