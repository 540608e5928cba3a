"""Runs CrypTen's secret tensors over the engine's channel and dealer, for operations that the engine itself lacks.

An engine is one owner's end (see `engine`); an MPCTensor is CrypTen's secret tensor. `to_crypten` takes shares of the
engine and `from_crypten` gives shares back; neither sends a message. Comparisons, relu, max, convolutions and whatever
else an MPCTensor has then run in a session of the engine, in a dry run too. `bilinear` is a single
protocol of CrypTen on shares. CrypTen's protocols exchange masked values
and shares, and they reveal nothing to either owner. The channel counts their bytes and rounds.

`use` and the import of this file replace the following in CrypTen, and nothing else:

| in CrypTen | replaced by |
|---|---|
| DistributedCommunicator.instance, .is_initialized | the engine's channel |
| the provider of correlated randomness | requests to the engine's dealer |
| generators | objects that raise, so that nothing can draw shares from torch's Mersenne Twister |
| PRZS of both kinds of shares (shares of zero) | shares of zero from the stream that the owners share |
| BinarySharedTensor.rand | bits from an AES stream of each owner |
| ArithmeticSharedTensor.div_ | the engine's exact divisions, for every public divisor that is a whole number |
| MPCTensor._ltz, on which all comparisons but == rest | the engine's `comparison.negative` |
| MPCTensor.relu, and relu in the autograd | `comparison.relu`, or the helper's function if there is a helper |
| the constants of CrypTen's circuit, in a dry run | tensors without values |

CrypTen's own division truncates locally. It fails for an element v with probability |v| / 2^64 and is then wrong by
2^48, and the training of a network has enough elements to meet that. The engine's division takes one round more.

The replaced names are internals of CrypTen 0.4.1. A replacement may be added with a line in the table; no replacement
may let CrypTen draw shares or masks from torch's generators, or open a result, which `session.reveal` alone does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed import ReduceOp

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import crypten_compat as _compat
from mpc_appraisal.mpc.protocols.comparison import MaskedBit, gated, negative, relu
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.protocols.public_division import divide
from mpc_appraisal.mpc.protocols.request_checks import MAX_DIVISOR
from mpc_appraisal.mpc.ring.prg import DryStream, Stream, new_key
from mpc_appraisal.mpc.ring.shape_tensor import broadcast, shape_of, shape_tensor

crypten = _compat.load()

from crypten.communicator.distributed_communicator import DistributedCommunicator  # noqa: E402
from crypten.gradients import FUNCTION_REGISTRY, AutogradReLU  # noqa: E402
from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor, circuit  # noqa: E402
from crypten.mpc.provider.provider import TupleProvider  # noqa: E402

BITS = 16  # A CrypTen tensor has so many fractional bits.
NAME = "ENGINE"


class NoGenerator:
    """What replaces the dictionaries in which CrypTen keeps torch's generators; any look-up raises TypeError."""

    def __getitem__(self, device: Any) -> Any:
        raise TypeError(
            "generators: shares, masks and triples come from AES streams; torch's generators are not cryptographic"
        )


class BridgeCommunicator(DistributedCommunicator):
    """CrypTen's communicator between the two owners, over the engine's channel.

    The methods are CrypTen's. Those that would open a result or send an object raise TypeError.
    """

    def __init__(self, engine: Engine):
        self.engine, self.rank, self.world_size = engine, engine.me, 2
        self.reset_communication_stats()

    def _exchange(self, tensors: list[torch.Tensor], op: Any) -> list[torch.Tensor]:
        """Return the sums, or the exclusive ors, of both owners' int64 tensors, in one message each way."""
        mine = torch.cat([t.reshape(-1) for t in tensors])
        self.engine.channel.send(mine, 1 - self.rank)
        theirs = self.engine.channel.receive(mine.shape, 1 - self.rank)
        if op not in (ReduceOp.SUM, ReduceOp.BXOR):
            raise TypeError(f"all_reduce: got {op}; expected SUM or BXOR")
        total = mine + theirs if op == ReduceOp.SUM else mine ^ theirs
        pieces = total.split([t.numel() for t in tensors])
        return [piece.reshape(t.shape) for piece, t in zip(pieces, tensors, strict=True)]

    def all_reduce(self, input, op=ReduceOp.SUM, batched=False):
        return self._exchange(input, op) if batched else self._exchange([input], op)[0]

    def reduce(self, input, dst, op=ReduceOp.SUM, batched=False):
        raise TypeError("reduce: results are opened through session.reveal alone, which keeps the ledger")

    def broadcast_obj(self, obj, src, group=None):
        raise TypeError("broadcast_obj: objects are not sent, since both owners state the public sizes themselves")

    def get_rank(self):
        return self.rank

    def get_world_size(self):
        return self.world_size

    def settle(self):
        """Take what this party has asked for and not waited for yet, so that the engine's messages come in order."""


