"""Keeps freed memory in the process: on a processor, training asks for the same large blocks in every step.

The allocator of the system maps large blocks anew each time, and the kernel clears every page of them
(docs/tuning.md). Told to keep them it reuses what it has.
"""

import ctypes
import platform

# Of malloc.h. No block is a mapping of its own, the end of the heap is never given back, it grows by much at once, and
# all threads share it, so that what one frees another can use.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -4, -1, -2, -8
_TOP_PAD_BYTES = 1 << 28


def keep_freed_memory() -> bool:
    """Tell the allocator, from now on until the process ends; False where it is not that of glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _TOP_PAD_BYTES), (_ARENA_MAX, 1))
    accepted = [mallopt(name, value) for name, value in settings]
    return all(accepted)
