"""A whole appraisal through a relay: its value is that in the clear, no party listens, and the log tells no secret."""

from __future__ import annotations

import re
import signal

from cryptography.x509 import load_pem_x509_certificate
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, problem, write_npz
from relay_sessions import relay

from mpc_appraisal.common.roles import RELAY_TRUST
from mpc_appraisal.mpc.net.certificates import key_digest
from mpc_appraisal.mpc.net.relay.greeting import digest_of, session_token
from mpc_appraisal.reporting.record import read

TRAIN, TEST, SELLER = (problem(n, 16, 4, seed=k) for k, n in enumerate((80, 40, 60), start=1))


def test_an_appraisal_through_a_relay_is_the_one_in_the_clear_and_no_party_listens(processes, trial):
    root = processes.folder
    started, where = relay(processes)
    files = {
        name: f"party.{name}={write_npz(root / f'{name}.npz', *rows)}"
        for name, rows in (("train", TRAIN), ("test", TEST), ("data", SELLER))
    }
    own = {MODEL_OWNER: [files["train"], files["test"]], DATA_OWNER: [files["data"]], DEALER: []}
    common = ["session=join", f"session.relay={where}/first", f"session.tls={trial}", "session.transport=tls"]
    method = ["appraisal=influence", "model.l2=1e-2"]
    parties = {
        role: processes.app(role, *common, *method, f"session.role={role}", *own[role], audited=True) for role in ROLES
    }
    ended = {role: party.wait(120) for role, party in parties.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err[-500:] for role, end in ended.items()}
    for role in ROLES:
        assert (root / role / "opened.txt").read_text()  # the hook was there
        assert (root / role / "opened.txt.bound").read_text() == "", role
    (record,) = read(root / MODEL_OWNER / "run" / "records.jsonl")
    assert processes.app("plain", "session=plain", *method, *files.values()).wait(60).code == 0
    assert record.settings["session.relay"] == "on" and where not in record.to_json()
    stated = [key_digest(load_pem_x509_certificate((trial / role / f"{role}.pem").read_bytes())) for role in ROLES]
    card = " ".join((root / MODEL_OWNER / "run" / "card-data.md").read_text().split())
    for text in (record.trust, card):
        assert (
            RELAY_TRUST in text and f"The dealer is whoever holds the certificate key with SHA-256 {stated[2]}." in text
        )
    (plain,) = (one for one in read(root / "plain" / "run" / "records.jsonl") if one.method == record.method)
    assert abs(record.value - plain.value) <= 1e-3 * max(1.0, abs(plain.value))
    started.popen.send_signal(signal.SIGINT)
    end = started.wait(30)
    assert end.code == 0 and re.fullmatch(r"the relay ended after [\d.]+ s: 1 session, \d+ bytes forwarded\n", end.out)
    token = session_token(trial / DEALER / "ca.pem", "first")
    assert token not in end.err and f"session {digest_of(token)}: ended after" in end.err
    assert end.err.count("are linked") == end.err.count("a link has ended") == 6
    (total,) = re.findall(rf"session {digest_of(token)}: ended after [\d.]+ s, (\d+) bytes", end.err)
    payload = sum(record.bytes_sent.values())
    assert payload < int(total) < payload + 100_000  # headers, handshakes and messages
