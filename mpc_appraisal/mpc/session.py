"""Sessions, through which one party's private values enter a joint computation and results leave it.

`Session.input` brings a party's values in, and `Session.reveal` is the only way out. In between are torch tensors
(`PlainSession`, the plaintext baseline), CrypTen's secret tensors (`backends.stock`) or the engine's (`backends.fast`).
They share one set of operations (see `ops`), so that a method writes its formula once. `agree` compares the parties'
public configurations before anything is shared.
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
PLAIN_BITS = 36  # fractional bits of noise in a plain session, which has no fixed point


@dataclass(frozen=True)
class Opening:
    """One entry of the ledger of a session: something that left the computation.

    Attributes:
        what: The name of what was opened.
        to: The roles to which it was opened.
        numbers: How many numbers it consists of.
        why: The reason for opening it.
    """

    what: str
    to: tuple[str, ...]
    numbers: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return asdict(self) | {"to": list(self.to)}


class Session(ABC):
    """One party's view of a joint computation.

    Attributes:
        role: The role of this party, or 'everybody' in a plain session.
        engine: The name of the engine.
        dry: The session runs on shapes alone, and opens zeros.
        meter: It counts seconds, bytes and rounds.
        ledger: It lists everything that was opened.
    """

    role: str
    engine: str
    dry: ClassVar[bool] = False

    def __init__(self) -> None:
        self.meter = Meter()
        self.ledger: list[Opening] = []
        self._permitted: Counter[tuple[str, tuple[str, ...], int]] | None = None  # None permits everything

    @abstractmethod
    def input(self, owner: str, read: Read, shape: Sequence[int], name: str) -> Any:
        """Bring in a private value.

        Args:
            owner: The role that knows the value.
            read: It is called in the owner's process alone and returns a real tensor of `shape`.
            shape: The shape is public.
            name: The owner's name for the value, for its error messages.

        Raises:
            InputError: In the owner's process, if the value has the wrong shape, is NaN or infinite, or is beyond the
                fixed-point range.
            OwnerError: `owner` is not one of the two owners.
        """

    def adopt(self, shares: Mapping[str, Read], shape: Sequence[int], bits: int, name: str) -> Any:
        """Bring in a value that is already shared additively modulo 2^64. No message is sent.

        Args:
            shares: For each owner, a function that returns its share, int64 of `shape`. It is called in that owner's
                process alone.
            bits: The number of fractional bits of the value.
            name: The name of the value, for error messages.

        Raises InputError: A share has the wrong shape or type, or the engine has no such shares.
        """
        raise InputError("session.engine", self.engine, f"fast, or a plain session, for {name}: shares modulo 2^64")

    @abstractmethod
    def _open(self, secret: Any, to: tuple[str, ...]) -> torch.Tensor | None: ...

    def reveal(self, secret: Any, what: str, why: str, to: Sequence[str] = OWNERS) -> torch.Tensor | None:
        """Open `secret` to the roles in `to`, and add an entry with `what` and `why` to the ledger.

        If it is opened to both owners, each commits to its share before either sends it, so that neither can choose the
        result by sending last; `protocols.committed_opening` says what a cheating owner can still do. If it is opened
        to one owner, the other one can shift the result by an amount of its choice.

        Returns float64 of the shape of `secret` at the roles in `to`, and None elsewhere.

        Raises:
            OwnerError: `to` contains other roles than the owners, or the opening is not permitted.
            PeerError: The other owner opened another share than it had committed to. Nothing is released.
        """
        unknown = [role for role in to if role not in OWNERS]
        if unknown or not to:
            raise OwnerError(f"reveal {what!r}: cannot open to {unknown or 'nobody'}; expected some of {OWNERS}")
        opening = Opening(what, tuple(to), int(torch.Size(secret.size()).numel()), why)
        if self._permitted is not None:
            key = (opening.what, opening.to, opening.numbers)
            if not self._permitted[key]:
                raise OwnerError(
                    f"reveal {what!r} to {' and '.join(to)}: it was not approved; expected an opening of the request"
                )
            self._permitted[key] -= 1
        opened = self._open(secret, opening.to)
        self.ledger.append(opening)
        return opened if self.role in to or self.role == "everybody" else None

    def permit(self, openings: Iterable[Opening]) -> None:
        """From now on permit these openings alone, each as often as it occurs. `reveal` refuses all others."""
        self._permitted = Counter((o.what, o.to, o.numbers) for o in openings)

    def perturb(self, secret: Any, draw: Callable[[int], int]) -> Any:
        """Add noise to `secret`, a single number. Each owner adds its own noise and sends it to nobody.

        Args:
            draw: It is called in each owner's process with a number of fractional bits. It returns the noise as an
                integer in units of the last bit, below 2^63.
        """
        raise InputError("session.engine", self.engine, "fast, or a plain session: noise is added in them alone")

    def rounded(self, secret: Any, bits: int) -> Any:
        """Return `secret` rounded to at most `bits` fractional bits, on shares, before it is opened.

        The result is one of the two neighbours; the nearer one has the greater probability. It takes one round. Engines
        without an exact truncation, and plain sessions, return `secret` unchanged.
        """
        return secret

    def applied(self, secret: Any, names: Sequence[str]) -> list[Any]:
        """Return several functions of one value, in one exchange with the helper; `names` are keys of `FUNCTIONS`.

        Raises InputError: A function is unknown, or the engine has no helper.
        """
        raise InputError("session.engine", self.engine, f"rtas, or a plain session, for {', '.join(names)} at a helper")

    def apply(self, secret: Any, name: str) -> Any:
        """Return one function of a value; see `applied`."""
        return self.applied(secret, (name,))[0]

    def require_exact_truncation(self) -> None:
        """From now on use truncations that cannot fail, except for the mean of a row's logits in a log-softmax."""

    def prepare(self, program: Callable[[Session], Any], script: Any = None) -> None:
        """Announce the program before it runs, so that the engine can plan from tensor shapes.

        Args:
            program: The function that will be called with this session.
            script: The requests of a dry run of the program, if there was one at the model owner.
        """

    def bound_logits(self, bound: float, weights: WeightLimit | None = None) -> None:
        """State the public bound on the absolute value of logits, for the following computations.

        Args:
            weights: The limit that `check_logits` compares the weights with, for a method that trains.
        """

    def check_logits(self) -> None:
        """Check, before a result is opened, that all recorded weights kept the bound. Opens one bit to both owners.

        It does nothing if the engine's softmax needs no bound or the method does not train.

        Raises:
            BoundError: At both owners, if the weights have left the bound.
            AppraisalError: The method trains and has recorded no weights.
        """

    def within_bound(self) -> Any | None:
        """Return what `check_logits` opens, as a secret bit (1,), or None if nothing needs the bound."""
        return None

    def cache(self, value: Any) -> None:
        """Prepare an input for many uses, so that its cost arises here and not at its first use."""

    def evict(self, *values: Any) -> None:
        """Release what the session keeps for these inputs."""

    def mark(self) -> None:
        """Let the dealer record the bytes that it has sent so far."""

    def close(self, orderly: bool = True) -> None:
        """End the session. `orderly` is false after a failure, when messages can no longer be exchanged."""

    @property
    def failure(self) -> float | None:
        """A bound on the probability that fixed point has failed so far, or None if the engine has none."""
        return None

    @staticmethod
    def _read(owner: str, read: Read, shape: Sequence[int], name: str) -> torch.Tensor:
        values = read()
        if tuple(values.shape) != tuple(shape):
            raise InputError(name, f"shape {tuple(values.shape)}", f"shape {tuple(shape)}, as {owner} announced")
        return values

    @staticmethod
    def _share(owner: str, shares: Mapping[str, Read], shape: Sequence[int], name: str) -> torch.Tensor:
        share = Session._read(owner, shares[owner], shape, name)
        if share.dtype != torch.int64:
            raise InputError(name, share.dtype, "a share in torch.int64")
        return share


