"""How a CrypTen program's numbers become ring elements and come back: rounded, refused where they do not fit, exact.

    encode: v -> round(v 2^bits), to nearest          decode: n -> n / 2^bits, rounded once, to float32

`install` replaces these names of CrypTen 0.4.1:

| in CrypTen | replaced, because |
|---|---|
| FixedPointEncoder.encode | CrypTen cuts digits off, turns NaN, infinities and what does not fit into other numbers without a word, and cuts the fractions of a numpy array off altogether |
| FixedPointEncoder.decode | CrypTen's division by 2^bits - 1 for negative numbers is wrong by exactly 1.0 for some |
| ArithmeticSharedTensor.__init__, BinarySharedTensor.__init__ | CrypTen encodes at every party, but the values are the source's: the other party passes an uninitialised tensor of the right size. Whole numbers lose digits as float32 on the way |

The division (`ArithmeticSharedTensor.div_`) is replaced by `protocols.crypten_adapter`: it is exact within one unit for
every public whole number, works in place, and refuses zero.
"""  # noqa: E501  a row of a table is one line

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError

TOP = 63  # A ring element is an integer from -2^63 to 2^63 - 1.


def install(crypten: ModuleType) -> None:
    """Replace the names of the table above in the module crypten. Repeating the call does nothing."""
    encoder = crypten.encoder.FixedPointEncoder
    if encoder.encode is _encode:
        return
    encoder.encode, encoder.decode = _encode, _decode
    kinds = crypten.mpc.primitives
    _look_at_the_source_alone(kinds.ArithmeticSharedTensor, kinds.BinarySharedTensor)


def _encode(self: Any, x: Any, device: Any = None) -> Any:
    """Return the ring elements (int64) of numbers: a number, a list, an array or a tensor; a secret tensor as it is.

    Raises:
        InputError: a number is NaN or infinite, or does not fit the ring with the encoder's fractional bits.
        TypeError: these are no numbers.
    """
    from crypten.cryptensor import CrypTensor

    if isinstance(x, CrypTensor):
        return x
    if isinstance(x, (int, float)):
        return torch.tensor(_ring_number(x, self._precision_bits), dtype=torch.int64, device=device)
    if isinstance(x, list):
        x = torch.tensor(x, dtype=torch.float64, device=device)
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x).to(device)
    if not torch.is_tensor(x):
        raise TypeError(f"encode: got {type(x).__name__}; expected numbers")
    if x.is_floating_point():
        return _ring_reals(x.detach(), self._precision_bits)
    if x.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        return _ring_integers(x.to(torch.int64), self._precision_bits)
    raise TypeError(f"encode: got a tensor of {x.dtype}; expected numbers")


def _ring_number(x: float, bits: int) -> int:
    whole = x << bits if isinstance(x, int) else round(x * 2.0**bits) if abs(x) < 2.0 ** (TOP - bits + 1) else None
    if whole is None or not -(1 << TOP) <= whole < 1 << TOP:
        raise _does_not_fit(f"{x!r:.40}", bits)
    return whole


def _ring_reals(x: torch.Tensor, bits: int) -> torch.Tensor:
    real = (x.to(torch.float64) * 2.0**bits).round_()
    if real.numel():
        low, high = (each.item() for each in real.aminmax())  # NaN, if one is NaN
        if not (low >= -(2.0**TOP) and high < 2.0**TOP):
            bad = int((~torch.isfinite(x)).sum())
            worst = f"a value of {max(abs(low), abs(high)) / 2.0**bits:g}"
            raise _does_not_fit(f"{bad} values that are NaN or infinite" if bad else worst, bits)
    return real.to(torch.int64)


def _ring_integers(x: torch.Tensor, bits: int) -> torch.Tensor:
    if bits and x.numel():
        low, high = (each.item() for each in x.aminmax())
        if low < -(1 << (TOP - bits)) or high >= 1 << (TOP - bits):
            raise _does_not_fit(f"a value of {low if abs(low) > abs(high) else high}", bits)
    return x << bits


def _does_not_fit(found: str, bits: int) -> InputError:
    return InputError(
        "a tensor to encode",
        found,
        f"finite numbers below 2^{TOP - bits} in absolute value, with {bits} fractional bits in a ring of 64 bits",
    )


def _decode(self: Any, tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return the numbers (float32) of ring elements, each the nearest; with no fractional bits, the elements.

    None, which a party has that is not shown a result, is returned as it is.
    """
    if tensor is None:
        return None
    if tensor.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"decode: got a tensor of {tensor.dtype}; expected ring elements")
    return tensor.data if self._scale == 1 else tensor.data.to(torch.float32) / self._scale


def _look_at_the_source_alone(arithmetic: Any, binary: Any) -> None:
    """Let both kinds of shared tensors encode at the source, and take a tensor's size alone at the other party."""
    of_arithmetic, of_binary = arithmetic.__init__, binary.__init__

    def new_arithmetic(self, tensor=None, size=None, broadcast_size=False, precision=None, src=0, device=None) -> None:
        seen = _seen(self, tensor, src)
        if torch.is_tensor(seen) and not seen.is_floating_point() and seen.dtype != torch.bool and precision != 0:
            seen = seen.to(torch.float64)  # CrypTen would make it float32, which has no odd numbers above 2^24.
        of_arithmetic(self, seen, size, broadcast_size, precision, src, device)

    def new_binary(self, tensor=None, size=None, broadcast_size=False, src=0, device=None) -> None:
        of_binary(self, _seen(self, tensor, src), size, broadcast_size, src, device)

    arithmetic.__init__, binary.__init__ = new_arithmetic, new_binary


def _seen(shared: Any, tensor: Any, src: Any) -> Any:
    """Return what this party may look at: the tensor at its source, and zeros of its size elsewhere."""
    if tensor is None or src == -1 or shared.rank == src or not isinstance(tensor, (torch.Tensor, list, np.ndarray)):
        return tensor
    like = torch.as_tensor(tensor)
    return torch.zeros(like.shape, dtype=torch.int64, device=like.device)
