"""The transport between strangers: who is let in, who is lost and how it is named, and what a message must be."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import (
    APP,
    DATA_OWNER,
    DEALER,
    HERE,
    MODEL_OWNER,
    ROLES,
    UNGUARDED,
    Processes,
    free_port,
    gone,
    problem,
    stretched,
    write_npz,
)

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial, private_bytes, sign
from mpc_appraisal.mpc.net.frames import FrameError, Header, Kind, call_site, pack, unpack
from mpc_appraisal.mpc.net.handshake import Listener, dial
from mpc_appraisal.mpc.net.stream import Outgoing
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.reporting.record import read

WITHIN = 2.0  # seconds from a kill to the others' end
FREEZE = 3.0


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Path:
    """What `mpc-appraisal certificates` makes."""
    folder = tmp_path_factory.mktemp("tls") / "trial"
    command = [*APP, "certificates", str(folder)]
    assert b"valid for 30 days" in subprocess.run(command, timeout=60, capture_output=True, check=True).stdout
    again = subprocess.run(command, timeout=60, capture_output=True)
    assert again.returncode == 2 and b"already there" in again.stderr
    return folder


def address() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


# ---- certificates ----


def test_a_trial_is_for_a_month_and_its_keys_are_private(trial):
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate((trial / role / f"{role}.pem").read_bytes())
        left = certificate.not_valid_after_utc - datetime.now(timezone.utc)
        assert timedelta(days=29) < left < timedelta(days=31)
        assert (trial / role / f"{role}.key").stat().st_mode & 0o777 == 0o600
        assert CertificateFiles.of(trial, role) == CertificateFiles.of(trial / role, role)
    assert not [path for path in trial.rglob("*") if "ca" in path.stem and path.suffix == ".key"]


def test_a_folder_that_will_not_do_is_named(tmp_path):
    make_trial(tmp_path)
    with pytest.raises(InputError, match="session.tls: got None"):
        CertificateFiles.of(None, DEALER)
    with pytest.raises(InputError, match="without ca.pem"):
        CertificateFiles.of(tmp_path / "nowhere", DEALER)
    (tmp_path / DEALER / "dealer.key").chmod(0o644)
    with pytest.raises(InputError, match="mode 644"):
        CertificateFiles.of(tmp_path, DEALER)
    pretend(tmp_path, DATA_OWNER, DEALER)
    with pytest.raises(InputError, match="a certificate for 'dealer'; expected one for data_owner alone"):
        CertificateFiles.of(tmp_path, DATA_OWNER)
    with pytest.raises(InputError, match="session.transport: got 'tls'; expected gloo"):
        Transport("tls").check_engine("stock")
    with pytest.raises(InputError, match="session.transport: got 'udp'"):
        Transport("udp")


def pretend(folder: Path, role: str, certified: str) -> CertificateFiles:
    """`role` comes with the certificate of another."""
    place = folder / role
    for end in ("pem", "key"):
        (place / f"{role}.{end}").write_bytes((folder / certified / f"{certified}.{end}").read_bytes())
    return CertificateFiles(place / "ca.pem", place / f"{role}.pem", place / f"{role}.key")


def certificates(folder: Path, trial: Path, kind: str) -> CertificateFiles:
    """The data owner's files of the session `trial`, with one thing wrong."""
    make_trial(folder)
    own = CertificateFiles.of(folder, DATA_OWNER)
    if kind == "foreign":
        return CertificateFiles(CertificateFiles.of(trial, DATA_OWNER).authority, own.certificate, own.key)
    if kind == "name":
        return CertificateFiles.of(trial, DEALER)
    raise ValueError(kind)