class PlainSession(Session):
    """All parties in one process and nothing hidden, in float64: the plaintext baseline."""

    role, engine = "everybody", "plaintext"

    def input(self, owner, read, shape, name):
        check_owner(owner, name)
        values = self._read(owner, read, shape, name)
        check_range(values, name)
        return values.to(torch.float64)

    def adopt(self, shares, shape, bits, name):
        return sum(self._share(owner, shares, shape, name) for owner in OWNERS).to(torch.float64) / 2.0**bits

    def applied(self, secret, names):
        check_functions(names)
        return [FUNCTIONS[name].compute(secret) for name in names]

    def perturb(self, secret, draw):
        return secret + (draw(PLAIN_BITS) + draw(PLAIN_BITS)) / 2.0**PLAIN_BITS  # the noise of both owners

    def _open(self, secret, to):
        return secret.detach().to(torch.float64)


def check_owner(owner: str, name: str) -> None:
    """Raise OwnerError unless `owner` is one of the two owners."""
    if owner not in OWNERS:
        raise OwnerError(f"input {name!r}: owner {owner!r}; expected one of {OWNERS}")


def agree(
    rendezvous: Rendezvous,
    public: dict[str, Any],
    digest: str,
    digest_of: Callable[[dict[str, Any]], str] | None = None,
) -> tuple[dict[str, Any], str]:
    """Compare the public configuration with those of the other parties, before anything is shared.

    Numbers are compared as numbers: 1 and 1.0 are equal, and then the model owner's spelling counts.

    Args:
        public: All parties must state these keys with the same JSON values.
        digest: The hash of `public`.
        digest_of: It computes the hash of a configuration. With None, configurations of other hashes are refused.

    Returns the configuration and its hash, as all parties now state them.

    Raises:
        DisagreementError: The configurations differ. It names each key that differs, with both values.
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
        alike = f"the keys that were sent are alike, and their hashes are {hashes}; expected one hash"
        raise DisagreementError("the public configurations differ: " + "; ".join(lines or [alike]))
    return reference, stated


def same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal. A whole number may be written as 1 or as 1.0; true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
