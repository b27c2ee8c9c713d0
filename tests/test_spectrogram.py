"""The front end: equal to an independent torch pipeline, right way up, locked by a hash, on any array namespace."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import spectrogram as front_end
from engine.boxes import to_pixels
from engine.contract import CONTRACTS, ISM, WIDEBAND, Contract
from engine.devices.open import open_device
from engine.errors import InputError, MismatchError
from engine.recordings.open import open_recording
from engine.spectrogram import levels, spectrogram, to_image

from .scripted import SHORT, burst, noise, tone

REAL = Path(__file__).parents[2] / "shared" / "data"
# of the image's 0..1 over 80 dB, thus 0.008 dB: single precision's error in bins 80 dB below the strongest
SAME = 1e-4
# spread over the formats, rates from 0.5 to 19.2 MS/s, and both longer and shorter than a capture
RECORDINGS = {
    "noise_2360": CONTRACTS["wideband"],
    "dump1090_modes1": ISM,
    "rccar_light": ISM,
    "ledremote_blue": ISM,
    "wifi_radiated_dot11n_6.5mbps": SHORT,
}


def reference(iq: np.ndarray, contract: Contract) -> np.ndarray:
    """The specification in torch, sharing nothing with the engine but the contract's numbers."""
    spectrum = torch.stft(
        torch.from_numpy(iq),
        contract.n_fft,
        hop_length=contract.hop,
        window=torch.hann_window(contract.n_fft, periodic=True),
        center=False,
        onesided=False,
        return_complex=True,
    )
    decibel = 10 * torch.log10(spectrum.abs() ** 2 + 1e-12)
    bottom = decibel.max() - 80
    grey = torch.fft.fftshift(((decibel - bottom) / 80).clamp(0, 1), dim=0)
    size = (contract.image_size, contract.image_size)
    image = torch.nn.functional.interpolate(grey[None, None], size=size, mode="bilinear", align_corners=False)
    return image[0, 0].flip(0).numpy()


