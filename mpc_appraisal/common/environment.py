"""Numbers in environment variables, which other programs set, and the process's memory allocator.

The name of a variable goes in, and a whole number comes out. A bad number of threads counts as 1; any other bad number
is an error by the variable's name. `keep_freed_memory` sets the allocator of glibc. The bounds may change.
"""

from __future__ import annotations

import ctypes
import os

from mpc_appraisal.common.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_KEPT = 1 << 30  # bytes of an allocation that comes from the heap, whose freed pages stay with the process
LARGEST_INT = (1 << 31) - 1
LARGEST_THREADS = 4096  # more than the cores of any machine; torch refuses arbitrarily large numbers


def threads() -> int:
    """Return OMP_NUM_THREADS as OpenMP reads it: the first number of a list, so that "4,2" is 4.

    The result is 1 where there is no number, and at most LARGEST_THREADS.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    count = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
    return min(count, LARGEST_THREADS) if count > 0 else 1


def whole(name: str, default: int | None, least: int, most: int) -> int:
    """Return the variable `name`, which a launcher sets, as a whole number; `default` where it is unset or empty.

    Raises InputError where it is no whole number from `least` to `most`, or is unset and there is no default.
    """
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if number is None or not least <= number <= most:
        shown = repr(text) if text else None
        raise InputError(f"the environment's {name}", shown, f"a whole number from {least} to {most}")
    return number


def keep_freed_memory() -> bool:
    """Let glibc keep what this process frees, up to 2 GiB, and return whether it does; other C libraries do nothing.

    By default glibc returns every large tensor's pages to the kernel when it is freed, and the kernel clears them anew
    for the next tensor, which takes a fifth of a single private gradient's CPU time. The user's own settings, variables
    named MALLOC_... or those in GLIBC_TUNABLES, are left as they are.
    """
    stated = any(name.startswith("MALLOC_") or "glibc.malloc" in value for name, value in os.environ.items())
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if stated or not hasattr(library, "gnu_get_libc_version"):
        return False
    # An old glibc refuses so large a threshold. Its own default, which adapts, is then better than the second setting.
    return library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) == 1 and library.mallopt(M_TRIM_THRESHOLD, LARGEST_INT) == 1
