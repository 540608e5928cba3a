"""What comes from outside a party: messages and words of peers, the environment, and how a configuration is spelt."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from processes import APP, CLEAR, DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, problem, write_npz

from mpc_appraisal import DisclosureControls, appraise
from mpc_appraisal.appraisal.announced_facts import check_published_names
from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers
from mpc_appraisal.appraisal.party import _check_costs as check_costs
from mpc_appraisal.appraisal.plan import Plan, respelt
from mpc_appraisal.appraisal.sessions import Join, Spawn
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.hydra_app import ordered
from mpc_appraisal.cli.progress import progress
from mpc_appraisal.common import environment
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.data import ENVIRONMENT, Mnist
from mpc_appraisal.methods import Influence
from mpc_appraisal.mpc.net import frames, message_schemas
from mpc_appraisal.mpc.net.transport import Transport, check_clear
from mpc_appraisal.mpc.session import agree, same
from mpc_appraisal.release import Bit
from mpc_appraisal.release.base import Outcome
from mpc_appraisal.reporting.record import read

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202egnp\nerror: x"

# ---- messages ----

FACTS = {"candidates": [{"name": "a", "rows": 4, "features": 3, "listing": None}]}


def facts(**changed) -> bytes:
    return json.dumps({"candidates": [FACTS["candidates"][0] | changed]}).encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            facts(rows="many"),
            "candidates.0.rows in its message on 'facts': got 'many'; expected an integer of 1 or more",
        ),
        (facts(rows=0), "candidates.0.rows in its message on 'facts': got 0; expected an integer of 1 or more"),
        (facts(rows=True), "candidates.0.rows"),
        (facts(rows=3.0), "candidates.0.rows"),
        (facts(rows=2**60), "candidates.0.rows"),
        (facts(features=[3]), "candidates.0.features"),
        (facts(name="x" * 201), "candidates.0.name"),
        (facts(listing={"name": "a"}), "candidates.0.listing"),
        (b'{"candidates": []}', "candidates in its message"),
        (b'{"candidates": {"0": 1}}', "candidates in its message"),
        (b"{}", "got no candidates; expected all of candidates"),
        (b'{"candidates": NaN}', "its message on 'facts': got NaN; expected finite numbers"),
        (b'{"candidates": -Infinity}', "got -Infinity; expected finite numbers"),
        (b'{"candidates": 1e999}', "got 1e999; expected finite numbers"),
        (b'{"candidates": ' + b"9" * 100_000 + b"}", "expected finite numbers within 64 bits"),
        (b'{"candidates": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nesting|levels"),
        (b'{"candidates": ' + b"[" * 40 + b"]" * 40 + b"}", "levels"),
        (b'{"more": "' + b"x" * (message_schemas.LONGEST_TEXT + 1) + b'"}', "a text of"),
        (b" " * (message_schemas.LONGEST_MESSAGE + 1), "bytes"),
        (b"[1]", "expected an object"),
        (b'"\x1b[2J"', "expected"),
        (b"\xff\xfe{", "expected JSON"),
        (b"", "expected JSON"),
    ],
)
def test_a_malformed_message_is_its_senders_fault_by_topic_and_field(text, words):
    with pytest.raises(PeerError, match=f"^data_owner sent what cannot be read: .*({words})") as error:
        message_schemas.read(text, DATA_OWNER, "facts")
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_a_field_that_a_later_version_adds_is_left_alone():
    assert message_schemas.read(facts(columns="ab"), DATA_OWNER, "facts")["candidates"][0]["columns"] == "ab"
    assert message_schemas.read(b'{"new": 1}', DEALER, "facts") == {"new": 1}


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_three_parties_hear_who_told_nonsense(transport, tmp_path):
    """Three connections of the real kinds, in threads: one party's message is malformed, and the others name it."""
    from mpc_appraisal.mpc.net.certificates import make_trial

    if transport == "tls":
        make_trial(tmp_path / "tls")
    where, said = f"tcp://127.0.0.1:{free_port()}", {}

    def take_part(role: str) -> None:
        party = Transport(transport, str(tmp_path / "tls")).connect(role, where, 240.0)
        try:
            party.announce()
            message = {"row_norm": "long" if role == DATA_OWNER else 1.0, "weight_norm": 1.0}
            party.exchange("ready", message)
        except PeerError as error:
            said[role] = str(error)
            party.abort(error.public)
        finally:
            party.close(2.0)

    threads = [threading.Thread(target=take_part, args=(role,)) for role in ROLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    named = (
        "data_owner sent what cannot be read: row_norm in its message on 'ready': got 'long'; expected a finite number"
    )
    assert named in said[MODEL_OWNER] and named in said[DEALER]


def test_costs_that_do_not_fit_the_results_are_their_senders_fault():
    one = {"bytes_sent": [1], "rounds": [1], "dealt": [1], "work": [1]}
    owner = {"bytes": [1], "rounds": [1], "expected": [one], "rate": 1e9}
    published = {MODEL_OWNER: owner, DATA_OWNER: owner, DEALER: {"bytes": [1]}}
    check_costs(published, 1)
    check_costs(dict.fromkeys((MODEL_OWNER, DATA_OWNER), owner | {"expected": []}) | {DEALER: {"bytes": [1]}}, 1)
    for role, changed in (
        (DEALER, {"bytes": []}),
        (DATA_OWNER, {"rounds": []}),
        (DATA_OWNER, {"expected": [one | {"work": []}]}),
        (DATA_OWNER, {"expected": []}),
        (DATA_OWNER, {"expected": [one, one]}),
        (MODEL_OWNER, {"rate": 0}),
    ):
        with pytest.raises(PeerError, match=f"^.*{role} .*sent"):
            check_costs(published | {role: published[role] | changed}, 1)


@pytest.mark.parametrize("names", [["a", "a"], ["../x/y.csv"], ["\x1b[2J"], [" "]])
def test_names_of_candidates_are_checked_where_they_are_announced(names):
    check_published_names(["digits-a", "Zahlen (zwei) é"])
    with pytest.raises(PeerError, match="^data_owner announced ") as error:
        check_published_names(names)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["", "00", "zz", "00" * 40])
