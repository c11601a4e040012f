"""How much memory a scan will need, told before any time is spent on it."""

import resource
from math import prod
from pathlib import Path
from typing import Any

from glint.errors import DataError
from glint.infer.windows import Windows
from glint.io.limits import free_bytes
from glint.io.voxel_grid import Triple

GIB = 1 << 30
CHUNK_BYTES = 192 << 20
"""Maps of all patches that are held at once: so many queries are answered together."""
MAPS_PER_QUERY = 6
"""Cosine, gate, logits, evidence ... of a query, all of the size of the patches of all windows."""
LAID_OUT_BYTES = 14
"""A voxel of the laid-out scan: values, validity, and what resampling holds beside them."""
NATIVE_BYTES = 16
"""A voxel of the scan, for the largest mask: map, mask, labels of its parts, coordinates."""
ENCODER_BYTES = 256
"""A voxel of a window inside of an encoder. A small V-JEPA took about 100 (`glint bench volume`); encoders with a finer
first stage take more."""
STATM = Path("/proc/self/statm")


def queries_at_once(patches: int) -> int:
    """Return how many queries are answered together, given the patches of all windows."""
    return max(1, CHUNK_BYTES // (4 * MAPS_PER_QUERY * max(1, patches)))


def needed_bytes(native: Triple, laid_out: Triple, crop: Triple, windows: Windows, kept: int) -> int:
    """Estimate the memory of answering, on top of the scan itself and of the model.

    Args:
        native: Voxels of the scan.
        laid_out: Voxels of the laid-out scan.
        crop: Voxels of a window.
        windows: The windows.
        kept: Numbers that are kept of a patch.
    """
    patches = len(windows.starts) * prod(windows.size)
    encoding = LAID_OUT_BYTES * prod(laid_out) + 4 * kept * patches + ENCODER_BYTES * prod(crop)
    answering = max(CHUNK_BYTES, 4 * MAPS_PER_QUERY * patches) + NATIVE_BYTES * prod(native)
    return encoding + answering


def available_bytes() -> int | None:
    """Return what this process may still take: free memory, or less where its address space is limited."""
    free = free_bytes()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return free
    taken = int(STATM.read_text().split()[0]) * resource.getpagesize() if STATM.is_file() else 0
    left = max(0, limit - taken)
    return left if free is None else min(free, left)


def check_memory(needed: int, where: str, available: int | None) -> None:
    """Refuse a scan that does not fit.

    Args:
        needed: Bytes, see `needed_bytes`.
        where: The scan, for the message.
        available: Bytes, or None where nobody knows.

    Raises:
        DataError: It does not fit.
    """
    if available is not None and needed > available:
        raise DataError(
            f"answering on this scan needs about {needed / GIB:.1f} GiB of memory, "
            f"{available / GIB:.1f} GiB are available",
            where=where,
            fix="crop the scan to the chest, use a smaller overlap of windows, or a machine with more memory",
        )


def kept_numbers(cfg: Any) -> int:
    """Return how many numbers are kept of a patch: its vectors in the spaces of alignment and gate."""
    return cfg.align.dim + (cfg.align.gate_dim if cfg.align.type == "gated" else 0)
