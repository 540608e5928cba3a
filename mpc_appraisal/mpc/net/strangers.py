"""What listens at an address where a party should: for the error of who waited for that party in vain."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from contextlib import suppress

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

LOOK_SECONDS = 0.6  # of which half are listened in silence
MOST_BYTES = 256
REQUEST = b"GET / HTTP/1.0\r\n\r\n"  # what line-based servers, HTTP servers and TLS servers all answer in their way


def who_answers(host: str, port: int, seconds: float = LOOK_SECONDS) -> str | None:
    """In a few words how the listener at `host`:`port` answers; None where nobody listens."""
    try:
        sock = socket.create_connection((host, port), seconds)
    except OSError:
        return None
    with sock:
        first, closed = _hear(sock, seconds / 2)
        if not first and not closed:
            with suppress(OSError):
                sock.sendall(REQUEST)
            first, closed = _hear(sock, seconds / 2)
    return "answers as a TLS server does" if not first and _shakes(host, port, seconds) else _words(first, closed)


def cannot_listen(key: str, where: str, host: str, port: int, error: Exception) -> InputError:
    """The error for a party that cannot listen at `where`, which `key` states: another process does, or else why."""
    text = str(error)
    if getattr(error, "errno", None) != errno.EADDRINUSE and "address already in use" not in text.lower():
        # torch's text is long and has the cause at its end
        said = re.search(r"message: (.+)", text) or re.search(r"(.+)", text)
        reason = getattr(error, "strerror", None) or (said[1] if said else "it did not answer in time")
        return InputError(key, where, f"an address of this machine to listen on ({shown(reason, 200)})")
    answers = who_answers(host, port)
    found = f"{where}, where another process listens already" + (f" and {answers}" if answers else "")
    others = ", at every party alike" if key != "session.data_owner_address" else ""
    return InputError(key, found, f"a port that is free on this machine: end that process, or change {key}{others}")


def _shakes(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS server listens there, whoever it is; some hang up on plain text without a word."""
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


def _hear(sock: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """What comes within so long, and whether the other side then closed."""
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


def _words(heard: bytes, closed: bool) -> str:
    if not heard:
        return "closes the connection without a word" if closed else "says nothing"
    line = heard.split(b"\n")[0].rstrip(b"\r")
    if heard.startswith(b"HTTP/"):
        return f"answers with {shown(repr(line[:60].decode('latin-1')))}: an HTTP server"
    if heard[:1] in (b"\x15", b"\x16") and heard[1:2] == b"\x03":
        return "answers as a TLS server does"
    if all(32 <= byte < 127 or byte == 9 for byte in line):
        return f"answers with {shown(repr(line[:60].decode('ascii')))}"
    return f"answers with the bytes {heard[:16].hex()}"
