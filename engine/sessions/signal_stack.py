"""Alternate signal stack of a thread, kept over calls into a library that replaces it.

OpenVINO's CPU plugin gives the calling thread an alternate signal stack in memory that it frees with the compiled
model. Python handles signals on that stack (SA_ONSTACK), so the next Ctrl-C would end the process with a segmentation
fault. See sigaltstack(2).
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Restores the calling thread's alternate signal stack at the end of the block; does nothing but on Linux."""
    libc, before = _libc(), _Stack()
    if libc is None or libc.sigaltstack(None, ctypes.byref(before)):
        yield
        return
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
