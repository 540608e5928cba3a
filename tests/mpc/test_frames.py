"""Frames: a header comes back from its bytes, and bytes that are not the next frame are refused."""

from __future__ import annotations

import pytest
import torch

from mpc_appraisal.mpc.net.frames import FrameError, Header, Kind, call_site, pack, unpack


def header(**changes) -> Header:
    return Header(Kind.TENSOR, torch.int64, (3, 4), 7, 96, "softmax.py:120")._replace(**changes)


def test_a_header_comes_back():
    assert unpack(pack(header()), 7) == header() and len(pack(header())) == 128


@pytest.mark.parametrize("sequence", [6, 8])
def test_a_replayed_or_lost_message_is_refused(sequence):
    with pytest.raises(FrameError, match=f"sent message {sequence}, expected 7"):
        unpack(pack(header(sequence=sequence)), 7)


def test_what_is_no_header_is_refused():
    for bad in (b"GET / HTTP/1.1\r\n".ljust(128, b"x"), pack(header(size=97)), b"mpc1" + bytes(124)):
        with pytest.raises(FrameError):
            unpack(bad, 7)


def test_call_site():
    assert call_site().startswith("test_frames.py:")
