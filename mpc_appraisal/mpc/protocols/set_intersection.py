"""The number of items that two sets have in common, by Diffie-Hellman private set intersection of OpenMined's library.

One owner serves its set and the other owner counts. With secret exponents a (who counts) and b (who serves) and a hash
H of texts to points of the curve P-256, the messages are

    who counts -> who serves:   a H(y) for each of its items y
    who serves -> who counts:   b H(x) for each of its items x, and b a H(y), both sorted

and who counts removes a from the last list and counts the points that the two lists share. Because the lists are
sorted, it learns how many of its items are shared and not which. Both owners learn how many items the other one has.
The protocol is that of Meadows (1986) and of Huberman, Franklin and Hogg (1999), and its number is exact. It is secure
against owners that follow it. An owner that does not follow it can bring items of its choice, and an owner that serves
can make the number wrong.

In go the items of one owner, each a different text, and how many items the other owner has announced. Out comes the
number at the owner that counts. The library counts copies under some data structures and not under others, so that
copies have to be removed before; `check_items` refuses them. The size of a piece of work may change. The structure has
to stay `RAW`: under the others the number can be too large, and the stated number of items decides how often.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.mpc.net.messages import Messages

STRUCTURE = "raw"
PIECE = 4096  # items that one call of the library works on; a lost party is noticed between two calls
FRAME_BYTES = 64  # a point takes 35 bytes of the library's message, and the rest of the message a few
IGNORED = 0.5  # the library asks for a rate of false matches, which the structure RAW does not have
EXTRA = "pip install 'mpc_appraisal[overlap]', which has wheels up to Python 3.13"


def library() -> ModuleType:
    """Import and return openmined-psi. Raises InputError, which says how to install it, where it is not there."""
    try:
        return import_module("private_set_intersection.python")
    except ImportError as error:
        raise InputError("openmined-psi", f"no package that can be imported ({error})", EXTRA) from None


def check_items(items: Sequence[str]) -> None:
    """Raise InputError for an empty list and for an item that stands there twice."""
    if not items:
        raise InputError("the items to compare", "none", "one or more")
    if len(set(items)) < len(items):
        raise InputError("the items to compare", f"{len(items) - len(set(items))} copies", "different items")


def count(messages: Messages, peer: str, items: Sequence[str], announced: int) -> int:
    """Return how many of `items` the role `peer`, which calls `serve`, has too.

    Args:
        messages: this owner's messages.
        peer: the role of the other owner.
        items: this owner's items, all different.
        announced: the number of items that the other owner has announced.

    Raises:
        InputError: The items are none, or not all different, or the library is not installed.
        PeerError: The other owner sent something else than `announced` different points.
    """
    check_items(items)
    psi = library()
    client = psi.client.CreateWithNewKey(False)
    request = psi.Request(reveal_intersection=False)
    for piece in _pieces(items):
        request.encrypted_elements.extend(client.CreateRequest(piece).encrypted_elements)
    _send(messages, peer, request)
    setup = _receive(messages, peer, psi.ServerSetup, announced)
    _check_points(setup.raw.encrypted_elements, announced, peer)
    response = _receive(messages, peer, psi.Response, len(items))
    _check_points(response.encrypted_elements, len(items), peer)
    with _Points(peer):
        pieces = _pieces(response.encrypted_elements)
        return sum(client.GetIntersectionSize(setup, psi.Response(encrypted_elements=piece)) for piece in pieces)


def serve(messages: Messages, peer: str, items: Sequence[str], announced: int) -> None:
    """Let the role `peer`, which calls `count`, count how many items both owners have.

    The arguments and the errors are those of `count`. Nothing is returned, because who serves learns nothing.
    """
    check_items(items)
    psi = library()
    server = psi.server.CreateWithNewKey(False)
    setup = psi.ServerSetup()
    setup.raw.SetInParent()
    for piece in _pieces(items):
        part = server.CreateSetupMessage(IGNORED, announced, piece, psi.DataStructure.RAW)
        setup.raw.encrypted_elements.extend(part.raw.encrypted_elements)
    setup.raw.encrypted_elements.sort()  # the library's search needs sorted points, and each piece alone is sorted
    request = _receive(messages, peer, psi.Request, announced)
    _check_points(request.encrypted_elements, announced, peer)
    response = psi.Response()
    with _Points(peer):
        for piece in _pieces(request.encrypted_elements):
            part = server.ProcessRequest(psi.Request(reveal_intersection=False, encrypted_elements=piece))
            response.encrypted_elements.extend(part.encrypted_elements)
    response.encrypted_elements.sort()  # so that who counts cannot tell which of its items are shared
    _send(messages, peer, setup)
    _send(messages, peer, response)


class _Points:
    """A context that turns the library's error for a point that is not on the curve into a PeerError."""

    def __init__(self, peer: str):
        self._peer = peer

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, (RuntimeError, ValueError)):
            raise PeerError(f"{self._peer} sent points that are not on the curve") from error


def _pieces(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), PIECE):
        yield items[start : start + PIECE]


def _check_points(points: Sequence[bytes], announced: int, peer: str) -> None:
    if len(points) != announced or len(set(points)) != announced:
        found = f"{len(points)} points, of which {len(set(points))} are different"
        raise PeerError(f"{peer} sent {found}; expected {announced} different points, as announced")


def _send(messages: Messages, peer: str, message: Any) -> None:
    """Send a message of the library as its length and its bytes."""
    text = message.SerializeToString()
    messages.send(peer, torch.tensor([len(text)]))
    messages.send(peer, torch.frombuffer(bytearray(text), dtype=torch.uint8))


def _receive(messages: Messages, peer: str, kind: Any, points: int) -> Any:
    """Return the next message, of the type `kind` of the library.

    points: the number of points that the message may have. Raises PeerError for a longer one and for other bytes.
    """
    (size,) = messages.receive(peer, (1,), torch.int64).tolist()
    most = (points + 1) * FRAME_BYTES
    if not 0 < size <= most:
        raise PeerError(f"{peer} sent a message of {size} bytes; expected 1 to {most} for {points} points")
    data = bytes(messages.receive(peer, (size,), torch.uint8).numpy())
    try:
        return kind.FromString(data)
    except Exception as error:  # the error of protobuf has another class in each of its versions
        raise PeerError(f"{peer} sent bytes that are no {kind.DESCRIPTOR.name} of openmined-psi") from error