def test_sealed_answers_that_do_not_open_are_their_senders_fault(text):
    ours, theirs = EncryptedAnswers(), EncryptedAnswers()
    assert ours.unseal(theirs.seal(ours.address, [Outcome(0.5)]), 1) == [Outcome(0.5)]
    for sealed in ({"key": theirs.address, "text": text}, {"key": "00" * 32, "text": "00" * 40}):
        with pytest.raises(PeerError):
            ours.unseal(sealed, 1)
    with pytest.raises(PeerError):
        theirs.seal("ab", [])


@pytest.mark.parametrize("text", ['{"opened": "much"}', '{"decision": 1}', '{"rank": 1.5}', '{"other": 1}', "[]", "x"])
def test_a_sealed_answer_of_another_shape_is_refused(text):
    ours, theirs = EncryptedAnswers(), EncryptedAnswers()
    secret = theirs._cipher(ours.address).encrypt(bytes(12), text.ljust(1024).encode(), None).hex()
    with pytest.raises(PeerError, match="^data_owner sent"):
        ours.unseal({"key": theirs.address, "text": secret}, 1)


# ---- words ----


def test_words_of_a_peer_reach_no_terminal_as_they_are(capsys):
    assert message_schemas.printable(ESCAPES.encode()).isprintable()
    assert len(message_schemas.printable(b"x" * 10**6)) <= message_schemas.LONGEST_LINE
    header = frames.Header(frames.Kind.MESSAGE, frames.DTYPES[0], (), 0, 0, "\x1b[2Jx.py:1")
    assert frames.unpack(frames.pack(header), 0).describe().isprintable()
    for error in (PeerError(ESCAPES), DisagreementError(ESCAPES), InputError("x", ESCAPES, "y")):
        assert str(error).replace("\n", " ").isprintable()
    with progress() as show:
        show({"done": 1, "of": 2, "method": "influence", "candidate": ESCAPES})
    assert capsys.readouterr().err.rstrip("\n").isprintable()


def test_a_name_is_no_markup_in_the_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress() as show:
        for name in ("a[/b]", "[link=http://x]y[/link]", ESCAPES):
            show({"done": 1, "of": 2, "method": "influence", "candidate": name})
    assert "owned\x07" not in capsys.readouterr().err


# ---- in the clear or not ----


@pytest.mark.parametrize("transport", ["tcp", "gloo"])
def test_a_join_in_the_clear_needs_a_word(transport):
    for stated in (False, "no"):
        with pytest.raises(InputError, match="session.transport: got .*session.in_the_clear=true"):
            check_clear(transport, stated)
    for stated in (True, "yes"):
        check_clear(transport, stated)
    check_clear("tls", False)
    with pytest.raises(InputError, match="session.in_the_clear"):
        check_clear("tls", "maybe")
    with pytest.raises(InputError, match="^transport: got .*in_the_clear=true"):
        Join(MODEL_OWNER, "tcp://127.0.0.1:1", transport=transport)
    assert Join(MODEL_OWNER, "tcp://127.0.0.1:1", transport=transport, in_the_clear=True).check() == MODEL_OWNER


