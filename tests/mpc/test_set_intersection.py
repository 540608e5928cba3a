"""The count of shared items is that of brute force; whoever sends something else is named."""

from __future__ import annotations

import queue
import threading

import pytest
import torch

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc.protocols import set_intersection
from mpc_appraisal.mpc.protocols.set_intersection import check_items, count, library, serve

pytest.importorskip("private_set_intersection", reason="openmined-psi has no wheels for some versions of Python")


class Pipe:
    """Messages between two threads. `change` may replace the bytes of a message on the way, by its place."""

    def __init__(self, out, into, change=None):
        self.out, self.into, self.change, self.sent = out, into, change or {}, 0

    def send(self, to, values):
        self.out.put(self.change.get(self.sent, lambda tensor: tensor)(values))
        self.sent += 1

    def receive(self, source, shape, dtype):
        found = self.into.get(timeout=600)
        assert tuple(found.shape) == tuple(shape) and found.dtype == dtype
        return found


def counted(counting, serving, announced=None, changed=None):
    """Run both sides; returns the count, or raises the first error of the side that counts, then of the other."""
    out, into, errors = queue.Queue(), queue.Queue(), []

    def other():
        try:
            serve(Pipe(into, out, changed), DATA_OWNER, serving, len(counting))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    try:
        return count(Pipe(out, into), MODEL_OWNER, counting, len(serving) if announced is None else announced)
    finally:
        thread.join(600)
        assert not errors, errors


def items(*numbers):
    return [f"item {number}" for number in numbers]


@pytest.mark.parametrize("piece", [2, 4096])
@pytest.mark.parametrize(
    ("counting", "serving"),
    [(range(7), range(3, 12)), (range(5), range(5, 9)), (range(6), range(6)), ([3], range(9)), (range(9), [4])],
)
def test_the_count_is_that_of_brute_force(monkeypatch, piece, counting, serving):
    monkeypatch.setattr(set_intersection, "PIECE", piece)
    expected = sum(a == b for a in counting for b in serving)
    assert counted(items(*counting), items(*serving)) == expected


def test_the_answer_does_not_follow_the_order_of_the_question():
    """The points that come back are sorted over all pieces, so that who counts cannot tell which items are shared."""
    psi, seen = library(), {}

    def keep(tensor):
        seen["response"] = psi.Response.FromString(bytes(tensor.numpy()))
        return tensor

    assert counted(items(*range(50)), items(*range(25, 90)), changed={3: keep}) == 25
    points = list(seen["response"].encrypted_elements)
    assert points == sorted(points) and len(set(points)) == 50


def test_copies_and_empty_lists_are_refused():
    for bad, found in (([], "none"), (["a", "b", "a"], "1 copies")):
        with pytest.raises(InputError, match=found):
            check_items(bad)


def test_another_number_of_points_than_announced_is_refused():
    with pytest.raises(PeerError, match="model_owner sent 4 points, of which 4 are different; expected 5"):
        counted(items(1, 2), items(1, 2, 3, 4), announced=5)
    with pytest.raises(PeerError, match="expected 1 to 128 for 1 points"):
        counted(items(1, 2), items(*range(40)), announced=1)


def test_repeated_points_are_refused():
    psi = library()

    def repeat(tensor):
        message = psi.Response.FromString(bytes(tensor.numpy()))
        message.encrypted_elements[1] = message.encrypted_elements[0]
        return torch.frombuffer(bytearray(message.SerializeToString()), dtype=torch.uint8)

    with pytest.raises(PeerError, match="sent 2 points, of which 1 are different"):
        counted(items(1, 2), items(1, 3), changed={3: repeat})


@pytest.mark.parametrize("place", [1, 3])
def test_bytes_that_are_no_message_are_refused(place):
    with pytest.raises(PeerError, match="model_owner sent"):
        counted(items(1, 2), items(1, 3), changed={place: lambda tensor: torch.full_like(tensor, 255)})


def test_points_that_are_not_on_the_curve_are_refused():
    psi = library()

    def bend(tensor):
        message = psi.Response.FromString(bytes(tensor.numpy()))
        message.encrypted_elements[0] = b"\x02" + b"\xff" * 32
        return torch.frombuffer(bytearray(message.SerializeToString()), dtype=torch.uint8)

    with pytest.raises(PeerError, match="points that are not on the curve"):
        counted(items(1, 2), items(1, 3), changed={3: bend})


def test_a_missing_library_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(set_intersection, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'mpc_appraisal\[overlap\]'"):
        library()
