"""Whether the compiled loops of `compiled` are used, or torch, which gives the same integers and needs no compiler.

`loops(work)` returns the module of compiled loops, or None where the caller computes with torch and numpy:

- numba is not installed (it is a dependency where it has wheels), or its compiler is switched off;
- numba finds no folder to keep machine code in: NUMBA_CACHE_DIR if that is set, else `__pycache__` beside
  `compiled.py`, else the user's cache folder. Without one every process would compile for seconds;
- numba is not loaded yet, and neither `work` nor the sum of all work so far is worth it. Loading takes half a second,
  once in a process. A process that forks others may import `compiled` before, and its forks have it for nothing.

`work` is the number of multiplications, or of elements, that the caller is about to compute. Every caller has both
ways, and the results are equal to the last bit, so that parties may differ in what they use. WORTH may change freely.
"""

from __future__ import annotations

import sys
from types import ModuleType

WORTH = 1 << 24  # From so much work on, numba is loaded: torch takes a tenth of a second for so many multiplications.
MANY = 4  # So many times WORTH is as much work by torch as loading numba takes.
COMPILED = "mpc_appraisal.mpc.ring.compiled"
PRELOADED = "mpc_appraisal.mpc.ring.preloaded"  # loads all machine code at once
_loaded: list[ModuleType | None] = []
_spent = 0  # the work that torch has done before numba was loaded


def loops(work: int) -> ModuleType | None:
    """Return the compiled loops if they are loaded, or if `work` is worth loading them and they can be; else None."""
    global _spent
    if _loaded:
        return _loaded[0]
    _spent += work
    return load() if work >= WORTH or _spent >= MANY * WORTH or COMPILED in sys.modules else None


def load() -> ModuleType | None:
    """Load the compiled loops, if they can be, and return them; later calls of `loops` return the same."""
    if not _loaded:
        _loaded.append(_imported())
    return _loaded[0]


def _imported() -> ModuleType | None:
    try:
        import numba

        if numba.config.DISABLE_JIT:  # the loops would run as Python
            return None
        from mpc_appraisal.mpc.ring import compiled
    except (ImportError, RuntimeError):  # RuntimeError: no folder can be written
        return None
    return compiled
