"""How much memory there is: what the machine could still give this process, and what the process holds."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container states its limit, in versions 2 and 1 of Linux's control groups."""


def available() -> int:
    """Return the bytes this process could still take; where the system does not tell, half of the machine's memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    stated = [path.read_text().strip() for path in map(Path, LIMITS) if path.is_file()]
    return max(0, min([free, *(int(limit) - resident() for limit in stated if limit != "max")]))


def resident() -> int:
    """Return the bytes of memory that this process holds; where the system does not tell, the most it has held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back() -> None:
    """Give back to the system what has been freed; glibc keeps much of it, more with every new size of blocks."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def binary(size: float) -> str:
    """Write an amount of memory, such as 122.07 MiB."""
    power = min(3, max(0, int(size).bit_length() - 1) // 10)
    return f"{size / 1024**power:.{2 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB')[power]}"
