"""What the machine can do: peak rate of matrix products, peak memory of a piece of work, its name."""

import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM (Linux)
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of a piece of work costs.

    Attributes:
        seconds: Median over the repetitions.
        peak_bytes: Most memory held above what was held before, or None where that cannot be measured.
    """

    seconds: float
    peak_bytes: int | None


def measure(work: Callable[[], object], device: torch.device, repeats: int) -> Cost:
    """Call `work` once to warm up, then `repeats` times; results are dropped at once."""
    work()
    before = _reset_peak(device)
    seconds: list[float] = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = _peak(device)
    return Cost(statistics.median(seconds), None if peak is None or before is None else peak - before)


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 0, repeats: int = 10) -> float:
    """Return the best rate of square matrix products in FLOP/s: the roof that shares are shares of."""
    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        _ = a @ b
        synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; CPUs have by then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine_name(device: torch.device) -> str:
    """Return processor or GPU, threads and the version of torch, for the heading of a table."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").is_file()
        else []
    )
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _reset_peak(device: torch.device) -> int | None:
    """Start a new peak; return the memory held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    _return_freed_memory()
    try:
        CLEAR_PEAK.write_text("5", encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def _return_freed_memory() -> None:
    """Give back what the C library keeps for later: it would hide that the next call needs it again (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _peak(device: torch.device) -> int | None:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> int | None:
    if not STATUS.is_file():
        return None
    found = [line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{key}:")]
    return int(found[0].split()[1]) * 1024 if found else None
