"""What this machine can do: versions, processors and memory, with matrix products measured, not believed."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pixelwise import __version__
from pixelwise.engine.precision import has_fast_bfloat16
from pixelwise.folders import cache_folder

LIBRARIES = ("torchvision", "timm", "tensorboard")
GB = 1e9


def examine() -> dict[str, Any]:
    """Measure this machine, in less than 3 seconds.

    Returns:
        What `pixelwise doctor --json` prints: sizes in bytes, speeds in 1e9 floating point operations per second.
    """
    cpu = torch.device("cpu")
    return {
        "pixelwise": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "cpu": {"model": cpu_model(), "cores": usable_cores(), "threads": torch.get_num_threads(), **speeds(cpu)},
        "gpus": [gpu(torch.device("cuda", i)) for i in range(torch.cuda.device_count())],
        "memory": memory(),
        "disk": {"folder": str(Path.cwd()), "free": shutil.disk_usage(Path.cwd()).free},
        "allocator": allocator(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "cache": cache(),
    }


def version(library: str) -> str | None:
    """Return the installed version of a library without importing it, or None."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def usable_cores() -> int:
    """Return how many logical cores this process may use: all of them, or those of its container or taskset."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def speeds(device: torch.device) -> dict[str, Any]:
    """Return whether `device` has fast bfloat16, and the GFLOP/s of its float32 and bfloat16 matrix products."""
    return {
        "fast_bfloat16": has_fast_bfloat16(device),
        "gflops": {str(dtype)[6:]: matmul_gflops(device, dtype) for dtype in (torch.float32, torch.bfloat16)},
    }


def matmul_gflops(device: torch.device, dtype: torch.dtype, seconds: float = 0.4) -> float:
    """Return the best speed of a square matrix product of `dtype` on `device`, tried for `seconds`, in GFLOP/s."""
    size = 1024 if device.type == "cpu" else 4096
    a = torch.rand(size, size, device=device).to(dtype)
    best = float("inf")
    end = time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return round(2 * size**3 / best / 1e9, 1)


def gpu(device: torch.device) -> dict[str, Any]:
    """Return what one CUDA device is and can do."""
    found = torch.cuda.get_device_properties(device)
    return {"name": found.name, "memory": found.total_memory, **speeds(device)}


def memory() -> dict[str, int | None]:
    """Return the machine's memory and what of it is available, in bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {"total": None, "available": None}
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"total": sizes["MemTotal"], "available": sizes["MemAvailable"]}


def allocator() -> str:
    """Return which malloc serves large tensors, as the environment has set it."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    for name in ("tcmalloc", "jemalloc", "mimalloc"):
        if name in preloaded:
            return name
    if platform.libc_ver()[0] != "glibc":
        return "of the system"
    tuned = {
        "huge pages": "hugetlb" in os.environ.get("GLIBC_TUNABLES", ""),
        "large blocks kept": "MALLOC_MMAP_THRESHOLD_" in os.environ and "MALLOC_TRIM_THRESHOLD_" in os.environ,
    }
    return "glibc, " + (" and ".join(name for name, on in tuned.items() if on) or "as it comes (./pw makes it faster)")


def cache() -> dict[str, Any]:
    """Return the cache folder and its size in bytes; deleting it costs only the time to fill it again."""
    folder = cache_folder()
    return {"folder": str(folder), "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())}


def render(found: dict[str, Any]) -> str:
    """Return what `examine` found as a table of plain text."""
    cpu, disk, size = found["cpu"], found["disk"], found["memory"]
    rows = [
        ("pixelwise", found["pixelwise"]),
        ("python", f"{found['python']} on {found['platform']}"),
        ("torch", found["torch"]),
        ("processor", f"{cpu['model']}, {cpu['cores']} cores, {cpu['threads']} threads"),
        ("", _speed(cpu)),
    ]
    for device in found["gpus"] or [None]:
        rows.append(("gpu", f"{device['name']}, {_gigabytes(device['memory'])}" if device else "none"))
        if device:
            rows.append(("", _speed(device)))
    rows += [
        ("memory", f"{_gigabytes(size['total'])}, {_gigabytes(size['available'])} available"),
        ("disk", f"{_gigabytes(disk['free'])} free at {disk['folder']}"),
        ("allocator", found["allocator"]),
        *((name, number or "not installed") for name, number in found["libraries"].items()),
        ("cache", f"{_gigabytes(found['cache']['bytes'])} in {found['cache']['folder']}"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in rows)


def _speed(found: dict[str, Any]) -> str:
    products = ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in found["gflops"].items())
    return f"{products} (precision=auto means {'bfloat16' if found['fast_bfloat16'] else 'float32'})"


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GB:.1f} GB"
