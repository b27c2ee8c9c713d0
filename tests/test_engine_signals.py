"""Any signal, any rate: a valid result, or an error that names the value and the remedy.

Rows E04 to E06 of the list of faults. After every one of them a normal capture gives what it gave before.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from reprlib import repr as shortened
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError
from engine.recordings.resampling import rate_ratio

from .scripted import NORMAL, RATE, SHORT, Bench, accepted, bench, noise, refused, same, tone, unharmed

N = SHORT.capture_samples


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench()


# E04: signals


def clipped() -> np.ndarray:
    return np.sign(noise(N).view(np.float32)).view(np.complex64)


def impulse() -> np.ndarray:
    return np.eye(1, N, N // 2, dtype=np.complex64)[0]


SIGNALS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "silence": (lambda: np.zeros(N, np.complex64), "silent"),
    "constant": (lambda: np.full(N, 0.5 + 0.5j, np.complex64), "ok"),
    "impulse": (impulse, "ok"),
    "impulse where no frame looks": (lambda: np.roll(impulse(), N // 2 - 1), "silent"),
    "denormals": (lambda: noise(N) * np.float32(1e-40), "silent"),
    "clipped": (clipped, "ok"),
    "tone": (lambda: tone(N, 3e6), "ok"),
    "white noise": (lambda: noise(N), "ok"),
    "1e30": (lambda: NORMAL * np.float32(1e30), "ok"),
    "1e-30": (lambda: NORMAL * np.float32(1e-30), "silent"),
    "largest float32": (lambda: np.full(N, 3.4e38 + 3.4e38j, np.complex64), "ok"),
    "one 1e38 in noise": (lambda: noise(N) + 1e38 * impulse(), "ok"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_e04_every_finite_signal_gives_a_valid_image_or_is_told_as_silent(b: Bench, name: str) -> None:
    make, quality = SIGNALS[name]
    b.backbone.calls.clear()
    result = accepted(b, make())
    assert result.data_quality == quality
    assert len(result) == (quality == "ok")
    for fed in b.backbone.calls:
        assert np.isfinite(fed["image"]).all()
        assert fed["image"].min() >= 0
        assert fed["image"].max() == pytest.approx(1, abs=0.6)  # rows skip bins, so the top need not be seen


@pytest.mark.parametrize("level", [1e-2, 1e6, 1e30, 1e38])
def test_e04_the_level_of_a_capture_does_not_move_its_boxes(b: Bench, level: float) -> None:
    (found,), (expected,) = accepted(b, NORMAL * np.float32(level)), b.detect(NORMAL)
    assert found == expected


# E05: not finite


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, complex(0, math.nan), complex(math.inf, math.nan)])
@pytest.mark.parametrize("where", [slice(5, 6), slice(N - 1, N), slice(4096, 8192), slice(None)], ids=str)
@pytest.mark.parametrize("rate", [RATE, RATE * 1.25])
def test_e05_samples_that_are_not_finite_make_their_capture_invalid(
    b: Bench, value: complex, where: slice, rate: float
) -> None:
    iq = NORMAL.copy()
    iq[where] = value
    result = accepted(b, iq, sample_rate_hz=rate)
    assert (result.data_quality, len(result)) == ("invalid", 0)
    assert result.versions == {"radar": 1}


def test_e05_numbers_beyond_float32_are_not_finite(b: Bench) -> None:
    assert accepted(b, NORMAL.astype(np.complex128) * 1e300).data_quality == "invalid"


# E06: rates, centres, thresholds


NUMBERS: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    "20e6",
    True,
    None,
    2e7 + 0j,
    [2e7],
    Decimal(20),
    np.True_,
]


@pytest.mark.parametrize("rate", [0, -1.0, 1e12, 1e300, *NUMBERS], ids=shortened)
def test_e06_a_rate_that_cannot_be_is_refused(b: Bench, rate: Any) -> None:
    refused(b, NORMAL, r"sample_rate_hz is .*give", sample_rate_hz=rate)


@pytest.mark.parametrize("centre", [value for value in NUMBERS if value is not None], ids=shortened)
def test_e06_a_centre_that_cannot_be_is_refused(b: Bench, centre: Any) -> None:
    refused(b, NORMAL, r"center_freq_hz is .*give a finite number of hertz", center_freq_hz=centre)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, *(value for value in NUMBERS if value is not None)], ids=shortened)
def test_e06_a_threshold_that_cannot_be_is_refused(b: Bench, threshold: Any) -> None:
    refused(b, NORMAL, r"threshold is .*(give a finite number|between 0 and 1)", threshold=threshold)
    with pytest.raises(InputError, match="threshold is"):
        bench(threshold=threshold)


def test_e06_a_rate_in_the_wrong_unit_is_refused_with_what_it_would_mean(b: Bench) -> None:
    refused(b, NORMAL, "200000 samples, 10000 s; one capture is 0.01 s", sample_rate_hz=20.0)  # MHz
    refused(b, NORMAL, "at 20 MS/s; the front end needs at least 4096", sample_rate_hz=2e9)
    long = np.broadcast_to(np.complex64(1), 40_000_000)
    refused(b, long, r"cannot resample 5\.2e\+09.*check the rate", sample_rate_hz=5.2e9)
    with unharmed(b), pytest.raises(TypeError, match="sample_rate_hz"):
        b.engine.detect(NORMAL)  # type: ignore[call-arg]


def test_e06_a_rate_next_to_nothing_is_refused(b: Bench) -> None:
    refused(b, NORMAL, "inf s; one capture is", sample_rate_hz=5e-324)
    refused(b, NORMAL[:0], "cannot resample", sample_rate_hz=5e-324)
    with pytest.raises(InputError, match="check the rate"):
        rate_ratio(1e-310, RATE)


@pytest.mark.parametrize("kind", [int, float, np.float32, np.int64, np.uint32])
def test_e06_every_kind_of_number_is_a_rate(b: Bench, kind: Any) -> None:
    assert same(accepted(b, NORMAL, sample_rate_hz=kind(RATE), center_freq_hz=kind(0)), b.detect(NORMAL))


@pytest.mark.parametrize("factor", [1 / 25, 0.5, 0.96, 1 + 5e-7, 1.0001, 2.304, 7])
def test_e06_a_rate_near_enough_is_resampled(b: Bench, factor: float) -> None:
    given = replace(SHORT, sample_rate_hz=RATE * factor)
    freq_hz = 0.2 * min(RATE, given.sample_rate_hz)
    (found,) = accepted(b, tone(given.capture_samples, freq_hz, given.sample_rate_hz), sample_rate_hz=RATE * factor)
    rows_hz = 4 * RATE / 1024  # a tone off the bins' middles leaks over a few
    assert (found.low_hz, found.high_hz) == pytest.approx((freq_hz, freq_hz), abs=rows_hz)
