"""How exact the arithmetic is: bfloat16 where the hardware is made for it, and bit-reproducible operations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic

from pixelwise.training import Training


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether `device` multiplies bfloat16 in hardware: AVX512-BF16 or AMX on a CPU, Ampere or later on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype that the setting `precision` (auto, float32 or bfloat16) means on `device`."""
    wanted = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.bfloat16 if wanted else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Return the context for forward and loss: weights stay float32, convolutions and products run in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def arithmetic(settings: Training) -> Iterator[None]:
    """Set threads and determinism for a run, and put the determinism back afterwards.

    An operation that has no deterministic form (some on CUDA, none that we use on a CPU) warns instead of raising.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    torch.backends.cudnn.allow_tf32 = settings.precision != "float32"
    # A debugging aid that would write every buffer twice.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