class BridgeProvider(TupleProvider):
    """CrypTen's provider of correlated randomness, over the engine's streams and dealer.

    Each method makes one request of the table in `dealer`, and returns this owner's shares of the masks that both
    owners draw and of the dealer's result.
    """

    NAME = NAME

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine = engine

    def _arithmetic(self, share: torch.Tensor) -> ArithmeticSharedTensor:
        return ArithmeticSharedTensor.from_shares(share, precision=0)

    def generate_additive_triple(self, size0, size1, op, device=None, *args, **kwargs):
        engine = self.engine
        engine.ask_dealer("bilinear", op, list(size0), list(size1), _plain(kwargs))
        a, b = engine.triple_mask(size0), engine.triple_mask(size1)
        shape = shape_of(op, size0, size1, kwargs)
        return self._arithmetic(a), self._arithmetic(b), self._arithmetic(engine.dealer_share(shape))

    def square(self, size, device=None):
        self.engine.ask_dealer("square", list(size))
        a = self.engine.triple_mask(size)
        return self._arithmetic(a), self._arithmetic(self.engine.dealer_share(size))

    def generate_binary_triple(self, size0, size1, device=None):
        engine = self.engine
        engine.ask_dealer("conjunction", list(size0), list(size1))
        a, b = engine.triple_mask(size0), engine.triple_mask(size1)
        c = engine.dealer_share(broadcast(tuple(size0), tuple(size1)))
        return tuple(BinarySharedTensor.from_shares(t) for t in (a, b, c))

    def B2A_rng(self, size, device=None):
        self.engine.ask_dealer("bit", list(size))
        bit = self.engine.triple_mask(size) & 1
        return self._arithmetic(self.engine.dealer_share(size)), BinarySharedTensor.from_shares(bit)

    def wrap_rng(self, size, device=None):
        raise TypeError("wrap_rng: CrypTen counts wraps for three parties or more; expected two owners")


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, (tuple, list)) else v for k, v in options.items() if v is not None}


def use(engine: Engine) -> None:
    """Make CrypTen compute over `engine` from now on, in this process. Repeating the call does nothing."""
    current = DistributedCommunicator.instance
    if isinstance(current, BridgeCommunicator) and current.engine is engine:
        return
    DistributedCommunicator.instance = BridgeCommunicator(engine)
    DistributedCommunicator.is_initialized = classmethod(lambda cls: cls.instance is not None)
    vars(crypten.mpc)["__SUPPORTED_PROVIDERS"][NAME] = BridgeProvider(engine)
    crypten.config.cfg.mpc.provider = NAME
    for key in crypten.generators:
        crypten.generators[key] = NoGenerator()
    for kind in (ArithmeticSharedTensor, BinarySharedTensor):
        kind.PRZS = staticmethod(_zero_sharing(kind, engine))
    BinarySharedTensor.rand = staticmethod(_random_bits(engine))


def _zero_sharing(kind: Any, engine: Engine):
    def zeros(*size, device=None):
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        r = engine.pair.ring(shape)
        negated = -r if kind is ArithmeticSharedTensor else r  # The exclusive or of two equal shares is zero.
        return kind.from_shares(r if engine.me == 0 else negated, precision=0)

    return zeros


def _random_bits(engine: Engine):
    own = DryStream() if engine.dry else Stream(new_key(), "own")

    def rand(*size, bits=64, device=None):
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        share = own.ring(shape)
        return BinarySharedTensor.from_shares(share if bits == 64 else share & ((1 << bits) - 1), src=engine.me)

    return rand


_crypten_div = ArithmeticSharedTensor.div_


def _divided(self, y):
    """Divide in place by public y: within one unit over the engine for whole numbers, as CrypTen divides for others.

    CrypTen multiplies by 1 / y with 16 fractional bits where y is no whole number.

    Raises InputError: y is zero.
    """
    engine = _bridged()
    if engine is None:
        return _crypten_div(self, y)
    divisor = _whole(y)
    if divisor is None:
        return _crypten_div(self, y)
    quotient = _quotient(engine, self.share, divisor)
    if quotient.is_meta:
        self.share = quotient
    else:
        self.share.copy_(quotient)
    return self


def _whole(y: Any) -> int | torch.Tensor | None:
    """Return y if it is a whole number, or a tensor of whole numbers as int64, else None."""
    if isinstance(y, (int, float)):
        return int(y) if float(y).is_integer() else None
    if not torch.is_tensor(y):
        return None
    if y.dtype == torch.bool or not (y.is_floating_point() and not y.frac().eq(0).all()):
        return int(y) if y.numel() == 1 else y.to(torch.int64)
    return None


def _quotient(engine: Engine, share: torch.Tensor, y: int | torch.Tensor) -> torch.Tensor:
    """Return shares of v / y, within one unit; one round, and for a tensor of divisors one for each distinct number."""
    if torch.is_tensor(y):
        found, y = torch.empty_like(share), y.expand(share.shape)
        for divisor in y.unique().tolist():
            where = y == divisor
            found[where] = _quotient(engine, share[where], divisor)
        return found
    if not 0 < abs(y) <= MAX_DIVISOR:
        raise InputError("div", y, f"a divisor other than 0, at most {MAX_DIVISOR} in absolute value")
    if y < 0:
        share, y = -share, -y
    power = y.bit_length() - 1
    return engine.truncate(share, power) if y == 1 << power else divide(engine, share, y)


