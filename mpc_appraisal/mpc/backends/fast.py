"""The engine `fast`: a session on the protocols of `protocols.engine`, with a dealer that runs ahead of the owners.

`FastSession` is an owner's session, `DrySession` is its dry run (the same program on shapes), and `deal` is the dealer.
Before the computation, each owner runs the program dry, which gives the script, the list of requests to the dealer.
Both owners send the dealer the digest of the script, and the dealer works through no other (see `protocols.orders`).
So nobody waits for the dealer. The owners commit to a result that goes to both before either owner opens it (see
`protocols.committed_opening`).

An operation of a session may be added, in `EngineSession` if a dry run does the same. `DrySession` and `FastSession`
have to make the same requests and send messages of the same sizes: otherwise the dealer's answers do not fit, and the
stated costs are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpc_appraisal.common.errors import AppraisalError, BoundError
from mpc_appraisal.common.roles import MODEL_OWNER, OWNERS, rank_of
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.integrity.message_check import DealerCheck, OwnerCheck, count_check, count_show
from mpc_appraisal.mpc.net.channel import Channel, DryChannel, GlooChannel
from mpc_appraisal.mpc.net.meter import Cost, Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tcp import TcpChannel
from mpc_appraisal.mpc.net.tls import TlsChannel
from mpc_appraisal.mpc.protocols import activations, slopes, tensor_operations  # noqa: F401  for functions of `ops`
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT, LOGIT_CHECK_WHY
from mpc_appraisal.mpc.protocols.committed_opening import open_committed
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.grid import Grid, GridTensor
from mpc_appraisal.mpc.protocols.logit_bound import TrainedWeights
from mpc_appraisal.mpc.protocols.orders import bytes_of, receive_script, submit_script, tensor_of
from mpc_appraisal.mpc.protocols.script_limits import Limits
from mpc_appraisal.mpc.protocols.tensors import Context, PrivateTensor, Secret
from mpc_appraisal.mpc.ring.fixed_point import decode
from mpc_appraisal.mpc.ring.prg import KEY_BYTES, DryStream, Stream, new_key
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor
from mpc_appraisal.mpc.session import Session, check_owner

MARGIN_BITS = 8  # A plausible opened value leaves so many bits of the ring unused; a random element mostly does not.
DEFAULT_BOUND = 16.0  # The bound on the absolute value of logits, until the program states another bound.
TAG_NUMBERS = 4  # So many ring elements make the tag of a session's commitments.
CHANNELS = {"tcp": TcpChannel, "gloo": GlooChannel, "tls": TlsChannel}


class TrainingContext(Context):
    """What a session's tensors have in common, with the record of the weights that training has made (`trained`)."""

    def __init__(self, engine: Engine, logit_bound: float):
        super().__init__(engine, logit_bound)
        self.trained = TrainedWeights(engine)


@ops.record_weights.register(PrivateTensor)
@ops.record_weights.register(Secret)
def _record(weights):
    if weights.context.spread is None:
        shared = weights.secret() if isinstance(weights, PrivateTensor) else weights
        weights.context.trained.record(shared.share, shared.bits)
    return weights


class EngineSession(Session):
    """What `FastSession` and `DrySession` have in common; `Session` describes the methods."""

    engine = "fast"
    context: TrainingContext
    _engine: type[Engine] = Engine

    def adopt(self, shares, shape, bits, name):
        dry = self.context.engine.dry
        return Secret(self.context, shape_tensor(shape) if dry else self._share(self.role, shares, shape, name), bits)

    def _private(
        self, owner: str, value: torch.Tensor | None, shape, name: str, grid: Grid | None = None
    ) -> PrivateTensor:
        if grid is not None:
            return GridTensor(self.context, rank_of(owner), value, torch.Size(shape), name, grid)
        return PrivateTensor(self.context, rank_of(owner), value, torch.Size(shape), name)

    def bound_logits(self, bound, weights=None, spread=None):
        self.context.logit_bound, self.context.spread = bound, spread
        self.context.trained = TrainedWeights(self.context.engine, weights)

    def within_bound(self):
        within = self.context.trained.verdict()
        return None if within is None else Secret(self.context, within, 0)

    def check_logits(self):
        limit, within = self.context.trained.limit, self.within_bound()
        if within is None:
            return
        opened = self.reveal(within, LOGIT_CHECK_WHAT, LOGIT_CHECK_WHY)
        if self.context.engine.dry or opened.item() == 1:
            return
        raise BoundError(
            f"{limit.method}: training has left the public bound on logits, and no value is released. Expected centred "
            f"weights of norm {limit.norm:g} at most for every class after every step, so that rows of norm up to "
            f"{limit.row_norm:g} give logits within {limit.bound:g}: lower appraisal.lr, take fewer appraisal.steps, "
            "or state session.logit_bound=auto or a larger one"
        )

    def settled(self, values):
        engine = self.context.engine
        return values if not engine.affine else [self._kept(each) for each in values]

    def _kept(self, value: PrivateTensor | Secret) -> Secret:
        found = value.secret() if isinstance(value, PrivateTensor) else value
        kept = Secret(self.context, self.context.engine.keep(found.share), found.bits)
        kept.cut, kept.kept = found.cut, found.kept
        return kept

    def drop_settled(self):
        self.context.engine.drop_kept()

    def require_exact_truncation(self):
        self.context.engine.exact = True

    def perturb(self, secret, draw):
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        engine, share = self.context.engine, secret.share
        if not engine.affine:
            if engine.dry:
                return secret
            return Secret(self.context, share + torch.full_like(share, draw(secret.bits)), secret.bits)
        for owner in range(len(OWNERS)):  # Noise is a private number, and a replay knows it by its owner's message.
            noise = None
            if engine.me == owner:
                unknown = engine.dry or engine.replays
                noise = shape_tensor(share.shape) if unknown else torch.full(share.shape, draw(secret.bits))
            masked = engine.mask(owner, noise, share.shape, along=True)
            share = share + masked.clear.values if engine.me == owner else share
            engine.free(masked)
        return Secret(self.context, share, secret.bits)

    def rounded(self, secret, bits):
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        if secret.bits <= bits:
            return secret
        found = secret.to_bits(bits)
        found.cut = secret.cut + secret.bits - bits
        return found

    def cache(self, value):
        if isinstance(value, PrivateTensor):
            value.masked()

    def evict(self, *values):
        for value in values:
            if isinstance(value, PrivateTensor):
                for masked in value._masked.values():
                    self.context.engine.free(masked)
                value._masked.clear()

    def mark(self):
        self.context.engine.mark()

    @property
    def failure(self):
        return self.context.engine.failure


