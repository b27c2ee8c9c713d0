"""From one sample rate to another by a rational factor: libsoxr's polyphase filters, cleaner than 80 dB shows."""

import math
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from engine.errors import InputError

RATE_TOLERANCE: Final = 1e-6  # rates closer than this, relative, are the same rate
MAX_FACTOR: Final = 50_000  # no up or down factor above this: bounds the filter's length
MAX_UP: Final = 20_000.0  # 1 kS/s to 20 MS/s; beyond it a capture is a handful of samples
MAX_DOWN: Final = 256.0  # beyond it one capture takes gigabytes of input
REACH: Final = 128  # of the filter to each side, in samples of the slower rate
MAX_RATE_HZ: Final = 1e12


def rate_ratio(from_hz: float, to_hz: float) -> Fraction:
    """The factor `to_hz / from_hz` as a fraction; 1 where the rates agree within RATE_TOLERANCE.

    The smallest fraction within RATE_TOLERANCE is taken, so that 2.4 MS/s to 20 MS/s is 25/3. Where
    that would need a factor above MAX_FACTOR the nearest smaller one is taken: at most 10 ppm off, which is
    less than a receiver's crystal and moves the end of a 200 ms capture by 2 us, a fiftieth of a frame.

    Raises InputError on a rate that is not positive and below 1 THz, or on a factor beyond MAX_UP or MAX_DOWN.
    """
    for rate in (from_hz, to_hz):
        if not 0 < rate < MAX_RATE_HZ:
            raise InputError(f"sample rate {rate!r} Hz is not above 0 and below {MAX_RATE_HZ:g}: give it in Hz")
    exact = Fraction(to_hz) / Fraction(from_hz)
    if not 1 / MAX_DOWN <= exact <= MAX_UP:
        raise InputError(
            f"cannot resample {from_hz:g} S/s to {to_hz:g} S/s: the factor {to_hz / from_hz:g} is outside "
            f"1/{MAX_DOWN:g} to {MAX_UP:g}; check the rate, or use a contract nearer to it"
        )
    if abs(exact - 1) <= RATE_TOLERANCE:
        return Fraction(1)
    inverted = exact < 1
    wide = 1 / exact if inverted else exact
    last = max(1, MAX_FACTOR // math.ceil(wide))
    limits = [limit for power in range(17) if (limit := 2**power) < last]
    for limit in [*limits, last]:
        near = wide.limit_denominator(limit)
        if abs(near / wide - 1) <= RATE_TOLERANCE:
            break
    return 1 / near if inverted else near


def reach(ratio: Fraction) -> int:
    """Input samples to each side that one output sample of `resample_by` depends on, to 5e-6 of full scale."""
    return 0 if ratio == 1 else math.ceil(REACH * max(Fraction(1), 1 / ratio))


def resample(
    iq: npt.NDArray[np.complex64], from_hz: float, to_hz: float
) -> npt.NDArray[np.complex64]:  # complex64[ceil(n * to_hz / from_hz)]
    """IQ at another rate. What lies within 90 % of the slower rate's band keeps its level within 0.1 dB, and its
    images and aliases are 100 dB down; closer to the band's edge it fades.

    The edges of `iq` count as silence beyond them. Where the rates agree within RATE_TOLERANCE, `iq` itself
    comes back. Raises InputError on anything but a one-dimensional complex array, or rates `rate_ratio` refuses.
    """
    if not isinstance(iq, np.ndarray) or iq.ndim != 1 or not np.iscomplexobj(iq):
        shape = f"{iq.dtype}{list(iq.shape)}" if isinstance(iq, np.ndarray) else type(iq).__name__
        raise InputError(f"iq is {shape}; resampling needs a complex64[n] array")
    return resample_by(np.asarray(iq, np.complex64), rate_ratio(from_hz, to_hz))


def resample_by(iq: npt.NDArray[np.complex64], ratio: Fraction) -> npt.NDArray[np.complex64]:
    """`iq` at `ratio` times its rate; output sample k lies at input sample k / ratio."""
    if ratio == 1 or not iq.size:
        return iq
    up, down = ratio.numerator, ratio.denominator
    pairs = np.ascontiguousarray(iq).view(np.float32).reshape(-1, 2)
    found = soxr.resample(pairs, down, up, quality="HQ")
    out = np.zeros((-(-iq.size * up // down), 2), np.float32)
    out[: len(found)] = found[: len(out)]
    return out.view(np.complex64)[:, 0]
