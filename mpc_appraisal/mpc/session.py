"""A session is one party's end of a joint computation: private values enter it, and only what is opened leaves it.

The owners (the model owner and the data owner) bring values in by `Session.input`. Inside, a value is a secret: it is
shared between the owners, and neither knows it. `Session.reveal` opens a secret, that is, it shows the value to the
roles that it names. It is the only way out, and it enters each opening into a list, the session's ledger.

The values in between are torch tensors (`PlainSession`, which hides nothing and is the plaintext baseline), CrypTen's
secret tensors (`backends.stock`) or the engine's (`backends.fast`). All of them have one set of operations (see `ops`),
so that a method writes its formula once. `agree` compares the parties' public configurations before anything is shared.

A new operation may be added, with a default here that refuses or does nothing, and a version in each engine that has
it. Two things have to stay: nothing is opened except through `reveal`, and `reveal` refuses what was not permitted.
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
from mpc_appraisal.mpc.differences import repr_differences
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.grid import Grid
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS, check_functions
from mpc_appraisal.mpc.protocols.logit_bound import WeightLimit
from mpc_appraisal.mpc.ring.fixed_point import check_range

Read = Callable[[], torch.Tensor]
PLAIN_BITS = 36  # fractional bits of noise in a plain session, which has no fixed point


@dataclass(frozen=True)
class Opening:
    """One entry of the ledger of a session, which lists what was opened.

    Attributes:
        what: The name of what was opened.
        to: The roles that learnt it.
        numbers: The count of numbers that it consists of.
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
    """One party's view of a joint computation. Every party makes the same calls in the same order.

    Attributes:
        role: The role of this party, or 'everybody' in a plain session.
        engine: The name of the engine.
        dry: True if the session runs on shapes alone, to count costs; such a session opens zeros.
        blind: True if the session may open zeros in place of what was opened, as a dry one does.
        meter: The counter of this party's seconds, bytes and rounds.
        ledger: The list of everything that was opened.
    """

    role: str
    engine: str
    dry: ClassVar[bool] = False
    blind: ClassVar[bool] = False

    def __init__(self) -> None:
        self.meter = Meter()
        self.ledger: list[Opening] = []
        self._permitted: Counter[tuple[str, tuple[str, ...], int]] | None = None  # None permits everything

    @abstractmethod
    def input(self, owner: str, read: Read, shape: Sequence[int], name: str, grid: Grid | None = None) -> Any:
        """Bring in a value that one owner knows, and return the tensor that stands for it in this session.

        Args:
            owner: The role that knows the value.
            read: A function that returns the value, a real tensor of `shape`, called in the owner's process alone.
            shape: The shape of the value, which is public.
            name: The owner's name for the value, for its error messages.
            grid: How a matrix of small integers is shared, where `read` returns integers k that stand for
                k / 2^grid.fraction; None for any other value.

        Raises:
            InputError: In the owner's process, if the value has the wrong shape, is NaN or infinite, or is beyond the
                fixed-point range.
            OwnerError: `owner` is not one of the two owners.
        """

    def adopt(self, shares: Mapping[str, Read], shape: Sequence[int], bits: int, name: str) -> Any:
        """Bring in a value that is already shared additively modulo 2^64, and return its tensor. No message is sent.

        Args:
            shares: For each owner, a function that returns the owner's share, int64 of `shape`. The function is called
                in that owner's process alone.
            shape: The shape of the value, which is public.
            bits: The number of fractional bits of the value; a ring element stands for itself divided by 2^bits.
            name: The name of the value, for error messages.

        Raises InputError: A share has the wrong shape or type, or the engine has no such shares.
        """
        raise InputError("session.engine", self.engine, f"fast, or a plain session, for {name}: shares modulo 2^64")

    @abstractmethod
    def _open(self, secret: Any, to: tuple[str, ...]) -> torch.Tensor | None: ...

    def reveal(self, secret: Any, what: str, why: str, to: Sequence[str] = OWNERS) -> torch.Tensor | None:
        """Open `secret` to the roles in `to`, and add an entry with `what` and `why` to the ledger.

        For an opening to both owners, each owner commits to its share before either share is sent, so that no owner can
        choose the result by sending last; `protocols.committed_opening` says what a cheating owner can still do. In an
        opening to one owner, the other owner can shift the result by an amount of its choice. Where messages are
        checked (session.integrity=on), an owner that alters any of them is found first, and nothing is opened.

        Returns float64 of the shape of `secret` at the roles in `to`, and None elsewhere.

        Raises:
            OwnerError: `to` contains other roles than the owners, or the opening is not permitted.
            PeerError: The other owner opened another share than it had committed to. Nothing is released.
            IntegrityError: Messages are checked, and a party's message is not the one that the protocol prescribes.
                Nothing is opened.
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
        """From now on permit these openings alone, each as often as `openings` lists it; `reveal` refuses all others.

        An opening counts as permitted if its `what`, `to` and `numbers` are those of an entry.
        """
        self._permitted = Counter((o.what, o.to, o.numbers) for o in openings)

    def perturb(self, secret: Any, draw: Callable[[int], int]) -> Any:
        """Return `secret`, a single number, plus noise that each owner draws for itself and sends to nobody.

        Args:
            draw: A function that returns one owner's noise, an integer below 2^63 in units of the last fractional bit.
                It is called in each owner's process with the number of fractional bits.

        Raises InputError: The engine adds no noise.
        """
        raise InputError("session.engine", self.engine, "fast, or a plain session: noise is added in them alone")

    def rounded(self, secret: Any, bits: int) -> Any:
        """Return `secret` rounded to at most `bits` fractional bits, on shares, before it is opened.

        The result is one of the two neighbouring numbers; the nearer neighbour has the greater probability. Rounding
        takes one round. Engines without an exact truncation, and plain sessions, return `secret` unchanged.
        """
        return secret

    def settled(self, values: Iterable[Any]) -> Iterable[Any]:
        """Return shared values in their order, such that they may be used after something else has been opened.

        A session that checks all messages before an opening can follow after it only what both owners have committed
        to. It computes all `values`, which may be a generator, and lets the owners commit to them. Other sessions
        return `values` as they are, so that a generator goes on computing value by value.
        """
        return values

    def drop_settled(self) -> None:
        """Say that what `settled` has returned so far is not used any more."""

    def applied(self, secret: Any, names: Sequence[str]) -> list[Any]:
        """Return several functions of one value, in one exchange with the helper.

        The helper is the dealer of the engine rtas, which computes functions on values in a random order.

        Args:
            names: Keys of `FUNCTIONS`.

        Raises InputError: A function is unknown, or the engine has no helper.
        """
        raise InputError("session.engine", self.engine, f"rtas, or a plain session, for {', '.join(names)} at a helper")

    def apply(self, secret: Any, name: str) -> Any:
        """Return the function `name` of a value, as `applied` does for several functions."""
        return self.applied(secret, (name,))[0]

    def require_exact_truncation(self) -> None:
        """From now on use truncations that cannot fail, except for the mean of a row's logits in a log-softmax.

        Engines without such truncations, and plain sessions, do nothing.
        """

    def prepare(self, program: Callable[[Session], Any], script: Any = None) -> None:
        """Announce the program before it runs, so that the engine can plan from tensor shapes.

        Args:
            program: The function that will be called with this session. Every party announces the same program.
            script: The requests to the dealer that a dry run of the program has made; with None this call makes the
                dry run.
        """

    def bound_logits(self, bound: float, weights: WeightLimit | None = None, spread: float | None = None) -> None:
        """State the public bound on the absolute value of logits, for the following computations.

        Logits are the products of rows with weights, from which a softmax is taken. The softmax of the engine fast is
        right only within this bound; other engines ignore it.

        Args:
            bound: The bound on logits that are centred within their row.
            weights: The limit that `check_logits` compares the weights with, for a method that trains.
            spread: The largest difference of two logits of a row, where the softmax is one without a bound. Then
                recorded weights are not checked.
        """

    def check_logits(self) -> None:
        """Check, before a result is opened, that all recorded weights kept the bound; open one bit to both owners.

        `ops.record_weights` records weights. Nothing is checked if the engine's softmax needs no bound or the method
        does not train.

        Raises:
            BoundError: At both owners, if the weights have left the bound.
            AppraisalError: The method trains and has recorded no weights.
        """

    def within_bound(self) -> Any | None:
        """Return what `check_logits` opens, as a secret bit (1,), or None if nothing needs the bound."""
        return None

    def cache(self, value: Any) -> None:
        """Send what all later uses of the input `value` need, so that the cost arises here and not at its first use."""

    def evict(self, *values: Any) -> None:
        """Release what the session and the dealer keep for these inputs; using them again sends everything again."""

    def mark(self) -> None:
        """Let the dealer record the bytes that it has sent so far."""

    def close(self, orderly: bool = True) -> None:
        """End the session. `orderly` is false after a failure, when messages can no longer be exchanged."""

    @property
    def failure(self) -> float | None:
        """Return a bound on the probability that fixed point has failed so far, or None if the engine has no bound."""
        return None

    @staticmethod
    def _read(owner: str, read: Read, shape: Sequence[int], name: str) -> torch.Tensor:
        values = read()
        if tuple(values.shape) != tuple(shape):
            raise InputError(name, f"shape {tuple(values.shape)}", f"shape {tuple(shape)}, as {owner} announced")
        return values

    @staticmethod
    def _real(owner: str, read: Read, shape: Sequence[int], name: str, grid: Grid | None) -> torch.Tensor:
        values = Session._read(owner, read, shape, name)
        return values if grid is None else values.to(torch.float64) / 2.0**grid.fraction

    @staticmethod
    def _share(owner: str, shares: Mapping[str, Read], shape: Sequence[int], name: str) -> torch.Tensor:
        share = Session._read(owner, shares[owner], shape, name)
        if share.dtype != torch.int64:
            raise InputError(name, share.dtype, "a share in torch.int64")
        return share


class PlainSession(Session):
    """The plaintext baseline: all parties are in one process, nothing is hidden, and numbers are float64."""

    role, engine = "everybody", "plaintext"

    def input(self, owner, read, shape, name, grid=None):
        check_owner(owner, name)
        values = self._real(owner, read, shape, name, grid)
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
        rendezvous: The connection to the other parties.
        public: This party's public configuration. All parties must state the same keys with the same JSON values.
        digest: The hash of `public`.
        digest_of: A function that computes the hash of a configuration. With None, configurations whose hashes differ
            are refused.

    Returns the configuration and its hash, which are now the same at all parties.

    Raises:
        DisagreementError: The configurations differ. It names each key that differs, with both values, and each setting
            on a line of its own where the values are texts of methods.
    """
    messages = rendezvous.exchange("config", {"digest": digest, "public": public})
    if len({message["digest"] for message in messages.values()}) == 1:
        return public, digest
    reference = messages[MODEL_OWNER]["public"]
    lines, taken_apart = [], False
    for role in (r for r in messages if r != MODEL_OWNER):
        theirs = messages[role]["public"]
        for key in sorted(reference.keys() | theirs.keys()):
            ours, other = reference.get(key, "(absent)"), theirs.get(key, "(absent)")
            if not same(ours, other):
                parts = repr_differences(shown(key, 200), ours, other)
                taken_apart = taken_apart or parts is not None
                for name, a, b in parts or [(shown(key, 200), shown(repr(ours)), shown(repr(other)))]:
                    lines.append(f"{name}: {a} at {MODEL_OWNER}, {b} at {role}")
    stated = messages[MODEL_OWNER]["digest"]
    if lines or digest_of is None or digest_of(reference) != stated:
        hashes = ", ".join(f"{shown(str(message['digest']), 40)} at {role}" for role, message in messages.items())
        alike = f"the keys that were sent are alike, and their hashes are {hashes}; expected one hash"
        before, between = ("\n  ", "\n  ") if taken_apart else (" ", "; ")
        raise DisagreementError(f"the public configurations differ:{before}{between.join(lines or [alike])}")
    return reference, stated


def same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal; 1 and 1.0 are equal, and true and 1 are not."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
