"""The rtas backend: its session, whole appraisals against plaintext, its cost and leakage, and its configuration."""

from __future__ import annotations

import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from helper_runs import ORACLES, normal, with_helper
from processes import APP, DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, gone, problem, write_npz
from three import private, run

from mpc_appraisal import Join, Plain, Spawn, appraise
from mpc_appraisal.appraisal import cost
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.cli.app import main
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common import roles
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import (
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    MlpFinetuning,
    plaintext,
)
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.registry import dry_session, trust_of
from mpc_appraisal.mpc.backends.rtas import LEAKAGE, RtasDrySession
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.release import Bit, NoisedRelease
from mpc_appraisal.reporting.record import read

torch.set_num_threads(1)


# ---- sessions


def test_every_session_with_functions_has_the_same():
    z = normal(5, 3)
    plain = PlainSession()
    for name in FUNCTIONS:
        assert np.allclose(plain.apply(z, name).numpy(), ORACLES[name](z.numpy()), atol=1e-12)
    dry = RtasDrySession()
    x, w = (
        dry.input(owner, lambda: None, shape, "x") for owner, shape in ((DATA_OWNER, (5, 4)), (MODEL_OWNER, (4, 3)))
    )
    value, mask = dry.applied(x.matmul(w), ("relu", "step"))
    assert (value.shape, value.bits, mask.bits) == ((5, 3), 18, 0)
    assert dry.apply(w, "sigmoid").owner == w.owner  # an owner needs no helper for its own
    with pytest.raises(InputError, match="functions: got 'sin'"):
        dry.apply(w, "sin")


def test_what_an_owner_knows_is_computed_by_it_alone():
    z = normal(6, 2)
    done = run(lambda engine: private(with_helper(engine), 1, z).applied("tanh")[0].secret(30).share)
    assert not done.shown and torch.allclose(done.value(30), z.tanh(), atol=1e-8)


FACTS = Facts(12, 3, 30, 20, 40, 1e-2)
METHODS = (
    GradientNorm(),
    Influence(),
    InfluenceError(),
    Finetuning(steps=2, batch_size=16),
    MlpFinetuning(hidden=4, steps=2, pretraining=1),
)


def requests(engine: str, method, **options) -> Counter:
    session = dry_session(engine, MODEL_OWNER)
    plan = Plan((method,), 1e-2, 0, "", fit=None, engine=engine, **options)
    program(session, plan, {}, {}, {"a": FACTS}, 10.0, lambda event: None)
    return Counter(name for name, *_ in session.script)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_softmax_and_relu_go_to_the_helper_and_nothing_is_compared(method):
    ours, theirs = requests("rtas", method), requests("fast", method)
    assert ours["apply"] > 0 and not theirs["apply"]
    own = ("compare", "bits", "power", "gated_power", "levels", "waves", "wins", "cross", "conjunction")
    assert not any(ours[name] for name in own)
    assert theirs["power"] + theirs["gated_power"] > 0


def test_what_a_release_compares_the_helper_does_not_see():
    value, bit = (requests("rtas", GradientNorm(), release=r) for r in (Plan.release, Bit()))
    assert bit["apply"] == value["apply"] and bit["compare"] > 0 == value["compare"]


# ---- whole appraisals

MARKET = LabelNoise(train_size=100, candidates=2, size=60, test_size=50).build(*Digits().load(), seed=0)
SETS = {"train": MARKET.train, "test": MARKET.test}
RATE = 10.0  # at which the engine's own softmax refuses
WHOLE = (
    GradientNorm(),
    Influence(),
    InfluenceError(),
    Finetuning(steps=3, lr=RATE),
    MlpFinetuning(hidden=8, steps=2, pretraining=50),
)
# |value - plaintext|: a part of the value, and an absolute part: one row of 50 is a loss of 0.02.
TOLERANCE = {
    "gradient_norm": (1e-4, 0.0),
    "influence": (0.0, 1e-5),
    "influence_error": (0.0, 1e-5),
    "finetuning": (0.0, 2e-3),
    "mlp_finetuning": (0.0, 2e-4),
}


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_trial(folder)
    return folder


