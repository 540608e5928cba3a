"""How the parties of a CrypTen program find each other, as the environment of each process states it.

CrypTen's own variables go in: RANK, WORLD_SIZE and RENDEZVOUS. Rank 0 is the model owner, rank 1 the data owner, and
the rank after them the dealer. Out comes a `Meeting`, and `Meeting.connect` makes the connection to the others.

| variable | meaning |
|---|---|
| RANK, WORLD_SIZE | the party of this process, from 0 on, and how many owners there are: 1 or 2 |
| RENDEZVOUS | `tcp://HOST:PORT`, where rank 0 listens, `file:///PATH` on one machine, or `env://` with MASTER_ADDR |
| MPC_APPRAISAL_TLS | this party's folder of certificates; the connection is then mutual TLS |
| MPC_APPRAISAL_RELAY | HOST:PORT or HOST:PORT/NAME of a relay that all parties dial, in place of RENDEZVOUS |
| MPC_APPRAISAL_DATA_OWNER_ADDRESS | `tcp://HOST:PORT` at which the dealer reaches rank 1 over TLS |
| MPC_APPRAISAL_IN_THE_CLEAR | `yes` allows another machine without TLS |
| MPC_APPRAISAL_JOIN_TIMEOUT | the seconds for which a party waits for the others to come |
| MPC_APPRAISAL_TIMEOUT | the seconds that one message may take |
| MPC_APPRAISAL_FREEZE_TIMEOUT | the seconds without a sign of life after which a party counts as lost |
| MPC_APPRAISAL_DEALER | `here`: rank 0 starts the dealer; `apart`: somebody else does |

A variable may be added with a line in the table. No address of another machine may be used in the clear unless the
user states it, and a dealer that rank 0 starts has to stay a process that has never held rank 0's data.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch.distributed as dist

from mpc_appraisal.common.environment import whole
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import MODEL_OWNER, OWNERS, ROLES
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS
from mpc_appraisal.mpc.net.lifecycle import Link
from mpc_appraisal.mpc.net.rendezvous import CALL_SECONDS, parse_address
from mpc_appraisal.mpc.net.transport import Transport, check_clear, check_seconds

PREFIX = "MPC_APPRAISAL_"
JOIN_SECONDS = 120.0
MESSAGE_SECONDS = 1800.0  # torch's own limit, since a program may compute for long between two messages
POLL_SECONDS = 0.02
LONGEST_ADDRESS = 256
HERE, APART = "here", "apart"
RANKS = "model_owner is rank 0, data_owner is rank 1, and the dealer is rank 2"
CLAIMED = "two parties claim the role"
# What errors of `net` name, and the variable that states it here.
VARIABLES = {"session.rendezvous": "RENDEZVOUS"}
VARIABLES |= {f"session.{key}": f"{PREFIX}{key.upper()}" for key in ("tls", "relay", "data_owner_address")}
VARIABLES |= {f"session.{key}": f"{PREFIX}{key.upper()}" for key in ("join_timeout", "timeout", "freeze_timeout")}

_left: dict[str, dist.TCPStore | None] = {}  # the addresses at which this process has been in a session before


@contextmanager
def own_names():
    """Let errors name the environment's variables in place of the configuration's keys."""
    try:
        yield
    except InputError as error:
        if error.name not in VARIABLES:
            raise
        raise InputError(f"the environment's {VARIABLES[error.name]}", error.value, error.expected) from None


@dataclass(frozen=True)
class Meeting:
    """Where and how a party meets the others.

    Attributes:
        rank: The rank of this process; the number of owners is the dealer's.
        owners: 1 or 2.
        address: 'tcp://host:port'. None stands for the variables of `env://`, or a file, or a relay.
        file: The file in which rank 0 writes its address, or None.
        transport: How the parties are connected.
        join_timeout, timeout: Seconds for the others to come, and for one message.
        dealer: HERE, APART, or None where the program's provider decides.
    """

    rank: int
    owners: int
    address: str | None
    file: Path | None
    transport: Transport
    join_timeout: float
    timeout: float
    dealer: str | None

    @classmethod
    def of_environment(cls) -> Meeting:
        """Read the environment. Raises InputError, which names the variable, for a value that cannot be."""
        owners = whole("WORLD_SIZE", 1, 1, 10**6)
        if owners > len(OWNERS):
            expected = "1 or 2: the protocols are those of two owners and a dealer"
            raise InputError("the environment's WORLD_SIZE", owners, expected)
        rank = whole("RANK", 0, 0, owners)
        with own_names():
            found = {key: _seconds(key, value) for key, value in SECONDS.items()}
            check_seconds(**found)
            tls, relay = _text("TLS"), _text("RELAY")
            freeze = found.pop("freeze_timeout")
            kind, own = "tcp" if tls is None else "tls", _text("DATA_OWNER_ADDRESS")
            transport = Transport(kind, tls, freeze, own, relay=relay)
            address, file = (None, None) if relay is not None else _place(owners)
            dealer = _text("DEALER")
            if dealer not in (None, HERE, APART):
                raise InputError(f"the environment's {PREFIX}DEALER", repr(dealer), f"{HERE} or {APART}")
            meeting = cls(rank, owners, address, file, transport, dealer=dealer, **found)
            if owners > 1 and not meeting.local:
                words = {"true": True, "false": False}
                stated = _text("IN_THE_CLEAR") or "no"
                check_clear(kind, words.get(stated, stated), f"{PREFIX}IN_THE_CLEAR")
        return meeting

    @property
    def role(self) -> str:
        """The role of this process. A rank that comes after all owners is the dealer."""
        return ROLES[-1] if self.rank == self.owners else ROLES[self.rank]

    @property
    def local(self) -> bool:
        """Whether all parties are on this machine."""
        if self.file is not None:
            return True
        host = parse_address(self.address)[0] if self.address else os.environ.get("MASTER_ADDR", "")
        return self.transport.relay is None and (host in ("localhost", "::1") or host.startswith("127."))

    def connect(self) -> tuple[Link, dist.TCPStore | None]:
        """Return the connection to the others, and the store that this process hosts for a file.

        Raises:
            InputError: The address, the file or the certificates cannot be used.
            PeerError: Rank 0 does not come in time.
        """
        with own_names():
            if self.file is None:
                return self._connect(self.address), None
            if self.role != MODEL_OWNER:
                return self._connect(self._read_address()), None
            store = dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=60), wait_for_workers=False)
            address = f"tcp://127.0.0.1:{store.port}"
            link = self.transport.connect(self.role, address, self.join_timeout, hosted=True)
            _write(self.file, address)
            return link, store

    def _connect(self, address: str | None) -> Link:
        until = time.monotonic() + self.join_timeout
        key = address or "env"
        if self.role != MODEL_OWNER and key in _left:
            _await_end(_left[key], until)
        while True:
            try:
                return self.transport.connect(self.role, address, max(until - time.monotonic(), POLL_SECONDS))
            except (InputError, PeerError) as error:  # the session before this one may take a moment to end
                passing = isinstance(error, InputError) or CLAIMED in str(error)
                if key not in _left or not passing or time.monotonic() > until:
                    raise
            time.sleep(POLL_SECONDS)

    def _read_address(self) -> str:
        """Return the address that rank 0 has written, once somebody listens there."""
        until = time.monotonic() + self.join_timeout
        while time.monotonic() < until:
            with suppress(OSError, InputError):
                address = self.file.read_text(encoding="utf-8")[:LONGEST_ADDRESS]
                host, port = parse_address(address)
                if address not in _left:
                    socket.create_connection((host, port), CALL_SECONDS).close()
                    return address
            time.sleep(POLL_SECONDS)
        seconds = f"{self.join_timeout:g} s"
        raise PeerError(f"{MODEL_OWNER} did not come: nobody listened at an address in {self.file} within {seconds}")

    def await_others(self, link: Link) -> None:
        """Return once all parties have come to the end of the session, or one is lost.

        Over TLS a party that leaves earlier takes along what the others have not read yet. Over TCP it does not, and
        nothing is awaited: a party that wants more of one that has ended would wait for ever.
        """
        if self.transport.kind == "tls":
            with suppress(PeerError):  # this party has everything that it came for
                link.exchange("done", {})

    def leave(self, link: Link, linger: float) -> None:
        """Close the connection in good order, so that this process can meet the others at this place again."""
        link.close(linger)
        key = link.where if self.file is not None else self.address or "env"
        _left[key] = None
        if self.transport.kind != "tls":
            _left[key], link.store = (None if self.role == MODEL_OWNER else link.store), None
        if self.file is not None and self.role == MODEL_OWNER:
            self.file.unlink(missing_ok=True)


SECONDS = {"join_timeout": JOIN_SECONDS, "timeout": MESSAGE_SECONDS, "freeze_timeout": FREEZE_SECONDS}


def _text(key: str) -> str | None:
    return os.environ.get(PREFIX + key.upper(), "").strip() or None


def _seconds(key: str, default: float) -> float:
    text = _text(key)
    try:
        return default if text is None else float(text)
    except ValueError:
        raise InputError(f"session.{key}", repr(text), "seconds above 0") from None


def _place(owners: int) -> tuple[str | None, Path | None]:
    """Return the address and the file that RENDEZVOUS states; both are None for `env://`."""
    stated = os.environ.get("RENDEZVOUS", "").strip()
    if owners == 1 or stated == "env://":
        return None, None
    url = urlparse(stated)
    if url.scheme == "file" and url.path and not url.netloc:
        return None, Path(unquote(url.path))
    if url.scheme != "tcp":
        expected = "tcp://HOST:PORT, file:///PATH or env://, the same at every party"
        raise InputError("session.rendezvous", repr(stated) if stated else None, expected)
    parse_address(stated)
    return stated, None


def _write(path: Path, address: str) -> None:
    """Write the address whole: nobody may read half of it."""
    with own_names():
        try:
            handle, name = tempfile.mkstemp(dir=path.parent)
        except OSError as error:
            raise InputError("session.rendezvous", f"file://{path}", f"a file that can be written ({error})") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(address)
    os.replace(name, path)


def _await_end(store: dist.TCPStore | None, until: float) -> None:
    """Wait until rank 0 has left the session that `store` served."""
    while store is not None and time.monotonic() < until:
        try:
            store.check(["abort"])
        except (RuntimeError, ValueError):
            return
        time.sleep(POLL_SECONDS)
