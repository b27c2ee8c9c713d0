"""The kernels on a CPU: the same text as C++ gives the images and regions that NumPy's way gives, has no races, stays
within bounds, and compiles for every GPU from A100 to RTX 50. None of it ran on a GPU."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract import Contract
from engine.devices.kernels import OPTIONS, SOURCES, front_end, source
from engine.devices.kernels import regions as on_gpu
from engine.devices.kernels.front_end import render
from engine.regions import regions
from engine.spectrogram import render as plain_render

from .emulated import compiled, needs_compiler, on_cpu, with_calls
from .scripted import burst, noise
from .test_regions import noisy, with_boxes

FRAMES = 24
CONTRACT = Contract(capture_s=(FRAMES + 1) * 2048 / 20e6)
N = CONTRACT.capture_samples
SAME = 1e-4  # of the image's 0..1: two ways of adding the same numbers
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")


# the front end


@needs_compiler
@pytest.mark.parametrize("make", [lambda: burst(3e6, 0.0005, 0.0015, CONTRACT), lambda: noise(N) * np.float32(1e20)])
def test_the_kernels_draw_what_numpy_draws(make: Any) -> None:
    image, stats = render(make(), CONTRACT, np, on_cpu)
    plain, plain_stats = plain_render(make(), CONTRACT)
    assert abs(image - plain).max() < SAME
    assert (stats == plain_stats).all()


@needs_compiler
def test_a_capture_of_one_frame_is_drawn_too() -> None:
    contract = replace(CONTRACT, capture_s=4096 / 20e6)
    iq = noise(contract.capture_samples)
    assert abs(render(iq, contract, np, on_cpu)[0] - plain_render(iq, contract)[0]).max() < SAME


@needs_compiler
def test_silence_and_what_is_no_number_are_told() -> None:
    assert render(np.zeros(N, np.complex64), CONTRACT, np, on_cpu)[1].tolist() == [0, 0]
    broken = noise(N)
    broken[5000] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(render(broken, CONTRACT, np, on_cpu)[1][0])


# regions


def keyed() -> np.ndarray:
    return with_boxes([*((100 + 20 * k, 300, 108 + 20 * k, 310) for k in range(20)), (600, 600, 640, 700)])


def crowded(count: int = 300, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 990, (count, 2))
    sides = rng.integers(2, 120, (count, 2)) // rng.integers(1, 20, (count, 2)) + 1
    boxes = np.concatenate([corners, np.minimum(corners + sides, 1024)], axis=1)
    return with_boxes([tuple(box) for box in boxes.tolist()], 18.0)


def dotted() -> np.ndarray:
    """Thousands of equal patches: more than are looked at, all of one rank."""
    image = np.full((1024, 1024), 0.1, np.float32)
    image[5::12, 5::12] = image[6::12, 5::12] = image[5::12, 6::12] = 0.6
    return image


IMAGES = {
    "noise": lambda: noisy(3),
    "one of each shape": lambda: with_boxes([(300, 100, 302, 900), (100, 500, 900, 503), (400, 400, 460, 470)]),
    "keyed": keyed,
    "crowded": crowded,
    "more candidates than are looked at": lambda: crowded(4000, 8),
    "thousands of equal rank": dotted,
    "nearly full": lambda: with_boxes([(20, 40, 1000, 980)], 40.0),
    "to the edges": lambda: with_boxes([(0, 0, 50, 50), (1000, 0, 1024, 1024), (0, 1020, 1024, 1024)]),
    "one row at the ends": lambda: with_boxes([(200, 0, 600, 1), (0, 1023, 300, 1024), (300, 400, 700, 401)], 30.0),
    "black": lambda: np.zeros((1024, 1024), np.float32),
    "white": lambda: np.ones((1024, 1024), np.float32),
    "stripes": lambda: np.tile(np.float32([0, 1]), (1024, 512)),
    "steps of one pixel": lambda: np.eye(1024, dtype=np.float32),
}


@needs_compiler
@pytest.mark.parametrize("name", IMAGES)
def test_the_kernels_find_the_regions_that_numpy_finds_to_the_box(name: str) -> None:
    image = IMAGES[name]()
    found = on_gpu.regions(image, np, on_cpu)
    assert np.array_equal(found, regions(image))


# what the text does besides

MAINS = {
    ("front_end.cu",): r"""
int main()
{
    const int frames = 3, n_fft = 1000, kept = 300, size = 150;
    std::vector<float2> spectrum(frames * n_fft, {1.0f, -2.0f});
    std::vector<int> bins(kept), low(size), high(size);
    std::vector<float> decibel(frames * kept), peaks(frames), weight(size, 0.5f), top(1, 7.0f), image(size * size);
    for (int k = 0; k < kept; ++k) bins[k] = n_fft - 1 - 3 * k;
    for (int k = 0; k < size; ++k) { low[k] = k * 2 / size; high[k] = low[k] + 1; }
    run_decibels(frames, 1, THREADS, spectrum.data(), bins.data(), decibel.data(), peaks.data(), n_fft, kept, 1e-12f);
    run_pixels(1, size, THREADS, decibel.data(), top.data(), weight.data(), low.data(), high.data(), weight.data(),
               image.data(), size, 1 / 80.0f);
    return peaks[2] == 5.0f && image[size * size - 1] > 0.9f ? 0 : 1;
}
""",
    ("patches.cu", "ranking.cu"): r"""
