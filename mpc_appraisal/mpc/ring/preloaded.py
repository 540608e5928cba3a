"""Importing this module loads the machine code of all compiled loops that numba has kept, so that forks have it.

A process that computes a check of messages uses most of the loops, and loads their machine code within half a second.
So the clean process that others are forked from (`net.fork_server`) imports this module once for all of them. It reads
this user's cache of numba (see `kernels`), and computes nothing. Nothing is compiled here: a loop without machine code
for this processor is compiled by the process that calls it.
"""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

from mpc_appraisal.mpc.ring.kernels import load


def kept(loop: Any) -> list[Any]:
    """Return the types of arguments for which numba has kept machine code of a loop that runs on this processor."""
    cache = loop._cache  # numba has no public name for it
    if not hasattr(cache, "_cache_file"):  # code that is compiled into its callers
        return []
    keys, codegen = cache._cache_file._load_index(), loop.targetctx.codegen()
    return [key[0] for key in keys if key == cache._index_key(key[0], codegen)]


def load_kept(modules: list[ModuleType]) -> int:
    """Load the machine code of all loops of these modules, and return how many pieces it has."""
    count = 0
    for module in modules:
        for loop in vars(module).values():
            if getattr(loop, "__module__", "") != module.__name__ or not hasattr(loop, "targetctx"):
                continue
            with contextlib.suppress(Exception):  # another release of numba: whoever calls the loop loads it
                for types in kept(loop):
                    loop.compile(types)
                    count += 1
    return count


if load() is not None:
    from mpc_appraisal.mpc.ring import compiled, compiled_binary_field, compiled_prime_field, compiled_rows

    load_kept([compiled, compiled_binary_field, compiled_prime_field, compiled_rows])