def authority(folder: Path, days: dict[str, float]) -> None:
    """Three folders whose certificates end after so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    root = sign(name, key, name, key, 30)
    for role in ROLES:
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
        certificate = sign(subject, own, root.subject, key, days.get(role, 30), role)
        (folder / role).mkdir(parents=True)
        (folder / role / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / role / f"{role}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / role / f"{role}.key").write_bytes(private_bytes(own))
        (folder / role / f"{role}.key").chmod(0o600)


def listening(folder: Path, timeout: float) -> tuple[TlsLink, str]:
    where = address()
    return TlsLink(MODEL_OWNER, where, timeout, str(folder)), where


def refused(folder: Path, own: CertificateFiles) -> tuple[str, str]:
    """What a data owner with the files `own` and the waiting model owner say."""
    link, where = listening(folder, 1.0)
    try:
        with pytest.raises(PeerError) as at_seller:
            dial(MODEL_OWNER, where, DATA_OWNER, own, 3.0, lambda host: None)
        with pytest.raises(PeerError) as at_buyer:
            link.announce()
        return str(at_seller.value), str(at_buyer.value)
    finally:
        link.close()


def test_a_foreign_authority_is_refused(trial, tmp_path):
    seller, buyer = refused(trial, certificates(tmp_path, trial, "foreign"))
    assert "model_owner refused this party's certificate: unknown ca" in seller
    assert "data_owner and dealer did not come" in buyer and "a certificate that is refused" in buyer


def test_an_expired_certificate_is_refused(tmp_path):
    authority(tmp_path, {DATA_OWNER: -0.01})
    seller, buyer = refused(tmp_path, CertificateFiles.of(tmp_path, DATA_OWNER))
    assert "certificate expired" in seller and "certificate has expired" in buyer


def test_another_partys_certificate_is_refused_by_name(trial, tmp_path):
    seller, buyer = refused(trial, certificates(tmp_path, trial, "name"))
    for said in (seller, buyer):
        assert "showed a certificate for 'dealer' and claimed to be 'data_owner'; expected the same role" in said


@pytest.mark.parametrize("kind", ["foreign", "expired", "name"])
def test_who_dials_checks_too(kind, trial, tmp_path):
    if kind == "foreign":
        make_trial(tmp_path)
        folder, own = tmp_path, CertificateFiles.of(trial, DATA_OWNER)
    elif kind == "expired":
        authority(tmp_path, {MODEL_OWNER: -0.01})
        folder, own = tmp_path, CertificateFiles.of(tmp_path, DATA_OWNER)
    else:
        folder, own = trial, CertificateFiles.of(trial, DEALER)
    link, where = listening(folder, 1.0)
    try:
        peer = DATA_OWNER if kind == "name" else MODEL_OWNER
        with pytest.raises(PeerError, match=f"is not {peer}"):
            dial(peer, where, DEALER, own, 3.0, lambda host: None)
    finally:
        link.close()


def test_a_role_is_taken_once(trial):
    link, where = listening(trial, 5.0)
    first = TlsLink(DATA_OWNER, where, 5.0, str(trial))
    try:
        with pytest.raises(PeerError, match="two parties claim the role data_owner"):
            TlsLink(DATA_OWNER, where, 5.0, str(trial))
        link.abort("bad input in party.train")
        with pytest.raises(PeerError, match="model_owner stopped: bad input in party.train"):
            first.announce()
        late = TlsLink(DEALER, where, 5.0, str(trial))
        with pytest.raises(PeerError, match="model_owner stopped: bad input in party.train"):
            late.announce()
        late.close()
    finally:
        first.close()
        link.close()


def test_a_party_joins_once_however_late_its_first_greeter_wakes(trial, monkeypatch):
    """The answer to its first connection lets a party dial the second, whose greeter may overtake the first."""
    answered, met, joined = threading.Event(), threading.Event(), []
    send = Outgoing.send

    def slow(self, kind, payload=b"", **options):
        send(self, kind, payload, **options)
        if threading.current_thread().name == "greeter" and not answered.is_set():
            answered.set()
            assert met.wait(5.0)

    def arrived(*party):
        joined.append(party)
        met.set()

    monkeypatch.setattr(Outgoing, "send", slow)
    failed: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: failed.append(told.exc_value))
    listener = Listener(
        CertificateFiles.of(trial, MODEL_OWNER), "127.0.0.1", 0, "session.rendezvous", lambda role: None, arrived
    )
    try:
        where = f"tcp://127.0.0.1:{listener.port}"
        dial(MODEL_OWNER, where, DATA_OWNER, CertificateFiles.of(trial, DATA_OWNER), 5.0, lambda host: None)
        assert met.wait(5.0)
        for greeter in [thread for thread in threading.enumerate() if thread.name == "greeter"]:
            greeter.join(5.0)
        assert len(joined) == 1 and not failed
    finally:
        listener.close()


def test_older_tls_is_refused(trial):
    link, where = listening(trial, 5.0)
    try:
        own = CertificateFiles.of(trial, DATA_OWNER)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(own.authority)
        context.load_cert_chain(own.certificate, own.key)
        with (
            socket.create_connection(("127.0.0.1", int(where.rsplit(":", 1)[1])), 5) as raw,
            pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION|protocol version"),
        ):
            context.wrap_socket(raw, server_hostname=MODEL_OWNER)
    finally:
        link.close()


# ---- messages ----


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


def test_a_message_replayed_on_the_wire_is_refused(trial):
    links = connected(trial)
    try:
        outgoing = links[DATA_OWNER]._peers[MODEL_OWNER].outgoing
        links[DATA_OWNER].send(MODEL_OWNER, torch.ones(2, dtype=torch.int64))
        assert links[MODEL_OWNER].receive(DATA_OWNER, (2,), torch.int64, 5.0).tolist() == [1, 1]
        outgoing._sequence -= 1
        links[DATA_OWNER].send(MODEL_OWNER, torch.ones(2, dtype=torch.int64))
        with pytest.raises(PeerError, match="data_owner sent message .* replayed or lost"):
            links[MODEL_OWNER].receive(DATA_OWNER, (2,), torch.int64, 5.0)
    finally:
        for link in links.values():
            link.close()


def test_large_messages_both_ways_at_once(trial):
    links, sent = connected(trial), torch.arange(5 << 20)
    try:
        links[MODEL_OWNER].send(DATA_OWNER, sent)
        links[DATA_OWNER].send(MODEL_OWNER, sent)
        links[DEALER].send(MODEL_OWNER, torch.tensor(3, dtype=torch.uint8))
        links[DEALER].send(MODEL_OWNER, torch.empty(0, 2, dtype=torch.int64))
        assert torch.equal(links[MODEL_OWNER].receive(DATA_OWNER, sent.shape, torch.int64, 10.0), sent)
        assert torch.equal(links[DATA_OWNER].receive(MODEL_OWNER, sent.shape, torch.int64, 10.0), sent)
        assert links[MODEL_OWNER].receive(DEALER, (), torch.uint8, 10.0) == 3
        assert links[MODEL_OWNER].receive(DEALER, (0, 2), torch.int64, 10.0).shape == (0, 2)
    finally:
        for link in links.values():
            link.close()


def connected(trial: Path) -> dict[str, TlsLink]:
    """All three parties in this process."""
    where, links = address(), {}

    def come(role: str) -> None:
        links[role] = TlsLink(role, where, 10.0, str(trial))
        links[role].announce()

    threads = [threading.Thread(target=come, args=(role,), daemon=True) for role in reversed(ROLES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert set(links) == set(ROLES)
    return links


def test_call_site():
    assert call_site().startswith("test_tls.py:")


# ---- parties ----


def parties(processes: Processes, trial: Path, what: str) -> dict:
    where = address()
    script = [sys.executable, str(HERE / "tls_party.py")]
    started = {role: processes.start(role, [*script, role, where, str(trial), what]) for role in reversed(ROLES)}
    for party in started.values():
        party.until("running", 60)
    return started


@pytest.mark.parametrize(
    ("what", "sent", "expected"),
    [
        ("shape", r"\(3, 4\) of int64", r"\(3, 5\) of int64"),
        ("type", r"\(3, 4\) of int64", r"\(3, 4\) of uint8"),
        ("message", "a message", r"\(12,\) of int64"),
    ],
)
def test_programs_that_differ_are_named_with_both_call_sites(what, sent, expected, processes, trial):
    started = parties(processes, trial, what)
    ended = {role: party.wait(20) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {2}
    site = r"tls_party\.py:\d+"
    message = f"the programs diverged: data_owner sent {sent} at {site}, expected {expected} at {site}"
    assert re.search(message, ended[MODEL_OWNER].err), ended[MODEL_OWNER].err
    for role in (DATA_OWNER, DEALER):
        assert "diverged: " in ended[role].err, ended[role].err


def test_a_slow_party_is_no_error(processes, trial):
    started = parties(processes, trial, "slow")
    ended = {role: party.wait(30) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}


def test_both_owners_may_send_more_than_the_window_at_once(processes, trial):
    ended = {role: party.wait(40) for role, party in parties(processes, trial, "big").items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}


@pytest.mark.parametrize(("what", "victim"), [("loop", DATA_OWNER), ("busy", DATA_OWNER), ("busy", DEALER)])
def test_a_frozen_party_is_named(what, victim, processes, trial):
    started = parties(processes, trial, what)
    time.sleep(0.5)
    os.kill(started[victim].popen.pid, signal.SIGSTOP)
    frozen = time.monotonic()
    others = {role: party for role, party in started.items() if role != victim}
    try:
        for role, party in others.items():
            ended = party.wait(FREEZE + 6)
            assert ended.code == 2 and f"{victim} stopped: no sign of life for 3 s" in ended.err, (role, ended.err)
        assert FREEZE - 0.7 < time.monotonic() - frozen < FREEZE + 4
    finally:
        started[victim].kill()


@pytest.mark.parametrize("victim", [DATA_OWNER, DEALER])
def test_a_party_that_computes_hears_of_a_killed_one(victim, processes, trial):
    started = parties(processes, trial, "busy")
    time.sleep(0.5)
    assert_others_end(started, victim)


def assert_others_end(started: dict, victim: str) -> None:
    started[victim].popen.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    others = {role: party for role, party in started.items() if role != victim}
    assert gone([party.popen.pid for party in others.values()], 10)
    seconds = time.monotonic() - killed
    for role, party in others.items():
        ended = party.wait(1)
        assert ended.code not in (0, None) and f"error: {victim} is gone" in ended.err, (role, ended.err)
    assert seconds < stretched(WITHIN), seconds


# ---- the whole ----

TRAIN, TEST, SELLER = (problem(n, 64, 10, seed=k) for k, n in enumerate((150, 60, 120), start=1))


def organisations(processes: Processes, where: str, *public: str, roles=ROLES) -> dict:
    own = {MODEL_OWNER: [], DATA_OWNER: [], DEALER: []}
    files = ((MODEL_OWNER, "train", TRAIN), (MODEL_OWNER, "test", TEST), (DATA_OWNER, "data", SELLER))
    for role, name, rows in files:
        if role in roles:  # a second call must not write a file again that a started party reads
            own[role].append(f"party.{name}={write_npz(processes.folder / f'{name}.npz', *rows)}")
    common = ["session=join", f"session.rendezvous={where}", "model.l2=1e-2", *public]
    return {role: processes.app(role, *common, f"session.role={role}", *own[role]) for role in roles}


def values(folder: Path) -> list[float]:
    return [record.value for record in read(folder / MODEL_OWNER / "run" / "records.jsonl")]


def strangers(where: str) -> list[socket.socket]:
    """One that keeps silent, one that speaks plainly, one that talks nonsense, one that hangs up."""
    port, met = int(where.rsplit(":", 1)[1]), []
    for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), None):
        s = socket.create_connection(("127.0.0.1", port), 5)
        if said is None:
            s.close()
        else:
            s.sendall(said)
            met.append(s)
    return met


def until_listening(where: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(where.rsplit(":", 1)[1])), 5).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_appraisal_over_tls_is_the_one_in_the_clear_and_strangers_do_not_disturb_it(tmp_path, trial):
    found = {}
    for transport in ("gloo", "tls"):
        own = [f"session.transport={transport}", "appraisal=all", "appraisal.finetuning.steps=2"]
        own += [f"session.tls={trial}"] if transport == "tls" else []
        with Processes(tmp_path / transport) as processes:
            where = address()
            first = (DEALER, MODEL_OWNER) if transport == "tls" else ROLES
            started, met = organisations(processes, where, *own, roles=first), []
            if transport == "tls":
                until_listening(where)
                met = strangers(where)
                started |= organisations(processes, where, *own, roles=(DATA_OWNER,))
                met += strangers(where)
            ended = {role: party.wait(120) for role, party in started.items()}
            assert {end.code for end in ended.values()} == {0}, {role: end.err[-500:] for role, end in ended.items()}
            for s in met:
                s.close()
            found[transport] = values(processes.folder)
            assert str(trial) not in (processes.folder / MODEL_OWNER / "run" / "records.jsonl").read_text()
    assert len(found["tls"]) == 3
    for ours, clear in zip(found["tls"], found["gloo"], strict=True):
        assert abs(ours - clear) <= 1e-3 * max(1.0, abs(clear))


def test_torchrun_and_spawn_too(processes, trial):
    root = processes.folder
    files = [f"party.train={write_npz(root / 'train.npz', *TRAIN)}", f"party.data={write_npz(root / 's.npz', *SELLER)}"]
    common = ["session.transport=tls", f"session.tls={trial}", "appraisal=gradient_norm"]
    spawned = processes.app(MODEL_OWNER, *common, *files, "session=spawn").wait(90)
    assert spawned.code == 0, spawned.err[-2000:]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--master-addr=127.0.0.1"]
    job = [
        f"--master-port={free_port()}",
        "-m",
        "mpc_appraisal.cli.app",
        "session=join",
        f"session.rendezvous={address()}",
    ]
    ended = processes.start(
        "torchrun", [*launcher, *job, *common, *files, *UNGUARDED, f"hydra.run.dir={root / 'run'}"]
    ).wait(120)
    assert ended.code == 0, ended.err[-2000:]
    (joined,) = read(root / "run" / MODEL_OWNER / "records.jsonl")
    (value,) = (r.value for r in read(root / MODEL_OWNER / "run" / "records.jsonl") if r.method == "gradient_norm")
    assert abs(joined.value - value) <= 1e-3 * abs(value)


@pytest.mark.parametrize("victim", ROLES)
def test_a_party_killed_half_way_is_named_by_the_others_within_seconds(victim, processes, trial):
    steps = ["appraisal=all", "appraisal.finetuning.steps=300"]
    public = ["session.transport=tls", f"session.tls={trial}", *steps]
    started = organisations(processes, address(), *public)
    started[MODEL_OWNER].until("[1/3]", 90)  # the first method is done, fine-tuning is under way
    time.sleep(0.3)
    assert_others_end(started, victim)
