"""What a CrypTen program saves, loads and hands to the other party, without unpickling what the other party sent.

`install` replaces these names of CrypTen 0.4.1:

| in CrypTen | replaced, because |
|---|---|
| common.serial.restricted_loads | it unpickles foreign bytes; it refuses, and objects travel as in `messages` |
| load, and its name for a loader | today's torch.load refuses whatever is no tensor; a party's own file is loaded |
| load_from_party | the same, and a class that the receiver names may be received |

save and save_from_party are CrypTen's own. A file is unpickled only where the program itself names it, as torch.load
always did; whoever can write that file can run code, as with any file of Python.
"""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs.messages import EXPECTED, ForeignObjectError

UNKNOWN = -1  # The source says so in place of an object that it cannot share.


def own_file(f: Any, **options: Any) -> Any:
    """Load what this party has saved by torch.save, whatever it is. The options are those of torch.load."""
    return torch.load(f, **{"weights_only": False, **options})


def install(crypten: ModuleType) -> None:
    """Replace the names of the table above in the module crypten. Repeating the call does nothing."""
    crypten.common.serial.restricted_loads = _refused
    crypten.load, crypten.load_from_party = load, load_from_party


def _refused(data: bytes) -> Any:
    raise ForeignObjectError(f"refused to unpickle {len(data)} bytes of another party; expected {EXPECTED}")


def _loader(load_closure: Any) -> Any:
    return own_file if load_closure is torch.load else load_closure


def load(f: Any, load_closure: Any = torch.load, **options: Any) -> Any:
    """Return this party's own shares, or any object of its own, that `crypten.save` has written.

    Args:
        f: a file, or its name.
        load_closure: the function that reads the file.
        options: further arguments of this function.

    Raises InputError: `src` is among the options, as for `load_from_party`.
    """
    if "src" in options:
        raise InputError("src", options["src"], "no source, or crypten.load_from_party, which reads at one party")
    return _loader(load_closure)(f, **options)


def load_from_party(
    f: Any = None,
    preloaded: Any = None,
    encrypted: bool = False,
    model_class: type | None = None,
    src: int = 0,
    load_closure: Any = torch.load,
    **options: Any,
) -> Any:
    """Return a tensor that the source has loaded, shared, or its module, with zeros for weights at the other party.

    Args:
        f: the source's file, or its name.
        preloaded: the value itself, in place of a file.
        encrypted: whether `f` is a file of shares, as `crypten.save` writes it, of which each party reads its own, so
            that `src` means nothing. CrypTen itself refuses this.
        model_class: a class of modules that this party accepts, beside torch's own and registered ones.
        src: the rank of the source.
        load_closure: the function that reads the file.
        options: further arguments of this function.

    Raises:
        InputError: no file of shares is named, the source has neither or both of `f` and `preloaded`, or there is no
            such source.
        TypeError: the source has loaded something else than a tensor or a module; both parties raise it.
        ForeignObjectError: the module of the other party is of a class that this one has not registered.
    """
    import crypten

    communicator = crypten.communicator.get()
    if encrypted:
        if f is None:
            raise InputError("load_from_party: f", None, "this party's file of shares, where encrypted is true")
        return load(f, load_closure, **options)
    if not isinstance(src, int) or not 0 <= src < communicator.get_world_size():
        raise InputError("src", src, f"the rank of a party, below {communicator.get_world_size()}")
    if model_class is not None:
        crypten.common.serial.register_safe_class(model_class)
    if communicator.get_rank() == src:
        if (f is None) == (preloaded is None):
            raise InputError("load_from_party", "both or none of f and preloaded", "one of them")
        found = preloaded if f is None else _loader(load_closure)(f, **options)
        communicator.broadcast_obj(_emptied(found), src)
    else:
        found = communicator.broadcast_obj(None, src)
    if not isinstance(found, (torch.Tensor, torch.nn.Module)):
        raise TypeError("load_from_party: the source has loaded neither a tensor nor a module")
    found = crypten.cryptensor(found, src=src) if torch.is_tensor(found) else found
    found.src = src
    return found


def _emptied(found: Any) -> Any:
    """Return `found` with zeros for all real values, which tells the other party sizes; UNKNOWN for other objects."""
    if torch.is_tensor(found):
        return found.new_zeros(found.size())
    if not isinstance(found, torch.nn.Module):
        return UNKNOWN
    empty = copy.deepcopy(found)
    for values in (*empty.parameters(), *empty.buffers()):
        if values.is_floating_point():
            values.data.zero_()
    return empty
