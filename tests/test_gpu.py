"""What only a GPU can tell. Skipped where there is none, and counted aloud; `scripts/gpu` turns skips into errors.

Not yet run anywhere.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from app.bench.timing import LEAST_MATCHED, captures, compared, with_heads
from engine.contract import WIDEBAND
from engine.detection import Result
from engine.devices.cuda import Cuda
from engine.devices.open import open_device
from engine.engine import Engine
from engine.errors import DeviceError
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from engine.regions import regions
from engine.sessions.open import GPU, installed
from engine.spectrogram import render, spectrogram
from engine.store.registry import Store

from .scripted import burst, noise, tone
from .test_kernels import IMAGES

pytestmark = pytest.mark.gpu

MODELS = Path(__file__).parents[1] / "models"
RATE = WIDEBAND.sample_rate_hz
SAME = 2e-4  # of the image's 0..1: two FFT libraries in single precision
RUNTIMES = list(installed(GPU))
REPEATS = 1000


@pytest.fixture(scope="module")
def gpu() -> Cuda:
    return Cuda(0)


@pytest.fixture(scope="module")
def iqs() -> dict[str, np.ndarray]:
    return captures(WIDEBAND)


@pytest.fixture(scope="module")
def golden(iqs: dict[str, np.ndarray]) -> dict[str, Result]:
    with Engine.open(MODELS, runtime="onnxruntime", precision="float32", arbitrate=False) as engine:
        return found_by(engine, iqs)


@pytest.fixture(params=RUNTIMES or ["none installed"], scope="module")
def engine(request: pytest.FixtureRequest, gpu: Cuda) -> Iterator[Engine]:
    assert RUNTIMES, "no runtime for a GPU is installed"
    with Engine.open(MODELS, device="cuda:0", runtime=request.param, precision="float16", arbitrate=False) as opened:
        yield opened


def found_by(engine: Engine, iqs: dict[str, np.ndarray]) -> dict[str, Result]:
    return {name: engine.detect(iq, sample_rate_hz=RATE) for name, iq in iqs.items()}


def detections(result: Result) -> list[tuple[Any, ...]]:
    return [(d.signal, d.score, d.start_s, d.stop_s, d.low_hz, d.high_hz) for d in result]


# the front end

DRAWN: dict[str, Callable[[], np.ndarray]] = {
    "burst": lambda: burst(contract=WIDEBAND),
    "noise": lambda: noise(WIDEBAND.capture_samples),
    "tone": lambda: tone(WIDEBAND.capture_samples, 3e6),
    "loud": lambda: burst(contract=WIDEBAND) * np.float32(1e20),
}


@pytest.mark.parametrize("name", DRAWN)
def test_cufft_and_the_kernels_draw_what_numpy_draws(gpu: Cuda, name: str) -> None:
    iq = DRAWN[name]()
    samples = gpu.xp.asarray(iq)
    plain = spectrogram(iq, WIDEBAND)
    by_kernels, stats = gpu.ops.render(samples, WIDEBAND)
    by_arrays, _ = render(samples, WIDEBAND, gpu.xp)
    assert abs(by_kernels.get() - plain).max() < SAME
    assert abs(by_arrays.get() - plain).max() < SAME
    assert stats.get()[1] == 1


def test_g09_the_image_is_the_same_to_the_bit_a_hundred_times(gpu: Cuda) -> None:
    samples = gpu.xp.asarray(burst(contract=WIDEBAND))
    first = gpu.ops.render(samples, WIDEBAND)[0]
    assert all(bool((gpu.ops.render(samples, WIDEBAND)[0] == first).all()) for _ in range(100))


@pytest.mark.parametrize("name", IMAGES)
def test_the_kernels_find_the_regions_that_numpy_finds(gpu: Cuda, name: str) -> None:
    image = IMAGES[name]()
    shown = gpu.xp.asarray(image)
    with gpu.stream("compute").work("regions", (), ()):
        for _ in range(4):  # as it is, captured, played back
            found = gpu.replayed("regions", (shown,), lambda: gpu.ops.regions(shown))
        gpu.stream("compute").synchronise()
    assert np.array_equal(found.get(), regions(image))


# whole captures


def test_the_engine_runs_where_it_was_asked_to(engine: Engine, iqs: dict[str, np.ndarray]) -> None:
    ran_on = engine.detect(iqs["dense"], sample_rate_hz=RATE).ran_on
    assert ran_on["device"] == "cuda:0" and ran_on["runtime"].endswith("CUDA") and ran_on["precision"] == "float16"


def test_g08_it_finds_what_the_cpu_finds_in_float32(
    engine: Engine, iqs: dict[str, np.ndarray], golden: dict[str, Result]
) -> None:
    proof = compared(WIDEBAND, golden, found_by(engine, iqs))
    assert proof.matched >= LEAST_MATCHED * proof.detections, proof


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_g08_in_float32_it_finds_all_of_it(runtime: str, iqs: dict[str, np.ndarray], golden: dict[str, Result]) -> None:
    how = {"runtime": runtime, "precision": "float32", "arbitrate": False}
    with Engine.open(MODELS, device="cuda:0", **how) as engine:  # type: ignore[arg-type]
        proof = compared(WIDEBAND, golden, found_by(engine, iqs))
    assert proof.matched >= 0.99 * proof.detections, proof


def test_g05_a_thousand_captures_in_turn_give_each_its_own_result(engine: Engine, iqs: dict[str, np.ndarray]) -> None:
    first = {name: detections(result) for name, result in found_by(engine, iqs).items()}
    for number in range(REPEATS // len(iqs)):
        for name, iq in iqs.items():
            assert detections(engine.detect(iq, sample_rate_hz=RATE)) == first[name], (number, name)


def test_two_slots_in_a_stream_find_what_one_finds(engine: Engine, iqs: dict[str, np.ndarray], tmp_path: Path) -> None:
    iq = np.tile(np.concatenate(list(iqs.values())), 4) / 64
    recording = open_recording(write_sigmf(tmp_path / "long", iq, sample_rate_hz=RATE, datatype="cf32_le"))
    streamed = [len(result) for result in engine.stream(recording)]
    alone = [len(engine.detect(c.iq, sample_rate_hz=RATE)) for c in recording.captures(WIDEBAND)]
    assert streamed == alone


def test_broken_and_silent_captures_are_told(engine: Engine) -> None:
    iq = noise(WIDEBAND.capture_samples)
    iq[12345] = np.nan
    assert engine.detect(iq, sample_rate_hz=RATE).data_quality == "invalid"
    assert engine.detect(np.zeros_like(iq), sample_rate_hz=RATE).data_quality == "silent"


def test_g07_a_swapped_head_answers_as_in_an_engine_of_its_own(
    gpu: Cuda, iqs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    from benchmarks.running import second_version

    store = Store(copytree(MODELS, tmp_path / "models"))
    signal = store.snapshot().heads[0].signal
    second_version(store, signal)
    with Engine.open(store.path, device="cuda:0") as running:
        before = found_by(running, iqs)
        store.promote(signal, 2, "to and fro")
        assert running.refresh()
        after = found_by(running, iqs)
        assert after["dense"].versions[signal] == 2
    assert {n: detections(r) for n, r in after.items()} == {n: detections(r) for n, r in before.items()}


def test_g03_memory_taken_by_others_fails_a_frame_and_not_the_one_after(
    gpu: Cuda, engine: Engine, iqs: dict[str, np.ndarray]
) -> None:
    before = detections(engine.detect(iqs["dense"], sample_rate_hz=RATE))
    free, _ = gpu.xp.cuda.runtime.memGetInfo()
    hog = gpu.xp.cuda.runtime.malloc(int(free * 0.98))
    try:
        gpu.xp.get_default_memory_pool().free_all_blocks()
        try:
            engine.detect(iqs["dense"], sample_rate_hz=RATE)
        except DeviceError as error:
            assert "memory" in str(error)
    finally:
        gpu.xp.cuda.runtime.free(hog)
    assert detections(engine.detect(iqs["dense"], sample_rate_hz=RATE)) == before


def test_g11_frames_leave_nothing_behind(gpu: Cuda, engine: Engine, iqs: dict[str, np.ndarray]) -> None:
    def used() -> int:
        for _ in range(30):
            engine.detect(iqs["dense"], sample_rate_hz=RATE)
        free, whole = gpu.xp.cuda.runtime.memGetInfo()
        return int(whole - free)

    used()
    assert used() <= used() + (1 << 20) and abs(used() - used()) < 1 << 20


def test_any_number_of_heads_fits(gpu: Cuda, iqs: dict[str, np.ndarray]) -> None:
    from app.bench.timing import opened
    from engine.loading import Loader

    store = Store(MODELS)
    for count in (1, 48):
        loader = Loader(store.release(), device=open_device("cuda:0"))
        with opened(with_heads(store.snapshot(), count), loader) as engine:
            assert len(engine.detect(iqs["dense"], sample_rate_hz=RATE)) > 0