def test_tls_is_the_default_of_a_join_and_the_key_changes_no_digest():
    cfg, clear = compose(["session=join"]), compose(["session=join", "session.in_the_clear=true"])
    assert cfg.session.transport == "tls" and Join().transport == "tls" and cfg.session.in_the_clear is False
    assert public_part(cfg) == public_part(clear) and "session.in_the_clear" not in public_part(cfg)


@pytest.mark.parametrize("value", ["abc", 0, -1, float("nan"), float("inf"), None, True, 10**400])
@pytest.mark.parametrize("key", ["join_timeout", "timeout", "freeze_timeout"])
def test_seconds_that_are_none_are_refused_by_name(key, value):
    for session in (Join, Spawn):
        with pytest.raises(InputError, match=f"^{key}: got "):
            session(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("role", "seller"),
        ("rendezvous", "127.0.0.1:80"),
        ("rendezvous", 5),
        ("data_owner_address", "http://here:80"),
        ("engine", "slow"),
        ("logit_bound", "12"),
        ("logit_bound", 0),
        ("logit_bound", float("inf")),
        ("transport", "udp"),
        ("tls", 5),
        ("in_the_clear", "maybe"),
        ("relay", "127.0.0.1"),
        ("relay", "127.0.0.1:0"),
        ("relay", "127.0.0.1:80/a name"),
        ("relay", 5),
    ],
)
def test_a_join_refuses_a_setting_as_it_is_made(key, value):
    with pytest.raises(InputError, match=f"^{key}: got "):
        Join(**{key: value})


