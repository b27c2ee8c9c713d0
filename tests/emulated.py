"""The kernels' text compiled as C++ (emulation.h), called as a GPU's launches would be, on NumPy's arrays."""

import ctypes
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from engine.devices.kernels import SOURCES

EMULATION = Path(__file__).parent / "emulation.h"
KERNELS = Path(__file__).parents[1] / "engine" / "devices" / "kernels"
TOGETHER = ("decibels", "quantiles", "choose", "keep")  # whose threads wait for each other
SCALARS = {np.int32: ctypes.c_int, np.float32: ctypes.c_float, np.float64: ctypes.c_double}

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")


def with_calls(*names: str) -> str:
    """Sources and, for each kernel of theirs, `run_KERNEL(grid x, grid y, threads, ...)`."""
    shared, parts = (KERNELS / "common.cuh").read_text(), [(KERNELS / name).read_text() for name in names]
    return "\n".join([shared, *parts, *(_call(k, "".join(parts)) for name in names for k in SOURCES[name])])


def _call(kernel: str, text: str) -> str:
    found = re.search(rf"void {kernel}\((.*?)\)\s*\{{", text, re.DOTALL)
    assert found, kernel
    taken = re.sub(r"//.*|/\*.*?\*/", "", found[1])
    given = ", ".join(re.split(r"[\s*]+", part.strip())[-1] for part in taken.split(","))
    way = "launch" if kernel in TOGETHER else "launch_apart"
    return (
        f'extern "C" void run_{kernel}(int x, int y, int threads, {taken}) '
        f"{{ {way}({{x, y}}, threads, [=] {{ {kernel}({given}); }}); }}"
    )


def compiled(folder: Path, text: str, *options: str) -> Path:
    (folder / "kernels.cpp").write_text(f'#include "{EMULATION}"\n{text}')
    target = folder / "kernels"
    command = ["g++", "-std=c++20", "-O2", "-g", *options, "-o", target, folder / "kernels.cpp", "-pthread"]
    subprocess.run(command, check=True)
    return target


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """All kernels, compiled once."""
    with TemporaryDirectory() as folder:
        return ctypes.CDLL(str(compiled(Path(folder), with_calls(*SOURCES), "-shared", "-fPIC")))


def on_cpu(kernel: str, grid: tuple[int, int], threads: int, *arguments: Any) -> None:
    """A launch, as `engine.devices.kernels.Kernels` does it on a GPU."""
    _library()[f"run_{kernel}"](*grid, threads, *map(_passed, arguments))


def _passed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous, "a kernel takes arrays in order only"
        return ctypes.c_void_p(value.ctypes.data)
    return SCALARS[type(value)](value)
