"""The engine's functions in CrypTen programs: `crypten.cfg.functions.approximations = "engine"` switches to them.

With "crypten" CrypTen's own approximations are used: iterations that begin from a guess, and are right in a part of the
range of numbers only. This is the default, but for appraisal methods (see `method_tensors`). With "engine" the
following are replaced, for any number that 16 fractional bits can represent, |x| < 2^30, and each is right within a few
units of 2^-16:

| in CrypTen, of `MPCTensor` | replaced by |
|---|---|
| div by a secret, reciprocal, and __rtruediv__, which CrypTen lacks in `2 / x` | `secret_division.quotient` |
| exp, log, sqrt, inv_sqrt | `real_functions`, whose table states the errors |
| softmax, log_softmax, sigmoid, tanh | `row_functions`, whose table states the errors |
| gradients of div, __rtruediv__, sqrt and pos_pow, and cross_entropy | `function_gradients` |

Whatever CrypTen builds upon these (pos_pow, norm, batch normalisation, losses) follows. erf, cos and sin do not.
Options of CrypTen's iterations have no effect on the engine's functions, but reciprocal_all_pos and input_in_01, which
state that a divisor is positive and halve the cost of its comparisons. Results have the fractional bits of the
argument, or those of crypten.cfg.encoder if it is whole; of more than 16, those beyond are 0.

`install` replaces the names above by functions that ask the configuration at each call. With "engine", a program that
does not compute over an engine of this package raises InputError.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs import function_gradients
from mpc_appraisal.mpc.crypten_programs.function_choice import chosen_engine
from mpc_appraisal.mpc.protocols import crypten_adapter, real_functions, row_functions
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.secret_division import quotient
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS as BITS
from mpc_appraisal.mpc.ring.shape_tensor import broadcast, shape_tensor

ELEMENTWISE = {
    "exp": real_functions.exponential_of,
    "log": real_functions.logarithm,
    "sqrt": real_functions.root,
    "inv_sqrt": real_functions.inverse_root,
    "sigmoid": row_functions.logistic,
    "tanh": row_functions.hyperbolic_tangent,
}
OF_ROWS = {"softmax": row_functions.softmax_of_rows, "log_softmax": row_functions.log_softmax_of_rows}
_installed: set[int] = set()  # the modules of CrypTen that `install` has changed, by their id


def _share(engine: Engine, tensor: Any) -> torch.Tensor:
    """Return this owner's share of an MPCTensor with BITS fractional bits; one round if bits are cut."""
    share, bits = crypten_adapter.from_crypten(tensor)
    return engine.truncate(share, bits - BITS)


def _tensor(crypten: ModuleType, engine: Engine, share: torch.Tensor, like: Any) -> Any:
    """Return the MPCTensor of a share with BITS fractional bits, with as many bits as `like` has."""
    bits = int(like.encoder.scale).bit_length() - 1 or int(crypten.cfg.encoder.precision_bits)
    return crypten.mpc.MPCTensor.from_shares(engine.truncate(share, BITS - bits), precision=bits)


def _public(engine: Engine, value: Any, shape: torch.Size) -> torch.Tensor:
    """Return this owner's share of a public number or tensor, broadcast to `shape`."""
    if engine.dry:
        return shape_tensor(shape)
    ring = torch.round(torch.as_tensor(value, dtype=torch.float64) * 2.0**BITS).to(torch.int64).expand(shape).clone()
    return ring if engine.me == 0 else torch.zeros_like(ring)


def install(crypten: ModuleType) -> None:
    """Put the functions of the table above into the module `crypten`. Repeating the call does nothing."""
    if id(crypten) in _installed:
        return
    _installed.add(id(crypten))
    tensor = crypten.mpc.MPCTensor
    for name, protocol in ELEMENTWISE.items():
        setattr(tensor, name, _elementwise(crypten, getattr(tensor, name), protocol))
    for name, protocol in OF_ROWS.items():
        setattr(tensor, name, _of_rows(crypten, getattr(tensor, name), protocol))
    tensor.reciprocal = _reciprocal(crypten, tensor.reciprocal)
    tensor.div = _division(crypten, tensor.div)
    tensor.__rtruediv__ = _inverse_division(crypten)
    function_gradients.install()


def _elementwise(crypten: ModuleType, own: Callable[..., Any], protocol: Callable[..., torch.Tensor]):
    def function(self, *arguments, **options):
        engine = chosen_engine(self)
        if engine is None:
            return own(self, *arguments, **options)
        return _tensor(crypten, engine, protocol(engine, _share(engine, self)), self)

    function.__name__, function.__doc__ = own.__name__, own.__doc__
    return function


def _of_rows(crypten: ModuleType, own: Callable[..., Any], protocol: Callable[..., torch.Tensor]):
    def function(self, dim, **options):
        engine = chosen_engine(self)
        if engine is None or self.dim() == 0 or self.size(dim) == 1:
            return own(self, dim, **options)
        z = _share(engine, self).movedim(dim, -1)
        found = protocol(engine, z.reshape(-1, z.shape[-1])).reshape(z.shape).movedim(-1, dim)
        return _tensor(crypten, engine, found, self)

    function.__name__, function.__doc__ = own.__name__, own.__doc__
    return function


def _reciprocal(crypten: ModuleType, own: Callable[..., Any]):
    def reciprocal(self, input_in_01=False):
        engine = chosen_engine(self)
        if engine is None:
            return own(self, input_in_01=input_in_01)
        signed = not (input_in_01 or crypten.cfg.functions.reciprocal_all_pos)
        share = _share(engine, self)
        return _tensor(crypten, engine, quotient(engine, _public(engine, 1.0, share.shape), share, signed), self)

    return reciprocal


def _division(crypten: ModuleType, own: Callable[..., Any]):
    def div(self, y):
        engine = chosen_engine(self) if crypten.is_encrypted_tensor(y) else None
        if engine is None:
            return own(self, y)
        return _tensor(crypten, engine, quotient(engine, _share(engine, self), _share(engine, y)), self)

    return div


def _inverse_division(crypten: ModuleType):
    def divide(self, other):
        if crypten.CrypTensor.AUTOGRAD_ENABLED:  # Python calls this function of the class, and autograd that of self
            return self.__getattribute__("__rtruediv__")(other)
        engine = chosen_engine(self)
        if engine is None:
            return self.reciprocal().mul(other)
        if crypten.is_encrypted_tensor(other):
            return other.div(self)
        share = _share(engine, self)
        shape = broadcast(share.shape, torch.as_tensor(other).shape)
        return _tensor(crypten, engine, quotient(engine, _public(engine, other, shape), share), self)

    return divide
