"""Processor name and number of usable cores, container quotas included."""

import os
import platform
from pathlib import Path


def cores() -> int:
    """Cores that this process may use: those of its affinity mask, fewer where its control group has a quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _quota() or allowed)


def _quota(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Number of cores that a container is limited to (cpu.max: microseconds of work in each period), None without
    limit."""
    try:
        share, period = (group / "cpu.max").read_text().split()
        return None if share == "max" else max(1, int(share) // int(period))
    except (OSError, ValueError):
        return None  # no control groups of the second version here


def describe_cpu() -> str:
    """The processor and how many cores this process may use, for reports."""
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