def impulse(n: int) -> np.ndarray:
    iq = np.zeros(n, np.complex64)
    iq[n // 2] = 1
    return iq


SHORT_N = SHORT.capture_samples
CAPTURES = {
    "noise": lambda: noise(SHORT_N),
    "tone on a bin": lambda: tone(SHORT_N, 410 / 4096 * 20e6),
    "tone between bins": lambda: tone(SHORT_N, -2.0031e6),
    "burst": burst,
    "impulse": lambda: impulse(SHORT_N),
    "constant": lambda: np.full(SHORT_N, 0.3 - 0.1j, np.complex64),
    "silence": lambda: np.zeros(SHORT_N, np.complex64),
    "near the floor": lambda: noise(SHORT_N, level=1e-8),
    "loud": lambda: noise(SHORT_N, level=1e9),
    "clipped": lambda: np.sign(noise(SHORT_N).view(np.float32)).view(np.complex64),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_the_image_equals_an_independent_pipeline_in_torch(name: str) -> None:
    iq = CAPTURES[name]()
    assert abs(spectrogram(iq, SHORT) - reference(iq, SHORT)).max() < SAME


@pytest.mark.parametrize(("image_size", "n_fft", "hop"), [(768, 4096, 2048), (1000, 1024, 300), (64, 512, 512)])
def test_the_image_equals_the_pipeline_s_for_sizes_that_do_not_divide(image_size: int, n_fft: int, hop: int) -> None:
    contract = replace(SHORT, image_size=image_size, n_fft=n_fft, hop=hop)
    iq = burst(contract=contract)
    assert abs(spectrogram(iq, contract) - reference(iq, contract)).max() < SAME


@pytest.mark.parametrize("seed", [1, 2])
def test_the_image_of_a_whole_default_capture_equals_the_independent_pipeline(seed: int) -> None:
    iq = burst(-7e6, 0.05, 0.11, WIDEBAND, seed)
    image = spectrogram(iq, WIDEBAND)
    assert abs(image - reference(iq, WIDEBAND)).max() < SAME
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((1024, 1024), np.float32, True)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
@pytest.mark.parametrize("name", RECORDINGS)
def test_the_image_of_a_real_recording_equals_the_independent_pipeline(name: str) -> None:
    (path,) = REAL.rglob(f"{name}.sigmf-meta")
    iq = open_recording(path).capture(RECORDINGS[name], 0).iq
    assert abs(spectrogram(iq, RECORDINGS[name]) - reference(iq, RECORDINGS[name])).max() < SAME


@pytest.mark.parametrize("samples", [4096, 4097, 6143, 6144, 4096 + 2048 * 7 - 1, 4096 + 2048 * 200])
def test_a_capture_has_as_many_frames_as_fit_whole(samples: int) -> None:
    iq = noise(samples)
    found = levels(iq, SHORT)
    expected = torch.from_numpy(iq).unfold(0, 4096, 2048).shape[0]
    assert found.decibel.shape == (expected, 2 * SHORT.image_size)
    assert expected == (samples - 4096) // 2048 + 1
    assert abs(spectrogram(iq, SHORT) - reference(iq, SHORT)).max() < SAME


@pytest.mark.parametrize("samples", [0, 1, 4095])
def test_less_than_one_frame_is_refused(samples: int) -> None:
    with pytest.raises(InputError, match=f"iq has {samples} samples; the front end needs at least 4096"):
        levels(np.zeros(samples, np.complex64), SHORT)


# the right way up


@pytest.mark.parametrize("freq_hz", [9.9e6, 5e6, 123_456.0, -15e3, -3.3e6, -9.99e6])
def test_a_tone_lies_in_the_row_that_the_boxes_say(freq_hz: float) -> None:
    image = spectrogram(tone(SHORT_N, freq_hz), SHORT)
    row = int(image.mean(axis=1).argmax())
    _, y_min, _, y_max = to_pixels(np.array([[0.0, 0.01, freq_hz, freq_hz]]), SHORT)[0]
    assert y_min == y_max
    assert row <= y_min + 0.5 and row + 1 >= y_min - 0.5  # a row is four bins: half of it to both sides is two
    assert (row < 512) == (freq_hz > 0)  # row 0 is the highest frequency


def test_a_burst_lies_in_the_columns_that_the_boxes_say() -> None:
    image = spectrogram(burst(3e6, 0.002, 0.007), SHORT)
    columns = np.flatnonzero(image.max(axis=0) > 0.85)
    x_min, _, x_max, _ = to_pixels(np.array([[0.002, 0.007, 3e6, 3e6]]), SHORT)[0]
    frame = 1024 / SHORT.frames  # in columns: a tone fills a frame as soon as it reaches well into it
    assert columns[0] == pytest.approx(x_min, abs=frame)
    assert columns[-1] + 1 == pytest.approx(x_max, abs=frame)


# range


def test_the_image_does_not_depend_on_the_capture_s_level() -> None:
    image = spectrogram(burst(), SHORT)
    for level in (1e-2, 1e3, 1e11, 1e13, 1e30, 3e38):  # above 1e12 power would leave single precision
        # at 1e-2 the 1e-12 under the logarithm is 96 dB down and lifts what lies 80 dB down by 0.1 dB, 0.0013
        assert abs(spectrogram(burst() * np.float32(level), SHORT) - image).max() < 0.002


def test_every_image_is_finite_and_within_0_and_1() -> None:
    for make in CAPTURES.values():
        image = spectrogram(make(), SHORT)
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.parametrize(("level", "expected"), [(0.0, False), (1e-40, False), (1e-30, False), (1e-6, True)])
def test_a_capture_has_power_when_it_stands_above_the_floor(level: float, expected: bool) -> None:
    iq = np.full(SHORT_N, level, np.complex64)
    assert levels(iq, SHORT).has_power(SHORT) is expected


# the contract


def test_the_hashes_of_the_contracts_in_use_never_change() -> None:
    assert WIDEBAND.hash == "239f710fe6737209e327122600816622c89808f83ae977a5dee4a780eafd13c9"
    assert ISM.hash == "b975849a6f72ab8d0ff30449fe3c72c75d551860e407024bda36137518ddbcf7"


@pytest.mark.parametrize("name", [item.name for item in fields(Contract)])
def test_every_setting_changes_the_hash(name: str) -> None:
    value = getattr(WIDEBAND, name)
    changed = replace(WIDEBAND, **{name: f"{value}x" if isinstance(value, str) else value * 2})
    assert changed.hash != WIDEBAND.hash
    assert Contract.from_json(changed.as_json()) == changed


def test_an_edited_or_unknown_contract_is_refused() -> None:
    stored = WIDEBAND.as_json()
    with pytest.raises(MismatchError, match="the file was edited"):
        Contract.from_json({**stored, "hop": 1024})
    with pytest.raises(MismatchError, match="does not know"):
        Contract.from_json({**stored, "colour": "red"})


# another namespace


class Foreign(np.ndarray):
    """Stands in for CuPy's array: refuses to meet a NumPy array, and NumPy's functions."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        assert not any(type(value) is np.ndarray for value in inputs), f"{ufunc.__name__} meets a NumPy array"
        plain = [np.asarray(value) if isinstance(value, Foreign) else value for value in inputs]
        return foreign(getattr(ufunc, method)(*plain, **options))

    def __array_function__(self, function: Any, kinds: Any, arguments: Any, options: Any) -> Any:
        raise AssertionError(f"NumPy's {function.__name__} called on another namespace's array")

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        assert not any(type(part) is np.ndarray for part in parts), "indexed by a NumPy array"
        return super().__getitem__(key)


def foreign(value: Any) -> Any:
    return value.view(Foreign) if isinstance(value, np.ndarray) else value


class Namespace:
    """NumPy under another name, with only what CuPy has too. Its functions take and give its own arrays."""

    ALLOWED = frozenset({
        "asarray", "empty", "maximum", "stack", "clip", "log", "log10", "float32", "float64", "fft.fft",
        "lib.stride_tricks.sliding_window_view",
    })  # fmt: skip

    def __init__(self, path: str = "") -> None:
        self.path = path

    def __getattr__(self, name: str) -> Any:
        path = f"{self.path}.{name}".lstrip(".")
        if any(allowed.startswith(f"{path}.") for allowed in self.ALLOWED):
            return Namespace(path)
        assert path in self.ALLOWED, f"xp.{path} is new here: check that CuPy has it, then allow it"
        target: Any = np
        for part in path.split("."):
            target = getattr(target, part)
        if isinstance(target, type):
            return target

        def call(*arguments: Any, **options: Any) -> Any:
            if name != "asarray":
                assert not any(type(value) is np.ndarray for value in arguments), f"xp.{path} takes a NumPy array"
            plain = [np.asarray(value) if isinstance(value, Foreign) else value for value in arguments]
            return foreign(target(*plain, **options))

        return call


@pytest.mark.parametrize("level", [1.0, 1e20])
def test_the_same_lines_run_on_another_array_namespace(level: float) -> None:
    iq = burst() * np.float32(level)
    image = spectrogram(foreign(iq), SHORT, Namespace())
    assert type(image) is Foreign
    assert abs(np.asarray(image) - spectrogram(iq, SHORT)).max() < SAME  # two FFT libraries


def test_blocks_worked_on_at_once_make_the_same_image() -> None:
    iq, device = burst(contract=WIDEBAND), open_device("cpu")
    found = levels(iq, WIDEBAND, np, device.parallel_map)
    image = to_image(found, WIDEBAND, np, device.parallel_map)
    assert np.array_equal(image, spectrogram(iq, WIDEBAND))


def test_windows_and_taps_made_once_are_never_changed() -> None:
    def made() -> list[np.ndarray]:
        return [*front_end.analysis(SHORT, np), *front_end.resize_taps(SHORT, SHORT.frames, np)]

    before = [part.copy() for part in made()]
    spectrogram(burst() * np.float32(1e20), SHORT)
    assert all(np.array_equal(a, b) for a, b in zip(made(), before, strict=True))
    assert math.isclose(float(before[0].sum()), 2048, rel_tol=1e-6)  # periodic: sums to half its length
