"""Frames, in which everything travels between two parties over TLS: a header of 128 bytes, then the payload.

The payload is a tensor's memory, little-endian, or text. The header holds magic bytes, kind, dtype, number of
dimensions, sequence number of its direction, size of the payload in bytes, shape, and the line of code that sent the
frame, so that two programs that diverge are reported with both lines. Nothing is ever unpickled. `pack` takes a
`Header` and returns its bytes, `unpack` does the reverse, and `stream` sends and receives the frames.

The layout is a format that two versions of this package share: a change of it needs a new magic.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import torch

from mpc_appraisal.common.text import shown

MAGIC = b"mpc1"
DIMENSIONS = 6
SITE_BYTES = 56  # the field for the line of code
HEADER = struct.Struct(f"<4sBBBxQQ{DIMENSIONS}Q{SITE_BYTES}s")
DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
PLUMBING = {
    "frames.py",
    "stream.py",
    "tls.py",
    "channel.py",
    "engine.py",
    "asked_engine.py",
}  # files that no call site names

_names: dict[str, str] = {}


class Kind(IntEnum):
    """What a frame contains."""

    MESSAGE = 1  # public JSON
    TENSOR = 2
    HEARTBEAT = 3
    ABORT = 4  # the sender stops, for the reason in the payload
    BYE = 5  # the sender leaves in good order


class FrameError(ValueError):
    """The error for bytes that are not a frame, or for a frame that is not the frame that must come next."""


class Header(NamedTuple):
    """A frame without its payload.

    Attributes:
        kind: What the frame contains.
        dtype, shape: The type and the shape of the tensor; other kinds leave the shape empty.
        sequence: The number of frames that were sent before it in the same direction.
        size: The size of the payload in bytes.
        site: The line of code that sent the frame.
    """

    kind: Kind
    dtype: torch.dtype
    shape: tuple[int, ...]
    sequence: int
    size: int
    site: str

    def describe(self) -> str:
        """Return the kind or shape of the frame, and the line of code that sent it, for error messages."""
        what = str(self.shape) if self.kind == Kind.TENSOR else f"a {self.kind.name.lower()}"
        kind = f" of {str(self.dtype).removeprefix('torch.')}" if self.kind == Kind.TENSOR else ""
        return f"{what}{kind} at {self.site}"


def pack(header: Header) -> bytes:
    """Return the header as 128 bytes."""
    sizes = (*header.shape, *[0] * (DIMENSIONS - len(header.shape)))
    return HEADER.pack(
        MAGIC,
        header.kind,
        DTYPES.index(header.dtype),
        len(header.shape),
        header.sequence,
        header.size,
        *sizes,
        header.site.encode("ascii", "replace")[:SITE_BYTES],
    )


def unpack(data: bytes | bytearray, expected_sequence: int) -> Header:
    """Return the header that the 128 bytes `data` hold.

    Raises FrameError: The bytes are no header, or its sequence number is not `expected_sequence`.
    """
    magic, kind, dtype, dimensions, sequence, size, *sizes, site = HEADER.unpack(data)
    if magic != MAGIC or kind not in list(Kind) or dtype >= len(DTYPES) or dimensions > DIMENSIONS:
        raise FrameError("sent bytes that are no message")
    if sequence != expected_sequence:
        raise FrameError(f"sent message {sequence}, expected {expected_sequence}: one was replayed or lost")
    where = shown(site.rstrip(b"\0").decode("ascii", "replace"), SITE_BYTES)
    header = Header(Kind(kind), DTYPES[dtype], tuple(sizes[:dimensions]), sequence, size, where)
    if header.kind == Kind.TENSOR and size != nbytes(header.shape, header.dtype):
        raise FrameError(f"sent {size} bytes for {header.describe()}")
    return header


def nbytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Return the size in bytes of a tensor of `shape` and `dtype`."""
    size = dtype.itemsize
    for n in shape:
        size *= n
    return size


def view_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor, without a copy."""
    return memoryview(tensor.reshape(-1).numpy()).cast("B") if tensor.numel() else memoryview(b"")


def call_site() -> str:
    """Return 'FILE:LINE' of the nearest caller whose file is not in PLUMBING (the transport and the engine)."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        name = _names.get(path) or _names.setdefault(path, Path(path).name)
        if name not in PLUMBING:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


if sys.byteorder != "little":
    raise ImportError(f"byte order: got {sys.byteorder}; expected little: messages travel as they lie in memory")
