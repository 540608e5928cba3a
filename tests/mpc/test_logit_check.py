"""The check on shares that trained weights keep the public bound on logits: numerically, at its limit, in processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import oracles
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, write_npz
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from three import run, sharing

from mpc_appraisal import Spawn, appraise
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.roles import STOCK_TRUST
from mpc_appraisal.data import Dataset, Digits, with_bias
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.fast import DrySession, TrainingContext
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT
from mpc_appraisal.mpc.protocols.comparison import none_negative
from mpc_appraisal.mpc.protocols.logit_bound import (
    CHECK_BITS,
    TrainedWeights,
    squared_norms,
    weight_limit,
)
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor

torch.set_num_threads(1)
L2, D, C = 1e-2, 4, 3
MARKET = LabelNoise(train_size=150, candidates=3, size=40, test_size=50).build(*Digits().load(), seed=0)


def centred(weights: torch.Tensor) -> np.ndarray:
    array = weights.numpy()
    return array - array.mean(-1, keepdims=True)


# ---- norms on shares


def test_squared_norms_on_shares_are_those_of_numpy():
    weights, bits, at = torch.randn(5, 30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), 26, 18
    share = sharing(weights, bits)
    done = run(lambda engine: squared_norms(engine, share(engine), bits, at))
    theirs = np.square(7 * centred(weights)).sum(1)
    # Each of 30 entries is off by a unit at most, and by what 26 bits have rounded.
    off = 2.0**-at + 14 * 2.0**-bits
    slack = 2 * off * np.sqrt(30 * theirs) + 30 * off**2
    assert (np.abs(done.value(2 * at).numpy() - theirs) <= slack).all() and slack.max() < 1e-2


def test_the_weights_of_every_step_of_finetuning_are_told():
    train, test, candidate = (Dataset(*oracles.problem(n, D, C, seed, 0.1), C) for seed, n in enumerate((40, 30, 25)))
    model, method = fit(train, L2), Finetuning(steps=3, lr=0.7)
    facts, owned = Facts.of(model, train, test, candidate), method.prepare(model, train, test)
    x, y = with_bias(candidate.x), candidate.one_hot()
    norms: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    class Normed(TrainedWeights):
        def record(self, share, bits):
            found = squared_norms(self.engine, share[None], bits, CHECK_BITS)
            if not self.engine.dry:
                norms[self.engine.me].append(found)

    def tune(engine):
        context = TrainingContext(engine, 16.0)
        context.trained = Normed(engine)

        def private(owner, values):
            value = values.to("meta" if engine.dry else "cpu") if engine.me == owner else None
            return PrivateTensor(context, owner, value, values.shape, "values")

        method.score({k: private(0, v) for k, v in owned.items()}, private(1, x), private(1, y), facts)

    run(tune)
    found = torch.cat([a + b for a, b in zip(*norms.values(), strict=True)]).double() / 4.0**CHECK_BITS
    rows, labels = torch.cat([with_bias(train.x), x]), torch.cat([train.one_hot(), y])
    theta, theirs = model.theta.clone(), []
    for _ in range(3):
        theta = theta - 0.7 * (rows.t() @ (torch.softmax(rows @ theta, 1) - labels) / len(rows) + 2 * L2 * theta)
        theirs.append(np.square(C * centred(theta)).sum(0))
    assert found.shape == (3, C) and np.abs(found.numpy() - np.array(theirs)).max() < 2e-3 < 0.01 * np.min(theirs)
    assert min(np.abs(a - b).max() for a, b in zip(theirs, theirs[1:], strict=False)) > 2e-3, "steps could be confused"


# ---- the limit


def test_a_negative_number_among_others_is_seen():
    large = 2**62 - 1
    for ring, expected in (([0, 1, large], 1), ([0, -1, large], 0), ([-large, -1, -5], 0), ([0], 1), ([5] * 70, 1)):
        share = sharing(torch.zeros(len(ring)), 0)
        exact = torch.tensor(ring)
        done = run(
            lambda e, share=share, exact=exact: none_negative(e, share(e) + (0 if e.dry else e.public_share(exact)))
        )
        assert (done.results[0] + done.results[1]).tolist() == [expected]


def verdict(limit, *weights: torch.Tensor, bits: int = 26) -> int:
    shares = [sharing(w, bits, seed) for seed, w in enumerate(weights)]

    def program(engine):
        trained = TrainedWeights(engine, limit)
        for share in shares:
            trained.record(share(engine), bits)
        return trained.verdict()

    done = run(program)
    return (done.results[0] + done.results[1]).item()


def of_norm(norm: float, shape: tuple[int, int], worst: int = 0) -> torch.Tensor:
    """Return weights with centred norm `norm` in class `worst` and less in the others. Their class mean is not zero."""
    d, c = shape
    weights = torch.randn(d, c, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = weights - weights.mean(1, keepdim=True)
    weights *= 0.1 / weights.norm(dim=0)
    weights[:, worst] *= 20
    weights = weights - weights.mean(1, keepdim=True)
    return weights * (norm / weights.norm(dim=0).max()) + 5.0


@pytest.mark.parametrize(
    ("shape", "bound", "row_norm"), [((785, 10), 56.0, 16.0), ((65, 3), 8.0, 5.0), ((5, 2), 20.0, 90.0)]
)
@pytest.mark.parametrize("lr", [0.3, 1e5])
def test_just_below_the_limit_passes_and_just_above_it_does_not(shape, bound, row_norm, lr):
    facts = Facts(shape[0] - 1, shape[1], 600, 100, 400, L2, longest=row_norm)
    limit = weight_limit("finetuning", bound, row_norm, shape, lambda norm: Finetuning(lr=lr).reach(norm, facts))
    assert limit.bits == CHECK_BITS or lr > 1  # long steps leave fewer bits
    # Stated slack: each entry of C times the centred weights is cut within a unit.
    slack = math.sqrt(shape[0]) * (2.0**-limit.bits / shape[1] + 2.0**-25)
    below, above = of_norm(limit.norm - slack, shape), of_norm(limit.norm + slack, shape, worst=shape[1] - 1)
    assert verdict(limit, below) == 1 and verdict(limit, above) == 0
    assert verdict(limit, below, below, below) == 1 and verdict(limit, below, above, below) == 0
    # What one step can make of weights that passed is seen too, and does not wrap.
    assert verdict(limit, of_norm(0.99 * limit.reach, shape)) == 0 and limit.reach > limit.norm


def test_weights_within_the_limit_keep_the_bound_when_all_is_rounded_against_it():
    for d, c, bound, row_norm in ((785, 10, 56.0, 16.0), (3073, 10, 200.0, 50.0), (5, 2, 2.0, 90.0)):
        limit = weight_limit("m", bound, row_norm, (d, c), lambda norm: 2 * norm)
        along = torch.full((d,), 1 / math.sqrt(d), dtype=torch.float64)
        row = row_norm * along + 2.0**-17
        weight = limit.norm * along + 2.0**-16 + 2.0**-18 + 2.0**-limit.bits / c
        assert 0.97 * bound < row @ weight + 2.0**-14 <= bound * (1 + 1e-12)


@pytest.mark.parametrize("lr", [0.01, 1.0, 40.0])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_one_step_stays_within_reach(lr, l2):
    generator = torch.Generator().manual_seed(0)
    for hostile in (False, True):
        x = torch.randn(50, D + 1, dtype=torch.float64, generator=generator)
        x = x / x.norm(dim=1, keepdim=True) * 3.0 if not hostile else torch.full_like(x, 3.0 / math.sqrt(D + 1))
        y = torch.eye(C, dtype=torch.float64)[torch.zeros(50, dtype=torch.int64) if hostile else torch.arange(50) % C]
        theta = torch.randn(D + 1, C, dtype=torch.float64, generator=generator)
        theta[:, 0] -= 3.0 * hostile
        before = np.linalg.norm(centred(theta), axis=0).max()
        after = theta - lr * (x.t() @ (torch.softmax(x @ theta, 1) - y) / 50 + 2 * l2 * theta)
        reach = Finetuning(lr=lr).reach(before, Facts(D, C, 0, 0, 50, l2, longest=3.0))
        largest = np.linalg.norm(centred(after), axis=0).max()
        assert largest <= reach and (not hostile or lr < 40 or largest > 0.4 * reach)


def test_what_cannot_be_checked_is_refused():
    for bound, reach in ((56.0, lambda norm: math.inf), (1e-6, lambda norm: norm), (56.0, lambda norm: 1e9)):
        with pytest.raises(InputError, match=r"^the bound on logits.*appraisal\.lr.*session\.logit_bound"):
            weight_limit("finetuning", bound, 16.0, (785, 10), reach)


# ---- in the program


@dataclass(frozen=True)
class Silent(Influence):
    """A method that states that it trains, and records no weights."""

    name: ClassVar[str] = "silent"
    logit_growth: ClassVar[float] = 1.5

    def reach(self, norm, facts):
        return norm


@dataclass(frozen=True)
class Unstated(Finetuning):
    """A method that trains and does not state it."""

    name: ClassVar[str] = "unstated"
    logit_growth: ClassVar[float] = 1.0


def dry(method) -> DrySession:
    session, facts = DrySession(), Facts(12, 3, 30, 20, 40, L2)
    plan = Plan((method,), L2, 0, "", fit=None)
    program(session, plan, {}, {}, {"a": facts, "b": facts}, 10.0, lambda event: None)
    return session


def test_a_dry_run_holds_the_check():
    ledger = dry(Finetuning(steps=2)).ledger
    assert [opening.what for opening in ledger] == [LOGIT_CHECK_WHAT, Finetuning.opens] * 2
    assert [opening.what for opening in dry(GradientNorm()).ledger] == [GradientNorm.opens] * 2


@pytest.mark.parametrize(
    "method", [Silent(), Unstated(steps=1)], ids=["says and does not tell", "tells and does not say"]
)
def test_a_method_that_trains_says_so_and_tells_of_its_weights(method):
    with pytest.raises(AppraisalError, match=r"logit_growth.*ops\.record_weights|ops\.record_weights.*logit_growth"):
        dry(method)


# ---- between processes


@pytest.fixture(scope="module")
def healthy():
    methods = [GradientNorm(), Finetuning(steps=4)]
    own, session = {"train": MARKET.train, "test": MARKET.test}, Spawn(logit_bound=None)
    return appraise(MARKET.candidates[:2], **own, method=methods, l2=L2, session=session)


def test_a_healthy_run_opens_one_bit_more_and_its_values_are_the_plaintext_ones(healthy):
    for record in healthy.of("finetuning"):
        assert abs(record.difference) < 2e-4 < 0.2 * abs(record.plaintext_value)
        check, value = record.openings
        assert (check["what"], check["numbers"], check["to"]) == (LOGIT_CHECK_WHAT, 1, [MODEL_OWNER, DATA_OWNER])
        assert (value["what"], value["numbers"], value["to"]) == (Finetuning.opens, 1, [MODEL_OWNER, DATA_OWNER])
        assert record.failure_probability is not None, "the check leaves the count of failures as it was"
        assert record.estimate["rounds"] == record.rounds
        assert {role: record.estimate[f"bytes_sent.{role}"] for role in ROLES} == record.bytes_sent
    for record in healthy.of("gradient_norm"):
        assert [opening["what"] for opening in record.openings] == [GradientNorm.opens]


def test_crypten_as_shipped_needs_no_bound():
    session = Spawn(engine="stock")
    (record,) = [
        r
        for r in appraise(
            MARKET.candidates[:1],
            train=MARKET.train,
            test=MARKET.test,
            method=Finetuning(steps=1),
            session=session,
            l2=L2,
            true_utility=False,
        )
        if not r.baseline
    ]
    assert [opening["what"] for opening in record.openings] == [Finetuning.opens] and abs(record.difference) < 2e-3
    assert record.trust == STOCK_TRUST


FOLDERS = {MODEL_OWNER: "buyer", DATA_OWNER: "seller", DEALER: "dealer"}


@pytest.fixture(scope="module")
def overshot(module_processes):
    """On digits, at a rate with which weights leave the bound by a little and values are a few percent wrong."""
    root, seller = module_processes.folder, MARKET.candidates[0].data
    parts = {"buyer/train": MARKET.train, "buyer/test": MARKET.test, "seller/seller": seller}
    files = {k: write_npz(root / f"{k}.npz", d.x.numpy(), d.y.numpy()) for k, d in parts.items()}
    public = [
        "session=join",
        "session.logit_bound=null",
        f"session.rendezvous=tcp://127.0.0.1:{free_port()}",
        "appraisal=finetuning",
        "appraisal.lr=2.4",
        "model.l2=0.1",
    ]
    own = {
        MODEL_OWNER: [f"party.train={files['buyer/train']}", f"party.test={files['buyer/test']}"],
        DATA_OWNER: [f"party.data={files['seller/seller']}"],
        DEALER: [],
    }
    started = {r: module_processes.app(FOLDERS[r], *public, f"session.role={r}", *own[r]) for r in ROLES}
    return root, {role: process.wait(120) for role, process in started.items()}


@pytest.mark.parametrize("role", [MODEL_OWNER, DATA_OWNER])
def test_a_rate_that_leaves_the_bound_is_refused_by_name_at_both_owners(overshot, role):
    _, ended = overshot
    assert ended[role].code != 0
    for part in (
        "finetuning",
        "left the public bound on logits",
        "1.62",
        "appraisal.lr",
        "appraisal.steps",
        "logit_bound",
    ):
        assert part in ended[role].err, (part, ended[role].err[-2000:])


def test_nobody_is_left_with_a_value(overshot):
    root, ended = overshot
    assert ended[DEALER].code != 0
    for role in ROLES:
        left = list((root / FOLDERS[role] / "run").rglob("*.jsonl"))
        assert all(path.read_text() == "" for path in left), left
        assert "value" not in ended[role].out.lower()
