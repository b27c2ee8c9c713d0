"""Arrays of any length, type and layout give a valid result or an error that names the value and the remedy.

Rows E01 to E03 of the list of faults. After every one of them a normal capture gives what it gave before.
"""

import array
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError

from .scripted import NORMAL, RATE, SHORT, Bench, accepted, bench, refused, same, tone, unharmed

N = SHORT.capture_samples
HUGE = 2**31 + 1  # one more than a 32-bit index reaches


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench()


# E01: lengths


@pytest.mark.parametrize("samples", [0, 1, 4095])
def test_e01_less_than_a_frame_is_refused(b: Bench, samples: int) -> None:
    refused(b, NORMAL[:samples], f"iq has {samples} samples.*at least 4096: hand over a longer capture")


@pytest.mark.parametrize("samples", [4096, 4097, *(4096 + 2048 * k - 1 for k in (1, 2, 7)), N - 1, N])
def test_e01_a_frame_or_more_is_enough(b: Bench, samples: int) -> None:
    result = accepted(b, tone(samples, 3e6))
    assert result.stop_s == samples / RATE
    assert len(result.notes) == (samples < N)


def test_e01_one_sample_more_than_a_capture_is_refused(b: Bench) -> None:
    refused(b, np.append(NORMAL, 0j).astype(np.complex64), "iq has 200001 samples.*cut it, or use Engine.stream")


@pytest.mark.parametrize("rate", [RATE, 9e11])  # at the latter it is short enough in seconds
def test_e01_more_samples_than_an_int32_counts_are_refused_at_once(b: Bench, rate: float) -> None:
    iq = np.broadcast_to(np.complex64(1), HUGE)  # takes eight bytes, and 17 GB were it copied
    with unharmed(b):
        tracemalloc.start()
        try:
            began = time.monotonic()
            with pytest.raises(InputError, match=r"2147483649 samples|cannot resample 9e\+11"):
                b.detect(iq, sample_rate_hz=rate)
            assert time.monotonic() - began < 1
            assert tracemalloc.get_traced_memory()[1] < 1e6
        finally:
            tracemalloc.stop()


# E02: types


@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", ">c16", np.clongdouble], ids=str)
def test_e02_every_complex_type_means_the_same(b: Bench, dtype: Any) -> None:
    assert same(accepted(b, NORMAL.astype(dtype)), b.detect(NORMAL))


NOT_COMPLEX: dict[str, Callable[[], Any]] = {
    "int16 pairs": lambda: (NORMAL.view(np.float32) * 32767).astype(np.int16),
    "int8 pairs": lambda: (NORMAL.view(np.float32) * 127).astype(np.int8),
    "uint8 pairs": lambda: np.zeros(2 * N, np.uint8),
    "float32 pairs": lambda: NORMAL.view(np.float32),
    "float32 pairs [n, 2]": lambda: NORMAL.view(np.float32).reshape(-1, 2),
    "float64": lambda: np.zeros(N),
    "float16": lambda: np.zeros(N, np.float16),
    "big-endian int16": lambda: np.zeros(N, ">i2"),
    "bool": lambda: np.ones(N, bool),
    "objects": lambda: NORMAL.astype(object),
    "text": lambda: np.array(["1+1j"] * 5000),
    "times": lambda: np.zeros(5000, "datetime64[s]"),
    "fields": lambda: np.zeros(5000, [("i", "<i2"), ("q", "<i2")]),
    "void": lambda: np.zeros(5000, "V8"),
    "bytes": lambda: NORMAL.tobytes(),
    "array of floats": lambda: array.array("f", [0.0] * 9000),
    "list of floats": lambda: [0.0] * 9000,
    "list of text": lambda: ["iq"] * 5000,
    "ragged list": lambda: [[1j], [1j, 2j]],
    "a path": lambda: "capture.cf32",
    "nothing": lambda: None,
    "one number": lambda: 1.0,
    "a generator": lambda: (1j for _ in range(5000)),
    "a dict": dict,
}


@pytest.mark.parametrize("name", NOT_COMPLEX)
def test_e02_what_is_not_complex_is_never_taken_for_it(b: Bench, name: str) -> None:
    refused(b, NOT_COMPLEX[name](), r"^iq is .*; (make pairs complex|hand over complex64|move it)")


