"""The attack of the helper and one owner together, who have every value in the clear, exactly.

    permuted   the helper has P z, and either owner knows P:             z = P^-1 (P z)
    masked     both owners see x - u mod 2^64, and the dealer knows u:   x = (x - u) + u

In RTAS two owners hold shares, and a helper applies functions to values z in an order P that the owners choose. In go
what each of the two saw; out come the values. Both owners must know the permutation, or their shares could not be put
back in order. Where the helper is also the dealer of multiplication triples, as in RTAS with one third party, it made
the masks u as well: with one owner's records it has the inputs too, and not only the arguments of functions.

The attack stops only where they do not collude. Alone, an owner has uniform ring elements, and the helper the permuted
values, of which a guess puts about one in its place. The second line holds for every protocol with a dealer; triples
made without a dealer stop it. The two formulas have to stay exact; `tolerance` may change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.errors import InputError


def undo(view: View, order: Tensor) -> Tensor:
    """Return z in the owners' order, from the helper's view and a permutation that an owner knows.

    Args:
        view: what the helper saw.
        order: the place in z of each seen row or entry, (n,), or (n C,) where entries are hidden.

    The result is (n, C), or (n C,) where entries are hidden. Columns that were permuted within rows stay permuted; the
    owners know their orders as well. Raises InputError where `order` is no permutation of the view's length.
    """
    if not torch.equal(order.sort().values, torch.arange(len(view.values))):
        raise InputError("order", tuple(order.shape), f"a permutation of 0 .. {len(view.values) - 1}")
    z = torch.empty_like(view.values)
    z[order] = view.values
    return z


def unmask(opened: Tensor, mask: Tensor) -> Tensor:
    """Return the ring elements x (int64) from x - u, which both owners saw, and the dealer's u.

    Raises InputError for other types or shapes.
    """
    if opened.dtype != torch.int64 or mask.dtype != torch.int64 or opened.shape != mask.shape:
        found = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise InputError("mask", found, f"int64 of the shape {tuple(opened.shape)}")
    return opened + mask


def exact_share(found: Tensor, truth: Tensor, tolerance: float = 0.0) -> float:
    """Return the share of values within `tolerance` of the truth."""
    return float(((found - truth).abs() <= tolerance).double().mean())
