"""Session: the door between one party's own values and the joint computation.

`input` brings a party's private values in, `reveal` is the only way out, `agree` compares public facts, `meter` counts.
In between stand torch tensors (PlainSession: no privacy, the baseline), CrypTen's secret tensors (`stock`) or the
engine's (`fast`), which speak one dialect, so that a formula is written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.errors import DisagreementError, InputError, OwnerError
from mpc_appraisal.common.roles import MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS, check_functions
from mpc_appraisal.mpc.protocols.logit_bound import WeightLimit
from mpc_appraisal.mpc.ring.fixed_point import check_range

Read = Callable[[], torch.Tensor]
PLAIN_BITS = 36  # fractional bits of noise where nothing is in fixed point


@dataclass(frozen=True)
class Opening:
    """One entry of the ledger: what left the computation, to whom, how many numbers, and why."""

    what: str
    to: tuple[str, ...]
    numbers: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"to": list(self.to)}


class Session(ABC):
    """One party's view of a joint computation; `role` is the party's name."""

    role: str
    engine: str
    dry: ClassVar[bool] = False  # whether the session runs on shapes alone, so that it opens zeros

    def __init__(self) -> None:
        self.meter = Meter()
        self.ledger: list[Opening] = []
        self._permitted: Counter[tuple[str, tuple[str, ...], int]] | None = None  # None: whatever the program opens

    @abstractmethod
    def input(self, owner: str, read: Read, shape: Sequence[int], name: str) -> Any:
        """Bring in a private value.

        Args:
            owner: the role that knows it.
            read: called in the owner's process alone; returns a real tensor of `shape`.
            shape: public.
            name: how the owner calls the value; stands in its errors.

        Raises:
            InputError: wrong shape, NaN, infinite, or beyond the fixed-point range (in the owner's process).
            OwnerError: `owner` is not one of the two owners.
        """

    def adopt(self, parts: Mapping[str, Read], shape: Sequence[int], bits: int, name: str) -> Any:
        """Bring in a value that already is shared additively modulo 2^64; no message.

        Args:
            parts: by owner, its share: int64, of `shape`. Each is called in that owner's process alone.
            bits: fractional bits of the value.
            name: stands in errors.

        Raises InputError: wrong shape or type, or an engine that has no such shares.
        """
        raise InputError("session.engine", self.engine, f"fast, or a plain session, for {name}: shares modulo 2^64")

    @abstractmethod
    def _open(self, secret: Any, to: tuple[str, ...]) -> torch.Tensor | None: ...

    def reveal(self, secret: Any, what: str, why: str, to: Sequence[str] = OWNERS) -> torch.Tensor | None:
        """Open `secret` to the roles in `to` and write it to the ledger. Returns float64, or None at the others.

        To both owners, each commits to its share before either sends it, so that neither chooses the result by sending
        last; see `committed` for what a cheating owner can still do. To one owner alone there is nothing to choose for
        the receiver, and the sender can shift the result by an amount of its choice.

        Raises PeerError: the other owner opened another share than it had committed to; nothing is released.
        """
        unknown = [role for role in to if role not in OWNERS]
        if unknown or not to:
            raise OwnerError(f"reveal {what!r}: cannot open to {unknown or 'nobody'}; expected some of {OWNERS}")
        opening = Opening(what, tuple(to), int(torch.Size(secret.size()).numel()), why)
        if self._permitted is not None:
            key = (opening.what, opening.to, opening.numbers)
            if not self._permitted[key]:
                raise OwnerError(
                    f"reveal {what!r} to {' and '.join(to)}: was not approved; expected what was asked for"
                )
            self._permitted[key] -= 1
        opened = self._open(secret, opening.to)
        self.ledger.append(opening)
        return opened if self.role in to or self.role == "everybody" else None

    def permit(self, openings: Iterable[Opening]) -> None:
        """From here on open these at most, each as often as it occurs; `reveal` refuses anything else."""
        self._permitted = Counter((o.what, o.to, o.numbers) for o in openings)

    def perturb(self, secret: Any, draw: Callable[[int], int]) -> Any:
        """Add this party's own noise to `secret`, a single number; every owner adds its own.

        draw: from the number of fractional bits to an integer in units of the last of them, below 2^63; called in each
        owner's process, and never told.
        """
        raise InputError("session.engine", self.engine, "fast, or a plain session: noise is added in them alone")

    def rounded(self, secret: Any, bits: int) -> Any:
        """`secret` with `bits` fractional bits at most, what lies below taken off on shares before it is opened.

        One of the two numbers next to it, the nearer one with the greater probability; one round. An engine that has no
        truncation that cannot fail returns it as it is, and so does one that knows the real number.
        """
        return secret

    def applied(self, secret: Any, names: Sequence[str]) -> list[Any]:
        """Functions of `functions.FUNCTIONS` of one value, in one exchange with the helper.

        Raises InputError: an unknown function, or an engine without a helper.
        """
        raise InputError("session.engine", self.engine, f"rtas, or a plain session, for {', '.join(names)} at a helper")

    def apply(self, secret: Any, name: str) -> Any:
        """One such function."""
        return self.applied(secret, (name,))[0]

    def require_exact_truncation(self) -> None:
        """From here on nothing is truncated in a way that may fail, but the mean of a row's logits in a log-softmax."""

    def prepare(self, program: Callable[[Session], Any], script: Any = None) -> None:
        """Be told what will be run, before it is: an engine may want the shapes. script: of a dry run of it, if there
        was one at the model owner."""

    def bound_logits(self, bound: float, weights: WeightLimit | None = None) -> None:
        """State the public bound on |logits| for what comes next.

        weights: for a method that trains, what its weights will be held to; see `check_logits`.
        """

    def check_logits(self) -> None:
        """Before a result is opened: have all recorded weights kept the bound? Opens that one bit to both.

        Only where an engine's softmax needs the bound, and the method trains.

        Raises BoundError, at both owners: they have not. AppraisalError: the method told of none.
        """

    def within_bound(self) -> Any | None:
        """What `check_logits` opens, as a secret bit (1,); None where nothing needs the bound."""
        return None

    def cache(self, value: Any) -> None:
        """Prepare an input for many uses, so that its cost stands where it is brought in."""

    def evict(self, *values: Any) -> None:
        """What the session keeps for these inputs can go."""

    def mark(self) -> None:
        """Have the dealer record its traffic up to here."""

    def close(self, orderly: bool = True) -> None:
        """Leave; `orderly` if all parties do."""

    @property
    def failure(self) -> float | None:
        """Bound on the probability that fixed point has failed so far, where the engine knows it."""
        return None

    @staticmethod
    def _read(owner: str, read: Read, shape: Sequence[int], name: str) -> torch.Tensor:
        values = read()
        if tuple(values.shape) != tuple(shape):
            raise InputError(name, f"shape {tuple(values.shape)}", f"shape {tuple(shape)}, as {owner} announced")
        return values

    @staticmethod
    def _share(owner: str, parts: Mapping[str, Read], shape: Sequence[int], name: str) -> torch.Tensor:
        share = Session._read(owner, parts[owner], shape, name)
        if share.dtype != torch.int64:
            raise InputError(name, share.dtype, "a share in torch.int64")
        return share


class PlainSession(Session):
    """Everybody in one process, nothing hidden: the plaintext baseline, in float64."""

    role, engine = "everybody", "plaintext"

    def input(self, owner, read, shape, name):
        check_owner(owner, name)
        values = self._read(owner, read, shape, name)
        check_range(values, name)
        return values.to(torch.float64)

    def adopt(self, parts, shape, bits, name):
        return sum(self._share(owner, parts, shape, name) for owner in OWNERS).to(torch.float64) / 2.0**bits

    def applied(self, secret, names):
        check_functions(names)
        return [FUNCTIONS[name].compute(secret) for name in names]

    def perturb(self, secret, draw):
        return secret + (draw(PLAIN_BITS) + draw(PLAIN_BITS)) / 2.0**PLAIN_BITS  # that of both owners

    def _open(self, secret, to):
        return secret.detach().to(torch.float64)


def check_owner(owner: str, name: str) -> None:
    """Raises OwnerError unless `owner` is one of the two owners."""
    if owner not in OWNERS:
        raise OwnerError(f"input {name!r}: owner {owner!r}; expected one of {OWNERS}")


def agree(
    rendezvous: Rendezvous,
    public: dict[str, Any],
    digest: str,
    digest_of: Callable[[dict[str, Any]], str] | None = None,
) -> tuple[dict[str, Any], str]:
    """Compare the public configuration with the other parties' before anything is shared.

    Numbers are compared as numbers: 1 and 1.0 are the same statement, for which the model owner's spelling then stands.

    Args:
        public: flat, key to JSON value; what all parties must state alike.
        digest: its hash. digest_of: how it is made; None: configurations of other hashes are refused.

    Returns the configuration and its hash as all parties now state them.

    Raises:
        DisagreementError: names each key that differs, with both values.
    """
    messages = rendezvous.exchange("config", {"digest": digest, "public": public})
    if len({message["digest"] for message in messages.values()}) == 1:
        return public, digest
    reference = messages[MODEL_OWNER]["public"]
    lines = []
    for role in (r for r in messages if r != MODEL_OWNER):
        theirs = messages[role]["public"]
        for key in sorted(reference.keys() | theirs.keys()):
            ours, other = reference.get(key, "(absent)"), theirs.get(key, "(absent)")
            if not same(ours, other):
                values = f"{shown(repr(ours))} at {MODEL_OWNER}, {shown(repr(other))} at {role}"
                lines.append(f"{shown(key, 200)}: {values}")
    stated = messages[MODEL_OWNER]["digest"]
    if lines or digest_of is None or digest_of(reference) != stated:
        hashes = ", ".join(f"{shown(str(message['digest']), 40)} at {role}" for role, message in messages.items())
        alike = f"the keys that were told are alike, and their hashes are {hashes}; expected one hash"
        raise DisagreementError("the public configurations differ: " + "; ".join(lines or [alike]))
    return reference, stated


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values state the same; a whole number may be written as 1 or as 1.0, and a truth value is
    neither."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
