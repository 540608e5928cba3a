"""Finds out what listens at an address where a party should, for error messages.

`who_answers` takes a host and a port and describes the listener in a few words. `cannot_listen` makes the error of a
party whose own address is in use, or cannot be listened on for another reason. The words may change, as far as tests do
not pin them. What a listener sends is printed as one short, escaped line, and that has to stay: the listener may be
anybody.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from contextlib import suppress

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

LOOK_SECONDS = 0.6  # half of this time is for a listener that sends something first
MOST_BYTES = 256  # so many bytes of an answer are read
REQUEST = b"GET / HTTP/1.0\r\n\r\n"  # line-based, HTTP and TLS servers all answer it in their way


def who_answers(host: str, port: int, seconds: float = LOOK_SECONDS) -> str | None:
    """Return in a few words how the listener at `host` and `port` answers, or None if nobody listens there.

    `seconds` is the time for each of the two connections that this may make.
    """
    try:
        sock = socket.create_connection((host, port), seconds)
    except OSError:
        return None
    with sock:
        first, closed = _receive(sock, seconds / 2)
        if not first and not closed:
            with suppress(OSError):
                sock.sendall(REQUEST)
            first, closed = _receive(sock, seconds / 2)
    if not first and _speaks_tls(host, port, seconds):
        return "answers as a TLS server does"
    return _describe(first, closed)


def cannot_listen(key: str, where: str, host: str, port: int, error: Exception) -> InputError:
    """Return the error of a party that cannot listen at an address.

    Args:
        key: The configuration key, or the words, by which the user states the address.
        where: The address as the user wrote it.
        host, port: The parts of the address.
        error: What the attempt to listen has raised.
    """
    text = str(error)
    if getattr(error, "errno", None) != errno.EADDRINUSE and "address already in use" not in text.lower():
        # torch's text is long and ends with the cause
        cause = re.search(r"message: (.+)", text) or re.search(r"(.+)", text)
        reason = getattr(error, "strerror", None) or (cause[1] if cause else "it did not answer in time")
        return InputError(key, where, f"an address of this machine to listen on ({shown(reason, 200)})")
    answers = who_answers(host, port)
    found = f"{where}, where another process listens already" + (f" and {answers}" if answers else "")
    others = ", at every party alike" if key != "session.data_owner_address" else ""
    return InputError(key, found, f"a port that is free on this machine: end that process, or change {key}{others}")


def _speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Return whether a TLS server listens there. Some servers answer plain text only by closing the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as raw:
            raw.settimeout(seconds / 2)
            with context.wrap_socket(raw):
                return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except (OSError, ValueError):
        return False


def _receive(sock: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """Return the bytes that come within `seconds`, and whether the other side has closed the connection."""
    found, until = b"", time.monotonic() + seconds
    while len(found) < MOST_BYTES and (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data = sock.recv(MOST_BYTES - len(found))
        except TimeoutError:
            break
        except OSError:
            return found, True
        if not data:
            return found, True
        found += data
        if b"\n" in found:
            break
    return found, False


def _describe(answer: bytes, closed: bool) -> str:
    """Return in a few words what a listener has sent."""
    if not answer:
        return "closes the connection without a word" if closed else "says nothing"
    line = answer.split(b"\n")[0].rstrip(b"\r")
    if answer.startswith(b"HTTP/"):
        return f"answers with {shown(repr(line[:60].decode('latin-1')))}: an HTTP server"
    if answer[:1] in (b"\x15", b"\x16") and answer[1:2] == b"\x03":
        return "answers as a TLS server does"
    if all(32 <= byte < 127 or byte == 9 for byte in line):
        return f"answers with {shown(repr(line[:60].decode('ascii')))}"
    return f"answers with the bytes {answer[:16].hex()}"
