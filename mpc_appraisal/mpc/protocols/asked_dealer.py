"""The dealer that is asked while the program runs: it answers requests of both owners as they come.

A program whose shapes depend on opened values has no script that a dry run could give (see `orders`). Its owners ask
for correlated randomness when they need it. In go the requests of `dealer`, from both owners; out come the dealer's
results, as for a script. Both owners send every message below, and the dealer answers only what both have asked alike.

| bytes | one message of an owner to the dealer |
|---|---|
| 4 | the length of the text, which is the JSON of a list of requests; 0 ends the session |
| 4 | `ahead`: how many of the requests before these the owner has not used yet, or has thrown away |
| 24 | the owner's places in its streams mask, triple and share, in bytes, where the first of these `ahead` begins |
| 160 | the text, or its first 160 bytes; the rest follows in a message of its own |

The owners may ask ahead of the program, where they see that its requests repeat (see `repetition`). The dealer knows
nothing of this. An owner that does not need what it asked for leaves it out of its streams. The dealer compares the
owners' places with its own for every message, so that owners and dealer never read a stream at different places: a mask
is used once or not at all.

The dealer measures the requests from shapes alone before it computes anything, and applies its limits to all requests
of the session together. Requests are shapes and public numbers. Unlike with a script, the dealer sees when each request
is made. The form of the messages has to stay the same at all parties.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from mpc_appraisal.common.errors import DISAGREEMENT, AppraisalError, DisagreementError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.dealer import Dealer, Request, parse
from mpc_appraisal.mpc.protocols.orders import ScriptMeasure, bytes_of, tensor_of
from mpc_appraisal.mpc.protocols.script_limits import Limits

HEADER = struct.Struct("<IIQQQ")
BLOCK_BYTES = 192  # of a message; most requests fit into one
MOST_AHEAD = 4096  # Owners are ahead of their program by at most so many requests.
DROPS = frozenset({"forget", "free"})  # requests that draw and share nothing, and are made when a mask is not needed

Places = tuple[int, int, int]  # in the streams mask, triple and share


class Asked(NamedTuple):
    """One message of an owner to the dealer; see the table above."""

    text: bytes
    ahead: int
    places: Places


def send_asked(channel: Channel, asked: Asked) -> None:
    """Send the dealer one message; each owner calls this."""
    text = asked.text
    first = HEADER.pack(len(text), asked.ahead, *asked.places) + text[: BLOCK_BYTES - HEADER.size]
    channel.send(tensor_of(first.ljust(BLOCK_BYTES, b"\0")), 2)
    if rest := text[BLOCK_BYTES - HEADER.size :]:
        channel.send(tensor_of(rest), 2)


def receive_asked(channel: Channel, rank: int, longest: int) -> Asked:
    """Return the next message of the owner of the given rank. Raises AppraisalError if its text is too long."""
    block = bytes_of(channel.receive((BLOCK_BYTES,), rank, torch.uint8))
    length, ahead, *places = HEADER.unpack(block[: HEADER.size])
    if length > longest or ahead > MOST_AHEAD:
        raise AppraisalError(
            f"dealer: refused requests of {OWNERS[rank]} of {length} bytes, {ahead} ahead; expected at most "
            f"{longest} and {MOST_AHEAD}"
        )
    text = block[HEADER.size : HEADER.size + length]
    if length > len(text):
        text += bytes_of(channel.receive((length - len(text),), rank, torch.uint8))
    return Asked(text, ahead, tuple(places))


def answer_requests(channel: Channel, dealer: Dealer, limits: Limits, mark: Callable[[], None]) -> None:
    """Answer both owners' requests until both end the session; the dealer calls this.

    Args:
        channel: connects the dealer with both owners.
        dealer: answers each request.
        limits: the most that all requests together may ask for.
        mark: a function that is called at each request of that name.

    Raises:
        DisagreementError: the owners have made different requests, or requests beyond the limits. Nothing has been
            dealt for them.
        AppraisalError: what an owner has sent is no list of requests, or a request cannot be answered.
    """
    measure = ScriptMeasure()
    log = deque([dealer.places()], maxlen=MOST_AHEAD + 1)  # the places before each request, and the present ones
    while True:
        both = [receive_asked(channel, rank, limits.text) for rank in range(len(OWNERS))]
        _compare(both)
        _check_places(both, log)
        if not both[0].text:
            return
        script = parse(both[0].text.decode("utf-8", "replace"))
        for request in script:
            limits.check(measure.add(request))
        for request in script:
            dealer.run([request], mark)
            if request[0] not in DROPS:
                log.append(dealer.places())


def _compare(both: Sequence[Asked]) -> None:
    """Raise DisagreementError, which names the first request that differs, unless both owners ask for the same."""
    one, other = both
    if one.text == other.text and one.ahead == other.ahead:
        return
    named = _first_difference(one.text, other.text)
    listed = " and ".join(f"{request} of {role}" for request, role in zip(named, OWNERS, strict=True))
    raise DisagreementError(
        f"{DISAGREEMENT}dealer: refused {listed}; expected the same request of both owners, which run the same "
        "program with the same version of this package. Nothing was dealt for it"
    )


def _first_difference(*texts: bytes) -> list[str]:
    """Return in words the first requests of two texts that differ."""
    try:
        scripts: list[list[Request]] = [json.loads(text) if text else [] for text in texts]
        k = 0
        while k < min(map(len, scripts)) and scripts[0][k] == scripts[1][k]:
            k += 1
        return [f"the request {json.dumps(s[k])[:160]}" if k < len(s) else "no further request" for s in scripts]
    except (ValueError, TypeError, RecursionError):  # One of them is no list.
        return [f"the text {text[:80]!r}" for text in texts]


def _check_places(both: Sequence[Asked], log: Sequence[Sequence[Places]]) -> None:
    """Raise AppraisalError unless both owners are at the dealer's places in their streams."""
    ahead = both[0].ahead
    if ahead >= len(log):
        raise AppraisalError(f"dealer: refused {ahead} requests ahead; expected at most {len(log) - 1}")
    for role, asked, places in zip(OWNERS, both, log[-1 - ahead], strict=True):
        if asked.places != places:
            raise AppraisalError(
                f"dealer: refused requests of {role} at places {asked.places} of its streams; expected {places}. What "
                "a request draws has to be drawn before the next request is made"
            )