def test_e02_the_remedy_named_for_pairs_works(b: Bench) -> None:
    pairs = np.rint(NORMAL.view(np.float32) * 20_000).astype(np.int16)
    iq = (pairs[0::2] + 1j * pairs[1::2]) / 32768
    # 16 bits put the noise floor where the faint noise is, so only the place is the same
    (found,), (expected,) = accepted(b, iq), b.detect(NORMAL)
    assert (found.start_s, found.low_hz) == (expected.start_s, expected.low_hz)


# E03: layouts


class ArrayInterface:
    """Knows only NumPy's array protocol."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return NORMAL


class OnlyDlpack:
    """Offers its memory by DLPack and nothing else."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def read_only() -> np.ndarray:
    iq = NORMAL.copy()
    iq.flags.writeable = False
    return iq


LAYOUTS: dict[str, Callable[[], Any]] = {
    "every second": lambda: np.repeat(NORMAL, 2)[::2],
    "backwards": lambda: NORMAL[::-1].copy()[::-1],
    "a column": lambda: np.stack([NORMAL, NORMAL * 2], axis=1)[:, 0],
    "read-only": read_only,
    "unaligned": lambda: np.frombuffer(b"x" + NORMAL.tobytes(), np.complex64, offset=1),
    "memoryview": lambda: memoryview(NORMAL),
    "list": NORMAL.tolist,
    "tuple": lambda: tuple(NORMAL.tolist()),
    "array protocol": ArrayInterface,
    "torch": lambda: torch.from_numpy(NORMAL.copy()),
    "torch double": lambda: torch.from_numpy(NORMAL.astype(np.complex128)),
    "torch strided": lambda: torch.from_numpy(np.repeat(NORMAL, 2))[::2],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_e03_every_layout_in_host_memory_means_the_same(b: Bench, name: str) -> None:
    assert same(accepted(b, LAYOUTS[name]()), b.detect(NORMAL))


@pytest.mark.parametrize("rate", [RATE, 2 * RATE])
def test_e03_masked_samples_are_missing_as_nan_is(b: Bench, rate: float) -> None:
    iq = np.ma.masked_array(NORMAL[: N // 2], mask=False)
    iq[1000] = np.ma.masked
    with unharmed(b):
        masked, missing = (b.detect(samples, sample_rate_hz=rate) for samples in (iq, iq.filled(np.nan)))
    assert masked.data_quality == missing.data_quality == "invalid"
    assert len(masked) == len(missing) == 0


def test_e03_a_masked_array_without_a_mask_is_as_its_samples(b: Bench) -> None:
    assert same(accepted(b, np.ma.masked_array(NORMAL, mask=False)), b.detect(NORMAL))


NOT_ONE_CHANNEL: dict[str, tuple[Callable[[], Any], str]] = {
    "2-D": (lambda: NORMAL.reshape(2, -1), r"shape \(2, 100000\); hand over one channel"),
    "one row": (lambda: NORMAL[None], r"shape \(1, 200000\)"),
    "F-order": (lambda: np.asfortranarray(NORMAL.reshape(-1, 2)), r"shape \(100000, 2\)"),
    "no dimension": (lambda: np.complex64(1j), r"shape \(\)"),
    "torch with a pending conjugation": (lambda: torch.from_numpy(NORMAL.copy()).conj(), "resolve_conj"),
    "torch that wants gradients": (lambda: torch.from_numpy(NORMAL.copy()).requires_grad_(), "detach"),
    "torch without memory": (lambda: torch.empty(N, dtype=torch.complex64, device="meta"), "host memory"),
    "DLPack only": (lambda: OnlyDlpack(torch.from_numpy(NORMAL.copy())), r"OnlyDlpack.*numpy.from_dlpack"),
}


@pytest.mark.parametrize("name", NOT_ONE_CHANNEL)
def test_e03_what_is_not_one_channel_in_host_memory_is_refused_with_a_remedy(b: Bench, name: str) -> None:
    make, said = NOT_ONE_CHANNEL[name]
    refused(b, make(), said)