class DrySession(EngineSession):
    """A session on shapes alone. It gives the dealer's script, and counts what the program costs the owner `role`."""

    dry = blind = True

    def __init__(self, role: str = MODEL_OWNER, integrity: bool = False):
        super().__init__()
        self.role, self.integrity, self._checks = role, integrity, 0
        streams = Engine.streams_of(None)
        engine = self._engine(rank_of(role), DryChannel(self.meter), streams, DryStream(), dry=True)
        if integrity:
            engine.record()
        self.context = TrainingContext(engine, DEFAULT_BOUND)
        self.marks: list[int] = []  # the bytes that the dealer has sent here at each mark

    @property
    def script(self) -> list[Any]:
        """Return the requests to the dealer so far."""
        return self.context.engine.script

    def mark(self):
        super().mark()
        self.marks.append(self.context.engine.channel.dealt)

    def input(self, owner, read, shape, name, grid=None):
        check_owner(owner, name)
        kind = torch.float64 if grid is None else torch.int32
        value = shape_tensor(shape, kind) if owner == self.role else None
        return self._private(owner, value, shape, name, grid)

    def _open(self, secret, to):
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        if self.integrity:
            self._count_check(secret.share, [rank_of(role) for role in to])
        elif len(to) == 2:
            open_committed(self.context.engine, secret.share, b"")
        elif self.role == to[0]:
            self.context.engine.channel.receive(secret.shape, 1 - rank_of(self.role))
        else:
            self.context.engine.channel.send(secret.share, rank_of(to[0]))
        return torch.zeros(secret.shape, dtype=torch.float64)

    def _count_check(self, share: torch.Tensor, ranks: list[int]) -> None:
        engine, self._checks = self.context.engine, self._checks + 1
        settled = engine.settle(share)
        engine.ask_dealer("check", sorted(engine.moduli))
        count_check(engine, self._checks)
        engine.ask_dealer("show", settled.key, ranks)
        count_show(engine, settled, ranks)


def dry_run(program: Callable[[Session], Any], integrity: bool = False) -> tuple[list[Any], dict[str, Cost], float]:
    """Run `program` dry, once as each owner.

    Returns the dealer's script, each owner's cost by role, and a bound on the probability that fixed point fails.
    """
    runs = {}
    for role in OWNERS:
        runs[role] = DrySession(role, integrity)
        program(runs[role])
    script = runs[MODEL_OWNER].context.engine.script
    return script, {role: run.meter.cost() for role, run in runs.items()}, runs[MODEL_OWNER].failure