def test_a_join_refuses_what_it_lacks_before_anything_is_read_or_sent(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    where = "tcp://127.0.0.1:1"

    def read(role):
        raise AssertionError("data were read")

    lacking = {
        "role": Join(rendezvous=where, tls=str(tmp_path)),
        "tls": Join(DATA_OWNER, where),
        "rendezvous": Join(DATA_OWNER, tls=str(tmp_path)),
    }
    lacking["tls"] = Join(DATA_OWNER, where, tls=str(tmp_path / "nowhere"))
    for key, session in lacking.items():
        with pytest.raises(InputError, match=rf"^session\.{key}: got "):
            session.run(None, read, None)
        with pytest.raises(InputError, match=f"^{key}: got "):
            appraise({"a": ([[1.0]], [0])}, session=session, controls=DisclosureControls())
    with pytest.raises(InputError, match="^session.rendezvous: got None; expected .*torchrun"):
        Join(DATA_OWNER, transport="tcp", in_the_clear=True).check()


# ---- the environment ----


@pytest.mark.parametrize(
    ("text", "threads"),
    [(None, 1), ("", 1), (" ", 1), ("4,2", 4), (" 2 ", 2), ("abc", 1), ("0", 1), ("-3", 1), ("1.5", 1), ("9" * 30, 1)],
)
def test_threads_are_read_as_openmp_does_or_taken_for_unset(text, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert environment.threads() == threads


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
@pytest.mark.parametrize("text", ["abc", "-1", "3", "1.0", "9" * 5000])
def test_a_launchers_numbers_are_refused_by_name(name, text, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Join().resolved_role() == DATA_OWNER
    monkeypatch.setenv(name, text)
    if (name, text) == ("WORLD_SIZE", "3"):
        return
    with pytest.raises(InputError, match=f"the environment's {name}: got '"):
        Join().resolved_role()


@pytest.mark.parametrize("text", [None, "", "abc", "0", "70000"])
def test_a_port_of_a_launcher_that_is_none_is_refused_by_name(text, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    if text is not None:
        monkeypatch.setenv("MASTER_PORT", text)
    with pytest.raises(InputError, match="the environment's MASTER_PORT"):
        Transport().connect(DEALER, None, 2.0)


def test_a_folder_of_data_may_be_at_home_and_an_empty_one_is_none(monkeypatch, tmp_path):
    from mpc_appraisal.data.public import _folder

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv(ENVIRONMENT, "~/sets")
    assert _folder(None, "mnist") == tmp_path / "sets"
    for text in ("", "  "):
        monkeypatch.setenv(ENVIRONMENT, text)
        assert _folder(None, "mnist") is None
    for text in ("~nobody-of-this-name/x", "/no/such/folder", "x" * 5000):
        monkeypatch.setenv(ENVIRONMENT, text)
        with pytest.raises(InputError, match=ENVIRONMENT):
            Mnist().load()


# ---- spelling ----


class Told:
    """A meeting in which the others told their configurations."""

    def __init__(self, **by_role: dict):
        self.messages = {r: {"digest": config_hash(public), "public": public} for r, public in by_role.items()}

    def exchange(self, topic: str, message: dict) -> dict[str, dict]:
        return self.messages


def test_numbers_are_compared_as_numbers_and_the_model_owners_spelling_stands():
    ours, theirs = {"model.l2": 1, "seed": 0}, {"model.l2": 1.0, "seed": 0}
    met = Told(model_owner=theirs, data_owner=ours, dealer=ours)
    found = agree(met, ours, config_hash(ours), config_hash)
    assert found == (theirs, config_hash(theirs)) and repr(found[0]) == repr(theirs)
    assert agree(Told(model_owner=ours, data_owner=ours, dealer=ours), ours, config_hash(ours)) == (
        ours,
        config_hash(ours),
    )


@pytest.mark.parametrize(
    ("key", "a", "b"), [("model.l2", 1, 1.5), ("resume", True, 1), ("x", [1, 2], [1, 3]), ("x", None, 0), ("x", "1", 1)]
)
def test_a_difference_names_the_key_and_both_values(key, a, b):
    assert not same(a, b)
    met = Told(model_owner={key: a}, data_owner={key: b}, dealer={key: a})
    with pytest.raises(DisagreementError) as error:
        agree(met, {key: b}, config_hash({key: b}), config_hash)
    assert f"{key}: {a!r} at model_owner, {b!r} at data_owner" in str(error.value)


def test_a_hash_that_is_not_the_configurations_is_refused():
    met = Told(model_owner={"a": 1}, data_owner={"a": 1.0}, dealer={"a": 1})
    met.messages[MODEL_OWNER]["digest"] = "0" * 16
    with pytest.raises(DisagreementError, match="their hashes are .*; expected one hash"):
        agree(met, {"a": 1.0}, config_hash({"a": 1.0}), config_hash)


def test_methods_and_release_are_spelt_alike():
    public = {"appraisal.damping": 1, "release.to": "both"}
    plan = Plan((Influence(damping=1.0),), 0.1, 0, "old", None, {"appraisal.damping": 1.0, "release.to": "both"})
    assert repr(respelt(plan, public, "new").methods) == "(Influence(damping=1),)"
    assert respelt(plan, public, "old") is plan
    assert respelt(Plan((), 0.1, 0, "old", None, {}, release=Bit()), public, "new").release == Bit()


def test_parties_that_spell_numbers_in_two_ways_appraise(processes):
    root = processes.folder
    own = {
        MODEL_OWNER: [f"party.train={write_npz(root / 'train.npz', *problem(60, seed=1))}", "model.l2=1"],
        DATA_OWNER: [f"party.data={write_npz(root / 'seller.npz', *problem(50, seed=3))}", "model.l2=1.0"],
        DEALER: ["model.l2=1.0", "appraisal.damping=0"],
    }
    own[MODEL_OWNER] += [f"party.test={write_npz(root / 'test.npz', *problem(40, seed=2))}"]
    public = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "appraisal=influence", *CLEAR]
    started = {role: processes.app(role, *public, f"session.role={role}", *own[role]) for role in ROLES}
    ended = {role: process.wait(120) for role, process in started.items()}
    assert {each.code for each in ended.values()} == {0}, {role: each.err[-800:] for role, each in ended.items()}
    records = [read(root / role / "run" / "records.jsonl")[0] for role in (MODEL_OWNER, DATA_OWNER)]
    assert records[0].value == records[1].value and records[0].config_hash == records[1].config_hash
    assert np.isfinite(records[0].value)


def test_overrides_may_stand_before_and_after_multirun():
    given = ["appraisal=influence", "--multirun", "seed=0,1", "-c", "job", "~x", "+a=b", "--config-dir=c"]
    expected = ["--multirun", "-c", "job", "--config-dir=c", "appraisal=influence", "seed=0,1", "~x", "+a=b"]
    assert ordered(given) == expected and ordered(expected) == expected and ordered([]) == []


def test_one_process_says_all_this_in_one_line(processes):
    """A bad launch through the command line: no traceback, whatever the environment holds."""
    ended = processes.start(
        "bad",
        [*APP, "session=join", *CLEAR],
        {"OMP_NUM_THREADS": "4,2", "RANK": "x", ENVIRONMENT: "", "LOCAL_WORLD_SIZE": "y"},
    ).wait(60)
    assert ended.code == 2 and "Traceback" not in ended.err and "error: the environment's LOCAL_WORLD_SIZE" in ended.err
