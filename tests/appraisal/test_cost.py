"""What a run will cost, foretold from sizes: against a run between real processes, and as a command."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES

from mpc_appraisal import appraise
from mpc_appraisal.appraisal import cost
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.cli.app import main
from mpc_appraisal.cli.commands.cost import main as run_command
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import Digits, Resolution
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence, MlpFinetuning
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.cost_model import LAN, WAN, Forecast, NetworkLink, forecasts, rehearse, repeated, total
from mpc_appraisal.mpc.backends.registry import dry_session
from mpc_appraisal.mpc.backends.repeats import Point
from mpc_appraisal.mpc.protocols.orders import script_json
from mpc_appraisal.mpc.ring.shape_tensor import ShapeTensor, shape_of, shape_tensor
from mpc_appraisal.release import Best, Bit, Value
from mpc_appraisal.reporting.result_tables import costs_table

METHODS = (GradientNorm(), Influence(), Finetuning(steps=2, batch_size=64))
FACTS = Facts(12, 3, 30, 20, 40, 1e-2)


@pytest.fixture(scope="module")
def result():
    market = LabelNoise(train_size=100, candidates=2, size=50, test_size=40).build(*Digits().load(), seed=0)
    return appraise(market.candidates, train=market.train, test=market.test, method=list(METHODS), true_utility=True)


def private(result):
    return [record for record in result if not record.baseline]


def test_bytes_and_rounds_are_foretold_exactly(result):
    assert len(private(result)) == 6
    for record in private(result):
        assert record.estimate["rounds"] == record.rounds
        for party in ROLES:
            assert record.estimate[f"bytes_sent.{party}"] == record.bytes_sent[party], (record.method, party)
        assert record.estimate["lan_seconds"] >= record.rounds * LAN.latency


def test_baselines_have_no_estimate(result):
    assert all(record.estimate is None for record in result if record.baseline)


def test_the_report_sets_estimate_beside_measurement(result):
    table = costs_table(result)
    assert table.notes and {len(row) for row in table.rows} == {len(table.header)}
    for row in table.rows[:6]:
        cells = dict(zip(table.header, row, strict=True))
        assert cells["rounds"] == cells["estimated rounds"]
        for party in ("model owner", "data owner", "dealer"):
            assert cells[f"{party}, MB"] == cells[f"estimated {party}, MB"]
    plain = [r for r in result if r.baseline]
    assert "estimated rounds" not in costs_table(plain).header and not costs_table(plain).notes


def of(count: int, methods=METHODS) -> Forecast:
    plan = Plan(tuple(methods), 1e-2, 0, "", fit=None)
    sets = {str(k): FACTS for k in range(count)}
    runs = (
        rehearse(lambda dry: [r.cost for r in program(dry, plan, {}, {}, sets, 10.0, lambda event: None)], role)
        for role in OWNERS
    )
    return total(forecasts(*runs))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_each_further_candidate_costs_the_same(method):
    assert repeated(of(1, [method]), of(2, [method]), 4) == of(4, [method])


def test_one_session_is_cheaper_than_one_for_each_method():
    apart = [cost.estimate([method], FACTS, 2, 10.0) for method in METHODS]
    together = cost.estimate(METHODS, FACTS, 2, 10.0)
    assert together.bytes_sent[DATA_OWNER] < sum(each.bytes_sent[DATA_OWNER] for each in apart)
    assert together.rounds <= sum(each.rounds for each in apart)


def test_time_is_the_stated_model():
    forecast = Forecast({MODEL_OWNER: 10, DATA_OWNER: 4000, DEALER: 20}, rounds=7, work=900)
    assert forecast.seconds(NetworkLink("x", 0.5, 16_000), rate=300) == pytest.approx(3.5 + 2.0 + 3.0)
    assert forecast.seconds(LAN, 1e9) < forecast.seconds(WAN, 1e9)


def command(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["mpc-appraisal", "cost", *arguments])
    main()
    return capsys.readouterr().out


def test_the_command(monkeypatch, capsys):
    sizes = ("rows=50", "features=64", "train_rows=100", "test_rows=40", "candidates=2")
    out = command(monkeypatch, capsys, "appraisal=influence", "session.logit_bound=12", *sizes)
    expected = cost.estimate([Influence()], Facts(64, 10, 100, 40, 50, 1e-2), 2, 12.0)
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("influence")]
    assert int(row[1]) == expected.rounds and row[-1] == "12.00"
    assert float(row[3]) == pytest.approx(expected.bytes_sent[DATA_OWNER] / 1e6, rel=1e-3)
    slow = command(monkeypatch, capsys, "appraisal=influence", "session.logit_bound=12", *sizes, "wan.latency_ms=1e6")
    (late,) = [line.split() for line in slow.splitlines() if line.strip().startswith("influence")]
    assert float(late[-2]) == pytest.approx(1e3 * expected.rounds, rel=1e-2)


def test_the_command_counts_rows_of_small_integers_in_a_narrower_ring(monkeypatch, capsys):
    sizes = ("session.logit_bound=12", "rows=50", "features=64", "train_rows=100", "test_rows=40")

    def row(*more: str) -> list[str]:
        out = command(monkeypatch, capsys, "appraisal=influence", *sizes, *more)
        (found,) = [line.split() for line in out.splitlines() if line.strip().startswith("influence")]
        return found

    sent = []
    stated = {None: (), Resolution(255, 8): ("scale=255",), Resolution(255, 12): ("scale=255", "bits=12")}
    for resolution, words in stated.items():
        facts = replace(Facts(64, 10, 100, 40, 50, 1e-2), resolution=resolution)
        expected, found = cost.estimate([Influence()], facts, 1, 12.0), row(*words)
        assert int(found[1]) == expected.rounds
        sent.append(expected.bytes_sent[DATA_OWNER])
        assert float(found[3]) == pytest.approx(sent[-1] / 1e6, rel=1e-3)
    assert row("scale=255", "bits=8") == row("scale=255")
    assert sent[0] - sent[1] > 2 * 50 * 65 and sent[1] <= sent[2] < sent[0]  # a number of X has some bytes less
    whole, narrow = (
        command(monkeypatch, capsys, "appraisal=finetuning", *sizes, *more) for more in ((), ["scale=255"])
    )
    assert whole == narrow  # fine-tuning takes no such rows


def test_the_sizes_may_be_those_of_a_runs_data(monkeypatch, capsys, tmp_path):
    built_in = command(monkeypatch, capsys, "appraisal=gradient_norm", "data=digits", "scenario.candidates=2")
    assert "Sizes: 2 x 573 rows, 64 features, 10 classes, 150 training and 500 test rows." in built_in
    wider = command(
        monkeypatch,
        capsys,
        "appraisal=gradient_norm",
        "data=wine",
        "scenario=clean",
        "candidates=3",
        "features=random_relu",
        "features.width=20",
    )
    assert "Sizes: 3 x " in wider and " 20 features, 3 classes" in wider
    rows = {name: str(tmp_path / f"{name}.npz") for name in ("a", "b", "train", "test")}
    for k, path in enumerate(rows.values()):
        np.savez(path, x=np.eye(5)[np.arange(10 + k) % 5], y=np.arange(10 + k) % 3)
    own = [f"party.data=[{rows['a']},{rows['b']}]", f"party.train={rows['train']}", f"party.test={rows['test']}"]
    of_files = command(monkeypatch, capsys, "appraisal=influence", *own)
    assert "Sizes: 2 x 11 rows, 5 features, 3 classes, 12 training and 13 test rows." in of_files


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["data=digits", "scenario.candidates=2"], "release.row_norm=8.07, which is sqrt"),
        (["rows=10", "features=99"], "release.row_norm=10, which is sqrt"),
    ],
)
def test_a_noised_release_without_a_norm_of_rows_suggests_one(words, suggested):
    with pytest.raises(InputError, match=suggested) as error:
        run_command(["appraisal=influence", "release=dp", *words])
    assert error.value.name == "release.row_norm"
    stated = float(error.value.expected.split("release.row_norm=")[1].split(",")[0])
    run_command(["appraisal=influence", "release=dp", *words, f"release.row_norm={stated}"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["rows=10"], "features"),
        (["rows=ten", "features=3"], "rows"),
        (["rows=10", "features=3", "classes=1"], "classes"),
        (["rows=10", "features=3", "lan.mbit=0"], "lan.mbit"),
        (["rows=10", "features=3", "test_rows=0"], "test_rows"),
        (["rows=10", "features=3", "appraisal=none_such"], "arguments"),
        (["rows=10", "features=3", "session.engine=stock"], "session.engine"),
        (["rows=10", "features=3", "model.l2=-1"], "model.l2"),
        (["rows=10", "features=3", "scale=0"], "scale"),
        (["rows=10", "features=3", "scale=70000"], "bits"),  # so many bits as the scale needs
        (["rows=10", "features=3", "scale=255", "bits=7"], "scale"),
        (["rows=10", "features=3", "scale=255", "bits=17"], "bits"),
        (["rows=10", "features=3", "bits=8"], "scale"),
    ],
)
def test_what_is_wrong_is_named(arguments, name):
    with pytest.raises(InputError) as error:
        run_command(arguments)
    assert error.value.name == name


def test_a_sketch_has_the_shapes_of_a_tensor():
    real, other = torch.ones(4, 1, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    a, b = shape_tensor((4, 1)), shape_tensor((3,))
    for f in (
        lambda x, y: x + y,
        lambda x, y: 2 - x * y,
        lambda x, y: (x << 3) - (y >> 2),
        lambda x, y: (x & 7) * y,
        lambda x, y: torch.cat([x.reshape(-1), y]),
        lambda x, y: (x * y).sum(1, keepdim=True),
        lambda x, y: (x * y).t().matmul(x),
        lambda x, y: torch.div((x * y).sum(0), 3, rounding_mode="floor"),
        lambda x, y: torch.full_like(x * y, 5)[1:3],
        lambda x, y: (x * y).t().contiguous(),
        lambda x, y: (x * y).add_(y).sub_(x).mul_(x),
        lambda x, y: torch.stack([x * y, x ^ y], dim=1).clone(),
        lambda x, y: torch.stack([x * y, x * y], dim=-1, out=None).neg_(),
        lambda x, y: torch.broadcast_tensors(x, y)[1],
        lambda x, y: (x * y).to(torch.float64).log_softmax(1),
    ):
        got, expected = f(a, b), f(real, other)
        assert isinstance(got, ShapeTensor) and got.shape == expected.shape and got.dtype == expected.dtype
    for bad in (lambda: b.add_(a), lambda: torch.stack([a, b])):
        with pytest.raises(RuntimeError):
            bad()


@pytest.mark.parametrize(
    ("op", "left", "right", "options"),
    [
        ("mul", (4, 1), (3,), {}),
        ("matmul", (4, 2), (2, 3), {}),
        ("matmul", (5, 4, 2), (2, 3), {}),
        ("conv2d", (2, 3, 8, 8), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    ],
)
def test_the_shape_of_a_function_is_that_of_torch(op, left, right, options):
    assert (
        shape_of(op, left, right, options) == getattr(torch, op)(torch.ones(left), torch.ones(right), **options).shape
    )


@pytest.mark.parametrize(
    ("op", "right", "options"), [("mul", (5,), {}), ("matmul", (3, 2), {}), ("mul", (2,), {"a": 1})]
)
def test_shapes_that_do_not_go_together_are_refused(op, right, options):
    with pytest.raises((RuntimeError, TypeError)):
        shape_of(op, (4, 2), right, options)


@pytest.mark.parametrize(
    ("engine", "release"), [("fast", Value()), ("fast", Bit()), ("rtas", Value()), ("fast", Best(1))]
)
@pytest.mark.parametrize("role", OWNERS)
def test_candidates_of_one_size_are_rehearsed_by_the_same_bytes_as_if_each_were_computed(
    engine, release, role, monkeypatch
):
    methods = (GradientNorm(), Influence(), Finetuning(steps=1, batch_size=8), MlpFinetuning(hidden=2, steps=1))
    plan = Plan(methods, 1e-2, 0, "", partial(fit, l2=1e-2), {}, release=release)
    facts = {f"c{k}": Facts(4, 3, 30, 20, 40 if k == 2 else 25, 1e-2) for k in range(5)}
    answered = [("influence", "c4")]

    def dry():
        session = dry_session(engine, role)
        found = program(session, plan, {}, {}, facts, 8.0, lambda event: None, answered)
        counted = [(r.method.name, r.candidate, r.cost.bytes_sent, r.cost.rounds, r.openings) for r in found]
        return session.script, session.marks, session.ledger, counted, session.context.engine._keys, session.failure

    repeated = dry()
    monkeypatch.setattr("mpc_appraisal.appraisal.program._Repeats.knows", _start)
    *computed, failure = dry()
    assert list(repeated[:-1]) == computed and repeated[-1] == pytest.approx(failure)
    assert script_json(repeated[0]) == script_json(computed[0])


def _start(repeats, f, methods) -> bool:
    """Stand for `_Repeats.knows`, and know nothing."""
    repeats.key, repeats.start = object(), Point.of(repeats.session)
    return False


def test_the_command_counts_a_softmax_without_a_bound(monkeypatch, capsys):
    sizes = ("rows=50", "features=63", "train_rows=100", "test_rows=40", "candidates=1")
    tuning = ("appraisal=finetuning", "appraisal.steps=2", "appraisal.lr=10", "session.logit_bound=auto")
    out = command(monkeypatch, capsys, *tuning, *sizes)
    facts = Facts(63, 10, 100, 40, 50, 1e-2, row_norm=8.0)
    expected = cost.estimate([Finetuning(steps=2, lr=10.0)], facts, 1, 16.0, auto=True)
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("finetuning")]
    assert int(row[1]) == expected.rounds and row[-1] == "auto" and "rows are no longer than 8," in out


def test_a_model_without_exponentials_needs_no_bound_on_logits(monkeypatch, capsys):
    sizes = ("rows=10", "features=3", "train_rows=20", "test_rows=10", "appraisal=influence")
    assert "It is assumed that logits" in command(monkeypatch, capsys, *sizes)
    assert "It is assumed that logits" not in command(monkeypatch, capsys, *sizes, "model=linear_regression")
