"""Where a CrypTen program's correlated randomness comes from: the dealer, whatever the program calls its provider.

`carry` makes every name of a provider (TFP, TTP and HE in `crypten.cfg.mpc.provider`) mean the engine's dealer:
CrypTen's TFP lets rank 0 deal, which can then unmask the other party's values, and HE does not exist. `install`
replaces these names of CrypTen 0.4.1:

| in CrypTen | replaced, because |
|---|---|
| mpc.provider.TupleProvider.__getattribute__ | a cache of tuples whose list has run empty is a miss and no error |
| TupleProvider.trace_once | it calls a method that lists do not have |
| TupleProvider._load_requests, _load_tuples | today's torch.load refuses the program's own cache |

A cache is this party's own file. It is removed when it is read, and a tuple leaves it when it is used: tuples that were
used twice would show what they mask.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Any

from mpc_appraisal.mpc.crypten_programs.objects import own_file
from mpc_appraisal.mpc.protocols import crypten_adapter

NAMES = ("TFP", "TTP", "HE")


def carry(crypten: ModuleType, engine: Any) -> None:
    """Let the dealer of `engine` answer all requests of CrypTen, under every name of a provider."""
    provider = crypten_adapter.BridgeProvider(engine)
    vars(crypten.mpc)["__SUPPORTED_PROVIDERS"].update(dict.fromkeys((*NAMES, crypten_adapter.NAME), provider))


def install(crypten: ModuleType) -> None:
    """Replace the names of the table above in the module crypten. Repeating the call does nothing."""
    provider = crypten_adapter.TupleProvider
    provider.__getattribute__ = _look_up
    provider.trace_once = lambda self: self.trace(tracing=not self.request_cache)
    provider._load_requests = functools.partialmethod(_load, "request_cache")
    provider._load_tuples = functools.partialmethod(_load, "tuple_cache")


def _look_up(self: Any, name: str) -> Any:
    """Return an attribute; a request is noted while the program traces, and else answered from the cache first."""
    found = object.__getattribute__(self, name)
    if name not in crypten_adapter.TupleProvider.TRACEABLE_FUNCTIONS:
        return found
    if self.tracing:

        def noted(*arguments: Any, **options: Any) -> Any:
            self.request_cache.append((name, arguments, options))
            return found(*arguments, **options)

        return noted
    return functools.partial(_answered, found, name, self.tuple_cache) if self.tuple_cache else found


def _answered(ask: Any, name: str, cache: dict[Any, list[Any]], *arguments: Any, **options: Any) -> Any:
    try:
        kept = cache.get((name, arguments, frozenset(options.items())))
    except TypeError:  # An option that is a list has never been kept.
        kept = None
    return kept.pop() if kept else ask(*arguments, **options)


def _load(self: Any, name: str, filepath: str | None = None) -> None:
    """Read a cache that `save_cache` has written, and remove the file."""
    path = self._get_request_path(filepath) if name == "request_cache" else self._get_tuple_path(filepath)
    if os.path.exists(path):
        setattr(self, name, own_file(path))
        os.remove(path)