int main()
{
    const int columns = 16, capacity = 8192, most = 50, words = 4, count = 128, looks_count = 2, bits = 12;
    std::vector<float> picture(ROWS * columns), boxes(most * 4), found(4), levels(1);
    unsigned state = 1;
    for (float& pixel : picture) pixel = (state = state * 1664525 + 1013904223) >> 30 ? 0.6f : 1.0f;
    const Look looks[looks_count] = {{0, columns, 0, 0, 0, 1, 0, 0}, {0, columns, 1, 0, 0, 1, 1, 0}};
    const int first = 0;
    const double shares[2] = {0.25, 0.02};
    std::vector<int> counts(looks_count * ROWS), ends(counts), nodes(looks_count * capacity * 6), shown(1);
    std::vector<int> sums((ROWS + 1) * (ROWS + 1)), bins(7 * 2048), taken(1);
    std::vector<unsigned long long> table(1 << bits, NOTHING), keys(count), best(count, NOTHING);
    std::vector<unsigned> codes(table.size()), best_codes(count), similar(count * words);
    Last last = {0, 0, count - 1};
    run_quantiles(4, 1, 256, picture.data(), looks, &first, shares, found.data(), shown.data(), 7, 0.5f);
    levels[0] = found[0] + 0.2f;
    run_count_runs(8, looks_count, 128, picture.data(), levels.data(), looks, counts.data());
    for (int look = 0; look < looks_count; ++look)
        for (int row = 0, total = 0; row < ROWS; ++row) ends[look * ROWS + row] = total += counts[look * ROWS + row];
    if (ends[ROWS - 1] > capacity || ends[ROWS - 1] < ROWS) return 2;
    run_write_runs(8, looks_count, 128, picture.data(), levels.data(), looks, ends.data(), nodes.data(), capacity);
    run_join_runs(8, looks_count, 128, ends.data(), nodes.data(), capacity);
    run_gather_boxes(64, looks_count, 128, ends.data(), nodes.data(), capacity);
    run_insert_boxes(64, looks_count, 128, looks, ends.data(), nodes.data(), table.data(), capacity, 3, 2, bits);
    for (int place = 0; place < (int)sums.size(); ++place) sums[place] = place * 3 % 1000;
    run_standing_out(32, 1, 128, table.data(), sums.data(), codes.data(), (int)table.size(), 3, 4, 2000);
    for (int pass = 0; pass < 7; ++pass) {
        run_histogram(32, 1, 128, table.data(), codes.data(), &last, bins.data(), (int)table.size(), pass);
        run_choose(1, 1, 256, bins.data(), &last, pass);
    }
    run_gather_best(32, 1, 128, table.data(), codes.data(), &last, keys.data(), best_codes.data(), taken.data(),
                    (int)table.size());
    run_order_best(1, 1, 128, keys.data(), best_codes.data(), taken.data(), best.data());
    run_alike(1, count, 128, best.data(), similar.data(), count, words, 0.75);
    run_keep(1, 1, 128, best.data(), similar.data(), boxes.data(), count, words, most);
    return taken[0] == count && best[count - 1] != NOTHING && boxes[2] > 0 ? 0 : 1;
}
""",
}


def ran(folder: Path, text: str, sanitizer: str) -> subprocess.CompletedProcess[str]:
    program = compiled(folder, text, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    return subprocess.run(["setarch", "-R", program], capture_output=True, text=True)


@needs_compiler
@pytest.mark.parametrize("names", MAINS)
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_no_race_and_nothing_out_of_bounds(tmp_path: Path, names: tuple[str, ...], sanitizer: str) -> None:
    done = ran(tmp_path, with_calls(*names) + MAINS[names], sanitizer)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_compiler
@pytest.mark.parametrize(
    ("names", "broken", "by"),
    [
        (("front_end.cu",), "        __syncthreads();\n", ""),
        (("patches.cu", "ranking.cu"), "atomicMin(nodes + (size_t)high * 6, low)", "nodes[(size_t)high * 6] = low"),
    ],
)
def test_the_sanitizer_would_see_a_race(tmp_path: Path, names: tuple[str, ...], broken: str, by: str) -> None:
    text = with_calls(*names)
    assert broken in text
    done = ran(tmp_path, text.replace(broken, by) + MAINS[names], "thread")
    assert "data race" in done.stderr


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_and_keep_to_their_registers(architecture: str, name: str) -> None:
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source(name), name, (), ())
    nvrtc.compileProgram(program, (*OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"))
    assert len(nvrtc.getCUBIN(program)) > 1000
    report = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    assert report.count("0 bytes spill stores, 0 bytes spill loads") == len(SOURCES[name]), report


def test_a_block_has_as_many_threads_as_the_sources_say() -> None:
    assert f"#define THREADS {front_end.THREADS} " in source("front_end.cu")
    assert "dropped[128]" in source("ranking.cu") and on_gpu.WORDS <= 128