@pytest.fixture(scope="module")
def whole(trial):
    session = Spawn(engine="rtas", transport="tls", tls=str(trial))
    return appraise(MARKET.candidates, **SETS, method=list(WHOLE), session=session)


def test_every_method_agrees_with_plaintext(whole):
    assert len(whole) == 2 * len(WHOLE)
    for record in whole:
        relative, absolute = TOLERANCE[record.method]
        assert abs(record.difference) <= relative * abs(record.plaintext_value) + absolute, record
    for method in ("gradient_norm", "influence", "finetuning"):  # no tolerance covers what a method is there to find
        one, two = (record.plaintext_value for record in whole.of(method))
        relative, absolute = TOLERANCE[method]
        assert abs(one - two) > 5 * (relative * abs(one) + absolute)


def test_one_number_is_opened_and_the_leakage_is_in_every_record(whole):
    for record in whole:
        assert [(o["numbers"], o["to"]) for o in record.openings] == [(1, [MODEL_OWNER, DATA_OWNER])]
        assert record.engine == "rtas" and record.trust == trust_of("rtas") and LEAKAGE in record.trust
        assert record.failure_probability is not None
    assert trust_of("fast") == roles.TRUST and LEAKAGE not in roles.TRUST


def test_bytes_and_rounds_are_foretold_exactly(whole):
    for record in whole:
        assert record.estimate["rounds"] == record.rounds
        assert {role: record.estimate[f"bytes_sent.{role}"] for role in ROLES} == record.bytes_sent
    facts = Facts.of(fit(MARKET.train, 1e-2), MARKET.train, MARKET.test, MARKET.candidates[0].data)
    found = cost.estimate(WHOLE, facts, 2, 10.0, engine="rtas")
    assert found.rounds == sum(record.rounds for record in whole)
    for role in (MODEL_OWNER, DATA_OWNER):  # how wide the dealer's corrections are depends on a norm that owners tell
        assert found.bytes_sent[role] == sum(record.bytes_sent[role] for record in whole)


def test_the_cost_command_says_what_leaks(monkeypatch, capsys):
    sizes = ["rows=50", "features=64", "train_rows=100", "test_rows=40"]
    monkeypatch.setattr("sys.argv", ["mpc-appraisal", "cost", "appraisal=influence", "protocol=rtas", *sizes])
    main()
    said = capsys.readouterr()
    expected = cost.estimate([Influence()], Facts(64, 10, 100, 40, 50, 1e-2), 1, 16.0, engine="rtas")
    (row,) = [line.split() for line in said.out.splitlines() if line.strip().startswith("influence")]
    assert int(row[1]) == expected.rounds and row[-1] == "any" and LEAKAGE in said.err
    assert "are assumed" not in said.out


def test_a_bit_is_released_and_training_that_the_engine_refuses_is_not(capfd):
    method = Finetuning(steps=3, lr=RATE)
    model = fit(MARKET.train, 1e-2)
    good, bad = (plaintext(method, model, MARKET.train, MARKET.test, c.data)[0] for c in MARKET.candidates)
    options = {**SETS, "method": method, "release": "bit", "threshold": (good + bad) / 2}
    result = appraise(MARKET.candidates, session=Spawn(engine="rtas"), **options)
    assert [record.decision for record in result] == [good > bad, bad > good]
    for record in result:
        assert record.value is None and len(record.openings) == 1 and LEAKAGE in record.trust
        assert record.estimate["rounds"] == record.rounds
    assert LEAKAGE in capfd.readouterr().err


def test_what_a_helper_makes_unsafe_is_refused_by_name():
    appraised = {**SETS, "method": "influence", "session": Spawn(engine="rtas")}
    offered = [candidate.data for candidate in MARKET.candidates]
    private = NoisedRelease(epsilon=1.0, delta=1e-6, row_norm=10.0)
    with pytest.raises(InputError, match="release: got dp; expected engine=fast: whether the helper refuses"):
        appraise(offered, **appraised, release=private)
    wide = [Dataset(c.x * 1e4, c.y, c.classes, c.name) for c in offered]
    with pytest.raises(InputError, match="the bound on logits: got .* by the announced norms; expected at most 16384"):
        appraise(wide, **appraised)