class FastSession(EngineSession):
    """An owner's session on the engine fast.

    Args:
        rendezvous: The connection to the other parties.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made, a key of CHANNELS.
        integrity: Whether all messages are checked before a result is opened; see `mpc.integrity.message_check`.
    """

    rehearsal = DrySession
    _tag, _opened = b"", 0  # a value of this session, and the number of openings to both owners: they bind commitments

    def __init__(self, rendezvous: Rendezvous, timeout: float, transport: str = "tcp", integrity: bool = False):
        super().__init__()
        self.role, self.integrity = rendezvous.role, integrity
        self.channel = open_channel(rendezvous, self.meter, timeout, transport)
        me = rank_of(self.role)
        dealt = bytes_of(self.channel.receive((KEY_BYTES,), 2, torch.uint8))
        if me == 0:
            pair = new_key()
            self.channel.send(tensor_of(pair), 1)
        else:
            pair = bytes_of(self.channel.receive((KEY_BYTES,), 0, torch.uint8))
        engine = self._engine(me, self.channel, Engine.streams_of(dealt), Stream(pair, "pair"))
        self.context = TrainingContext(engine, DEFAULT_BOUND)
        self._tag = bytes_of(Stream(pair, "opening").ring((TAG_NUMBERS,)))
        self._keys, self._check, self._replays = (dealt, pair), None, None
        if integrity:
            engine.record()

    def prepare(self, program, script=None):
        if script is None:
            dry = self.rehearsal(self.role, *([True] if self.integrity else []))
            program(dry)
            script = dry.script
        submit_script(self.channel, script, self.role)
        if self.integrity:
            from mpc_appraisal.mpc.backends.replayed import Replays

            dealt, pair = self._keys
            self._replays = Replays(program, lambda: Stream(pair, "pair"))
            self._check = OwnerCheck(self.context.engine, dealt, self._replays.engines, self._replays.advance)

    def input(self, owner, read, shape, name, grid=None):
        check_owner(owner, name)
        value = None
        if self.role == owner:
            value = self._read(owner, read, shape, name)  # `encode` checks its range
        return self._private(owner, value, shape, name, grid)

    def _open(self, secret, to):
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        engine = self.context.engine
        if self._check is not None:
            settled = engine.settle(secret.share)
            self._check.check()
            opened = self._check.show(settled, [rank_of(role) for role in to])
            found = None if opened is None else self._plausible(opened, secret)
            self._replays.opened(found)
            return found
        share = engine.blinded(secret.share)
        if len(to) == 2:
            self._opened += 1
            opened = open_committed(engine, share, self._tag + self._opened.to_bytes(8, "big"))
        elif self.role == to[0]:  # the receiver sends nothing
            opened = share + self.channel.receive(secret.shape, 1 - engine.me)
        else:
            self.channel.send(share, rank_of(to[0]))
            return None
        return self._plausible(opened, secret)

    def _plausible(self, opened: torch.Tensor, secret: Secret) -> torch.Tensor:
        """Return what was opened as real numbers. Raises AppraisalError where no sum can be as large."""
        if (opened.abs() >= 1 << max(0, 63 - MARGIN_BITS - secret.cut)).any():
            raise AppraisalError(
                "the opened value is not plausible, so nothing is released: fixed point overflowed. Expected sums over "
                f"rows within the ring, and logits within {self.context.logit_bound:g}: standardise the features, "
                "lower appraisal.lr, or state a larger session.logit_bound"
            )
        return decode(opened, secret.bits)

    def close(self, orderly=True):
        if self._replays is not None:
            self._replays.close()
        if orderly:
            self.channel.close()


def open_channel(
    rendezvous: Rendezvous, meter: Meter, timeout: float, transport: str, roles: Sequence[str] | None = None
) -> Channel:
    """Return the channel, over `transport`, that connects this party with the others; `meter` counts what is sent.

    roles: The parties that the channel connects, which all call this; None for all of the session. Over gloo a channel
    has to connect all.
    """
    if transport == "tcp":
        return TcpChannel(rendezvous, meter, timeout, roles)
    return CHANNELS[transport](rendezvous, meter, timeout)


def deal(
    rendezvous: Rendezvous,
    timeout: float,
    transport: str = "tcp",
    helper: bool = False,
    script: list[Any] | None = None,
    limits: Limits | None = None,
    integrity: bool = False,
) -> list[int]:
    """Be the dealer of one session until it ends.

    Args:
        rendezvous: The connection to the owners.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made.
        helper: True if the dealer also computes functions of permuted values; see `protocols.permutation`.
        script: The requests of the dealer's own dry run of the agreed program, with which the owners' script has to
            agree. With None the two owners' scripts are compared with each other alone.
        limits: The limits on what a script may ask for. None allows what this machine can hold.
        integrity: Whether the owners' messages are checked; see `mpc.integrity.message_check`.

    Returns the bytes that the dealer had sent at each mark.

    Raises DisagreementError: The owners have made different scripts, or one beyond the limits. Nothing was dealt.
    """
    meter = Meter()
    channel = open_channel(rendezvous, meter, timeout, transport)
    keys = [new_key(), new_key()]
    for rank, key in enumerate(keys):
        channel.send(tensor_of(key), rank)
    agreed = receive_script(channel, limits or Limits.of_this_machine(), script)
    marks: list[int] = []
    receive = channel.receive if helper else None
    checked = DealerCheck(channel, keys) if integrity else None
    dealer = Dealer(keys, lambda correction: channel.send(correction, 0), receive, checked)
    dealer.run(agreed, lambda: marks.append(meter.bytes_sent))
    channel.close()
    return marks
