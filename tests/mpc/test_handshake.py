"""The handshake over TLS: which certificates, roles and versions of TLS a listener and a dialling party refuse."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER
from tls_sessions import authority, listening

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial
from mpc_appraisal.mpc.net.handshake import Listener, dial
from mpc_appraisal.mpc.net.stream import Outgoing
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.net.ways import BoundSocket


def certificates(folder: Path, trial: Path, kind: str) -> CertificateFiles:
    """Return a data owner's files for the session `trial` with one thing wrong."""
    make_trial(folder)
    own = CertificateFiles.of(folder, DATA_OWNER)
    if kind == "foreign":
        return CertificateFiles(CertificateFiles.of(trial, DATA_OWNER).authority, own.certificate, own.key)
    if kind == "name":
        return CertificateFiles.of(trial, DEALER)
    raise ValueError(kind)


def refused(folder: Path, own: CertificateFiles) -> tuple[str, str]:
    """Return the errors of a data owner with the files `own` and of the model owner that waits for it."""
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
            assert met.wait(60.0)

    def arrived(*party):
        joined.append(party)
        met.set()

    monkeypatch.setattr(Outgoing, "send", slow)
    failed: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: failed.append(told.exc_value))
    source = BoundSocket("127.0.0.1", 0, "session.rendezvous")
    listener = Listener(CertificateFiles.of(trial, MODEL_OWNER), source, lambda role: None, arrived)
    try:
        where = f"tcp://127.0.0.1:{listener.port}"
        dial(MODEL_OWNER, where, DATA_OWNER, CertificateFiles.of(trial, DATA_OWNER), 5.0, lambda host: None)
        assert met.wait(60.0)
        for greeter in [thread for thread in threading.enumerate() if thread.name == "greeter"]:
            greeter.join(60.0)
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