# ---- configuration and organisations


@pytest.mark.parametrize("session", [Spawn, Join])
def test_a_protocol_chooses_the_engine_and_none_is_the_default(session):
    chosen = [instantiate(compose([f"session={session.name}", f"protocol={p}"]).session) for p in ("rtas", "shares")]
    assert [each.engine for each in chosen] == ["rtas", "fast"] and chosen[1] == session()
    assert instantiate(compose([f"session={session.name}", "session.engine=rtas"]).session) == chosen[0]


def test_a_plain_session_runs_no_protocol():
    assert instantiate(compose(["session=plain"]).session) == Plain()
    with pytest.raises(InputError, match="session.engine: got 'rtas'; expected plaintext, or session=spawn or join"):
        instantiate(compose(["session=plain", "protocol=rtas"]).session)


def test_a_protocol_is_what_its_session_computes(processes):
    ended = processes.app("owner", "protocol=rtas", "session.engine=fast").wait(60)
    assert ended.code == 2 and "protocol: got rtas with session.engine=fast" in ended.err


def test_a_sweep_compares_protocols_and_every_page_holds_the_leakage(processes):
    sweep = processes.folder / "sweep"
    small = ["scenario.candidates=1", "scenario.train_size=60", "scenario.size=40", "appraisal=gradient_norm"]
    asked = ["--multirun", "protocol=shares,rtas", *small, "baselines.true_utility=false", f"hydra.sweep.dir={sweep}"]
    ended = processes.start("app", [*APP, *asked]).wait(120)
    assert ended.code == 0, ended.err[-2000:]
    (fast,), (rtas,) = (read(sweep / str(k) / "records.jsonl") for k in (0, 1))
    assert (fast.engine, rtas.engine) == ("fast", "rtas")
    assert fast.plaintext_value == rtas.plaintext_value and abs(rtas.difference) < 1e-3 * abs(rtas.value)
    pages = [
        p for p in (sweep / "1").iterdir() if p.name == "report.md" or p.name.startswith("card-") and p.suffix == ".md"
    ]
    assert len(pages) == 2
    for page in pages:
        assert " ".join(LEAKAGE.split()) in " ".join(page.read_text().split()), page.name
    assert " ".join(ended.err.split()).count(LEAKAGE) == 1  # a sweep prints no result
    assert LEAKAGE not in (sweep / "0" / "report.md").read_text()


@pytest.mark.parametrize(("transport", "victim"), [("tls", DATA_OWNER), ("tcp", MODEL_OWNER)])
def test_a_dead_party_is_named_by_who_waits_for_the_helper(transport, victim, processes, trial):
    root, where = processes.folder, f"tcp://127.0.0.1:{free_port()}"
    files = {
        name: write_npz(root / f"{name}.npz", *problem(80, 8, 3, seed=k)) for k, name in enumerate(("train", "test"))
    }
    own = {
        MODEL_OWNER: [f"party.{name}={path}" for name, path in files.items()],
        DATA_OWNER: [f"party.data={write_npz(root / 'seller.npz', *problem(60, 8, 3, seed=9))}"],
        DEALER: [],
    }
    common = ["session=join", f"session.rendezvous={where}", "protocol=rtas", "model.l2=1e-2", "appraisal=all"]
    common += [f"session.transport={transport}", f"session.tls={trial}", "appraisal.finetuning.steps=1500"]
    started = {role: processes.app(role, *common, f"session.role={role}", *own[role]) for role in ROLES}
    started[MODEL_OWNER].until("[1/3]", 90)
    os.kill(started[victim].popen.pid, signal.SIGKILL)
    others = {role: party for role, party in started.items() if role != victim}
    assert gone([party.popen.pid for party in others.values()], 20)
    for role, party in others.items():
        ended = party.wait(1)
        assert ended.code not in (0, None) and f"error: {victim} is gone" in ended.err, (role, ended.err)
        assert LEAKAGE in ended.err  # each party is told before anything is shared
