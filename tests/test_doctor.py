"""The doctor: what is measured is measured, what is unknown is said to be unknown, and nothing heavy is imported."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelwise import doctor

FOUND: dict[str, Any] = {
    "pixelwise": "0.1.0",
    "python": "3.11.2",
    "platform": "Linux",
    "torch": "2.15.0",
    "cpu": {
        "model": "Abacus",
        "cores": 4,
        "threads": 2,
        "fast_bfloat16": False,
        "gflops": {"float32": 99.6, "bfloat16": 3.2},
    },
    "gpus": [],
    "memory": {"total": 25_300_000_000, "available": None},
    "disk": {"folder": "/work", "free": 1_040_000_000},
    "allocator": "jemalloc",
    "libraries": {"torchvision": "0.29.2", "timm": None},
    "cache": {"folder": "/cache", "bytes": 0},
}


def test_examine_is_quick_complete_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    found = doctor.examine()
    assert time.process_time() - start < 3 * max(1, torch.get_num_threads())
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == FOUND.keys()
    assert found["torch"] == torch.__version__
    assert found["disk"]["folder"] == str(tmp_path)
    assert found["cpu"]["gflops"].keys() == {"float32", "bfloat16"}
    assert all(speed > 0.1 for speed in found["cpu"]["gflops"].values())
    assert len(doctor.render(found).splitlines()) >= 13


def test_matmul_speed_counts_two_operations_per_product(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 0.25)
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(ticks))
    # 2 * 1024^3 operations in one tick of 0.25 s are 8.59e9 a second.
    assert doctor.matmul_gflops(torch.device("cpu"), torch.float32, seconds=1.0) == 8.6


def test_one_product_is_timed_even_when_there_is_no_time() -> None:
    assert 0 < doctor.matmul_gflops(torch.device("cpu"), torch.float32, seconds=0.0) < 1e6


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from pixelwise.doctor import examine; found = examine()\n"
        "assert found['libraries']['timm'] and found['libraries']['torchvision']\n"
        "print(sorted({'timm', 'torchvision', 'tensorboard'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "glibc, as it comes (./pw makes it faster)"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, "glibc, huge pages"),
        (
            {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_THRESHOLD_": "1", "MALLOC_TRIM_THRESHOLD_": "1"},
            "glibc, huge pages and large blocks kept",
        ),
        ({"MALLOC_MMAP_THRESHOLD_": "1"}, "glibc, as it comes (./pw makes it faster)"),
        ({"LD_PRELOAD": "/usr/lib/libtcmalloc_minimal.so.4"}, "tcmalloc"),
    ],
)
def test_allocator(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name in ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor.platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert doctor.allocator() == expected


def test_allocator_of_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(doctor.platform, "libc_ver", lambda: ("", ""))
    assert doctor.allocator() == "of the system"


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(doctor.platform, "processor", lambda: "")
    monkeypatch.setattr(doctor.platform, "machine", lambda: "arm64")
    assert doctor.memory() == {"total": None, "available": None}
    assert doctor.cpu_model() == "arm64"


def test_cache_size_counts_files_in_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path / "cache"))
    assert doctor.cache() == {"folder": str(tmp_path / "cache"), "bytes": 0}
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "a").write_bytes(b"123")
    (tmp_path / "cache" / "deep" / "b").write_bytes(b"12345")
    assert doctor.cache()["bytes"] == 8


def test_versions() -> None:
    assert doctor.version("numpy") == np.__version__
    assert doctor.version("no-such-library") is None


def test_render() -> None:
    assert doctor.render(FOUND).splitlines() == [
        "pixelwise   0.1.0",
        "python      3.11.2 on Linux",
        "torch       2.15.0",
        "processor   Abacus, 4 cores, 2 threads",
        "            float32 100 GFLOP/s, bfloat16 3 GFLOP/s (precision=auto means float32)",
        "gpu         none",
        "memory      25.3 GB, unknown available",
        "disk        1.0 GB free at /work",
        "allocator   jemalloc",
        "torchvision 0.29.2",
        "timm        not installed",
        "cache       0.0 GB in /cache",
    ]


def test_render_a_gpu() -> None:
    card = {"name": "H100", "memory": 85e9, "fast_bfloat16": True, "gflops": {"float32": 50e3, "bfloat16": 700e3}}
    assert doctor.render({**FOUND, "gpus": [card]}).splitlines()[5:7] == [
        "gpu         H100, 85.0 GB",
        "            float32 50000 GFLOP/s, bfloat16 700000 GFLOP/s (precision=auto means bfloat16)",
    ]