ArithmeticSharedTensor.div_ = _divided

_CONSTANTS = "__SPK_circuit_constants"
_circuit_constants = getattr(circuit, _CONSTANTS)


def _constants(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the constants of CrypTen's circuit; on the device meta CrypTen would compute them by torch's compiler."""
    constants = _circuit_constants(torch.device("cpu") if device.type == "meta" else device)
    return tuple(shape_tensor(one.shape) for one in constants) if device.type == "meta" else constants


setattr(circuit, _CONSTANTS, _constants)


def to_crypten(engine: Engine, share: torch.Tensor) -> Any:
    """Return the MPCTensor of this owner's share with 16 fractional bits; no message is sent."""
    use(engine)
    return crypten.mpc.MPCTensor.from_shares(engine.blinded(share))


def bilinear(engine: Engine, op: str, left: torch.Tensor, right: torch.Tensor, **options: Any) -> torch.Tensor:
    """Return shares of torch's function `op` of two shared tensors, exact mod 2^64; one round.

    Both tensors are opened under masks (Beaver), 8 bytes an element of each. The fractional bits add up.

    Args:
        engine: this owner's end.
        op: one of `dealer.BILINEAR`: 'mul', 'matmul' or a convolution.
        left, right: this owner's shares (int64) of the two arguments of torch's function.
        options: the further arguments of torch's function.
    """
    use(engine)
    x, y = (ArithmeticSharedTensor.from_shares(share, precision=0) for share in (left, right))
    return getattr(x, op)(y, **options).share


def from_crypten(tensor: Any) -> tuple[torch.Tensor, int]:
    """Return this owner's share of an MPCTensor and the number of its fractional bits.

    No message is sent, unless the tensor is shared by exclusive or, in which case CrypTen converts the sharing first.
    """
    if tensor.ptype != crypten.mpc.arithmetic:
        tensor = tensor.to(crypten.mpc.arithmetic)
    return tensor.share, int(tensor.encoder.scale).bit_length() - 1


class EngineReLU(AutogradReLU):
    """CrypTen's relu in its autograd, with the engine's comparison; the backward pass multiplies by the same bits.

    A helper, if the engine has one, gives value and derivative in one exchange.
    """

    @staticmethod
    def forward(ctx, input):
        engine = _comparing() if isinstance(input, crypten.mpc.MPCTensor) else None
        if engine is None:
            return AutogradReLU.forward(ctx, input)
        share, bits = from_crypten(input)
        if engine.helper:
            (value, bits), (positive, _) = apply(engine, share, bits, ("relu", "step"))
            positive = crypten.mpc.MPCTensor.from_shares(positive, precision=0)
        else:
            value, positive = relu(engine, share)
        ctx.save_for_backward(positive)
        return crypten.mpc.MPCTensor.from_shares(value, precision=bits)

    @staticmethod
    def backward(ctx, grad_output):
        (positive,) = ctx.saved_tensors
        if not isinstance(positive, MaskedBit):
            return grad_output.mul(positive)
        engine = _bridged()
        share, bits = from_crypten(grad_output)
        value = gated(engine, positive, share)
        positive.forget(engine)
        return crypten.mpc.MPCTensor.from_shares(value, precision=bits)


def _bridged() -> Engine | None:
    """Return the engine that CrypTen computes over, or None if it computes by itself."""
    communicator = DistributedCommunicator.get()
    if not isinstance(communicator, BridgeCommunicator):
        return None
    communicator.settle()
    return communicator.engine


def _comparing() -> Engine | None:
    """Return the engine that compares, or None where CrypTen's circuit does.

    The circuit does while a program notes its requests, or has tuples that it had dealt ahead: it is what uses them.
    """
    engine, provider = _bridged(), crypten.mpc.get_default_provider()
    ahead = engine is not None and (provider.tracing or any(provider.tuple_cache.values()))
    return None if ahead else engine


_crypten_relu, _crypten_ltz = crypten.mpc.MPCTensor.relu, crypten.mpc.MPCTensor._ltz


def _relu(self):
    """Return relu where nothing is differentiated (MPCTensor.relu); see `EngineReLU`."""
    engine = _comparing()
    if engine is None:
        return _crypten_relu(self)
    share, bits = from_crypten(self)
    if engine.helper:
        ((value, bits),) = apply(engine, share, bits, ("relu",))
    else:
        value, positive = relu(engine, share)
        positive.forget(engine)
    return crypten.mpc.MPCTensor.from_shares(value, precision=bits)


def _ltz(self):
    """Return 1 where the tensor is below zero and 0 elsewhere, which every comparison of CrypTen's calls."""
    engine = _comparing()
    if engine is None:
        return _crypten_ltz(self)
    return crypten.mpc.MPCTensor.from_shares(negative(engine, from_crypten(self)[0]), precision=0)


FUNCTION_REGISTRY[EngineReLU.name] = EngineReLU
crypten.mpc.MPCTensor.relu = _relu
crypten.mpc.MPCTensor._ltz = _ltz
