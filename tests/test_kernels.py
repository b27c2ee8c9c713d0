"""The kernels of the GPU's front end, on a CPU: the same text as C++ gives the images that NumPy's front end draws, has
no races, stays within bounds, and compiles for every GPU from A100 to RTX 50 without spilling. None ran on a GPU."""

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract import Contract
from engine.kernels import THREADS, source
from engine.spectrogram import analysis, levels, resize_taps, spectrogram

from .scripted import burst, noise

EMULATION = Path(__file__).parent / "emulation.h"
FRAMES = 24
CONTRACT = Contract(capture_s=(FRAMES + 1) * 2048 / 20e6)
N = CONTRACT.capture_samples
SAME = 1e-4  # of the image's 0..1
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
CALLS = r"""
extern "C" void run_decibels(int frames, const float2* spectrum, const int* bins, float* decibel, float* peaks,
                             int n_fft, int kept, float floor_power)
{
    launch({frames, 1}, THREADS, [=] { decibels(spectrum, bins, decibel, peaks, n_fft, kept, floor_power); });
}
extern "C" void run_pixels(const float* decibel, const float* top_db, const float* row_weight, const int* low,
                           const int* high, const float* frame_weight, float* image, int size, float per_db)
{
    launch({(size + THREADS - 1) / THREADS, size}, THREADS,
           [=] { pixels(decibel, top_db, row_weight, low, high, frame_weight, image, size, per_db); });
}
"""
MAIN = r"""
int main()
{
    const int frames = 3, n_fft = 1000, kept = 300, size = 150;
    std::vector<float2> spectrum(frames * n_fft, {1.0f, -2.0f});
    std::vector<int> bins(kept), low(size), high(size);
    std::vector<float> decibel(frames * kept), peaks(frames), weight(size, 0.5f), top(1, 7.0f), image(size * size);
    for (int k = 0; k < kept; ++k) bins[k] = n_fft - 1 - 3 * k;
    for (int k = 0; k < size; ++k) { low[k] = k * 2 / size; high[k] = low[k] + 1; }
    run_decibels(frames, spectrum.data(), bins.data(), decibel.data(), peaks.data(), n_fft, kept, 1e-12f);
    run_pixels(decibel.data(), top.data(), weight.data(), low.data(), high.data(), weight.data(), image.data(), size,
               1 / 80.0f);
    return peaks[2] == 5.0f && image[size * size - 1] > 0.9f ? 0 : 1;
}
"""


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")


def compiled(folder: Path, text: str, *options: str) -> Path:
    (folder / "kernels.cpp").write_text(f'#include "{EMULATION}"\n{text}')
    target = folder / "kernels"
    command = ["g++", "-std=c++20", "-O1", "-g", *options, "-o", target, folder / "kernels.cpp", "-pthread"]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kernels")
    return ctypes.CDLL(str(compiled(folder, source() + CALLS, "-shared", "-fPIC")))


def at(array: np.ndarray) -> Any:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def drawn(kernels: Any, iq: np.ndarray, contract: Contract) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decibels, peaks and image, by the kernels, from NumPy's FFT."""
    window, bins = analysis(contract, np)
    segments = np.lib.stride_tricks.sliding_window_view(iq, contract.n_fft)[:: contract.hop]
    spectrum = np.fft.fft(segments * window).astype(np.complex64)
    frames, size = len(spectrum), contract.image_size
    decibel, peaks = np.zeros((frames, len(bins)), np.float32), np.zeros(frames, np.float32)
    kernels.run_decibels(
        frames, at(spectrum), at(bins), at(decibel), at(peaks), contract.n_fft, len(bins),
        ctypes.c_float(contract.power_floor),
    )  # fmt: skip
    top_db = np.array([10 * np.log10(float(peaks.max()) + contract.power_floor)], np.float32)
    image = np.zeros((size, size), np.float32)
    taps = [np.ascontiguousarray(part) for part in resize_taps(contract, frames, np)]
    kernels.run_pixels(at(decibel), at(top_db), *map(at, taps), at(image), size, ctypes.c_float(1 / contract.range_db))
    return decibel, peaks, image


@needs_compiler
@pytest.mark.parametrize("make", [lambda: burst(3e6, 0.0005, 0.0015, CONTRACT), lambda: noise(N)])
def test_the_kernels_draw_what_numpy_draws(kernels: Any, make: Any) -> None:
    iq = make()
    decibel, peaks, image = drawn(kernels, iq, CONTRACT)
    plain = levels(iq, CONTRACT)
    assert np.isclose(peaks.max(), plain.peak, rtol=1e-5)
    assert abs(decibel - plain.decibel)[plain.decibel > decibel.max() - 80].max() < 0.01
    assert abs(image - spectrogram(iq, CONTRACT)).max() < SAME


@needs_compiler
def test_a_capture_of_one_frame_is_drawn_too(kernels: Any) -> None:
    contract = replace(CONTRACT, capture_s=4096 / 20e6)
    iq = noise(contract.capture_samples)
    assert abs(drawn(kernels, iq, contract)[2] - spectrogram(iq, contract)).max() < SAME


@needs_compiler
def test_silence_and_what_is_no_number_come_out_as_in_numpy(kernels: Any) -> None:
    silent = np.zeros(CONTRACT.capture_samples, np.complex64)
    assert (drawn(kernels, silent, CONTRACT)[2] == spectrogram(silent, CONTRACT)).all()
    broken = noise(CONTRACT.capture_samples)
    broken[5000] = np.nan
    peaks = drawn(kernels, broken, CONTRACT)[1]
    assert np.isnan(peaks).any() and np.isfinite(peaks).any()


def test_a_block_has_as_many_threads_as_the_source_says() -> None:
    assert f"#define THREADS {THREADS} " in source()


@needs_compiler
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_no_race_and_nothing_out_of_bounds(tmp_path: Path, sanitizer: str) -> None:
    program = compiled(tmp_path, source() + CALLS + MAIN, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    done = subprocess.run(["setarch", "-R", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_compiler
def test_the_sanitizer_would_see_a_race(tmp_path: Path) -> None:
    text = source().replace("        __syncthreads();\n", "")
    program = compiled(tmp_path, text + CALLS + MAIN, "-fsanitize=thread")
    done = subprocess.run(["setarch", "-R", program], capture_output=True, text=True)
    assert "data race" in done.stderr


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_and_keep_to_their_registers(architecture: str) -> None:
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source(), "front_end.cu", (), ())
    nvrtc.compileProgram(program, ("--std=c++17", f"-arch={architecture}", "--ptxas-options=-v"))
    assert len(nvrtc.getCUBIN(program)) > 1000
    told = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    assert told.count("0 bytes spill stores, 0 bytes spill loads") == 2, told
