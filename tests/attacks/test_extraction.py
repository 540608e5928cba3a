"""Extraction of the model through gradient-norm values: it works with guards off and fails with the defaults.

Both on the real protocol; single guards, what they stop and what not, by the plaintext formula.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import write_npz

from experiments.studies.extraction.parties import Organisations
from mpc_appraisal import Dataset, appraise
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits, read_dataset, with_bias
from mpc_appraisal.governance.catalogue.store import publish
from mpc_appraisal.methods import GradientNorm, plaintext
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import Policy, verify

PROJECT = Path(__file__).resolve().parents[2]
ROWS, TEST = Digits().load()
TRAIN, OWN = (ROWS.subset(torch.arange(start, start + 600)) for start in (0, 600))  # the model owner's, the attacker's
LONGEST = with_bias(OWN.x.to(torch.float64)).norm(dim=1).max().item()
FAR = math.sqrt(LONGEST**2 - 1)  # probes as long as the longest row


@pytest.fixture(scope="module")
def model() -> SoftmaxRegression:
    return fit(TRAIN, 3e-3)


def small(classes: int, features: int = 4) -> SoftmaxRegression:
    draw = torch.Generator().manual_seed(classes)
    return SoftmaxRegression(torch.randn(features + 1, classes, generator=draw, dtype=torch.float64), 1e-2)


def rows(features: int = 4, count: int = 1000) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def values(model: SoftmaxRegression, candidates: list[Dataset]) -> list[float]:
    return [plaintext(GradientNorm(), model, None, None, candidate)[0] for candidate in candidates]


def noisy(model: SoftmaxRegression, sigma: float, copies: int) -> tuple[list[float], list[Dataset], float]:
    """Values with noise of sigma times the sensitivity of the summed gradient to one row, sqrt(2) R."""
    candidates, noise = attack.probes(64, 10, FAR, rows=copies), sigma * math.sqrt(2) * LONGEST
    drawn = torch.randn(len(candidates), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (torch.tensor(values(model, candidates)) + noise * drawn).tolist(), candidates, noise


def centred(theta: torch.Tensor) -> torch.Tensor:
    return theta - theta.mean(1, keepdim=True)


def test_650_appraisals_are_the_whole_model_of_digits(model):
    candidates = attack.probes(64, 10)
    stolen = attack.recover(values(model, candidates), candidates)
    assert len(candidates) == attack.appraisals(64, 10) == 650 and {c.rows for c in candidates} == {1}
    assert attack.agreement(model, stolen, TEST.x) == 1.0
    assert torch.allclose(stolen.theta, centred(model.theta), atol=1e-9, rtol=0)


def test_two_classes_take_one_appraisal_a_weight():
    model = small(2, 30)
    candidates = attack.probes(30, 2, size=1.0)
    stolen = attack.recover(values(model, candidates), candidates)
    assert len(candidates) == attack.appraisals(30, 2) == 31
    assert torch.allclose(stolen.theta, centred(model.theta), atol=1e-9, rtol=0)


def test_probabilities_follow_from_norms_of_the_gradient_by_autograd(model):
    """The identity itself, against torch's own gradient instead of the method's formula."""
    x, norms = TEST.x[:1].to(torch.float64), []
    for label in range(10):
        theta = model.theta.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(with_bias(x) @ theta, torch.tensor([label]))
        norms.append(torch.autograd.grad(loss, theta)[0].norm())
    g = (torch.stack(norms) / with_bias(x).norm()).square()
    assert torch.allclose(1 / 10 + (g.mean() - g) / 2, model.logits(x).softmax(1)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_private_protocol_gives_the_model_away(classes):
    """Three processes: one row each, and 50 near-copies, as a minimum number of rows would ask for; one launch."""
    model = small(classes)
    sets = {n: attack.probes(4, classes, 1.0, rows=n, jitter=0.01 * (n > 1)) for n in (1, 50)}
    every = [c.renamed(f"{n} rows, {c.name}") for n, candidates in sets.items() for c in candidates]
    result = appraise(every, model=model, method="gradient_norm", session="spawn", l2=model.l2)
    assert all(record.session == "spawn" and record.openings[-1]["numbers"] == 1 for record in result)
    for n, candidates in sets.items():
        found = [result[f"{n} rows, {c.name}"].value for c in candidates]
        stolen = attack.recover(found, candidates)
        assert attack.agreement(model, stolen, rows()) >= 0.99
        assert attack.probability_error(model, stolen, rows()) <= (2e-3 if n == 1 else 1e-2)


# --- the guards that organisations have by default: three processes, see experiments/studies/extraction


@pytest.fixture(scope="module")
def defaults(model, tmp_path_factory):
    """What the attacker was told, and how many values the ledger counted then, by what it tried; in this order."""
    folder = tmp_path_factory.mktemp("defaults")
    single = attack.probes(64, 10)
    sets = {
        name: attack.probes(64, 10, directions=along, rows=100, jitter=0.05)
        for name, along in (("unit", torch.eye(64)[:2]), ("principal", attack.principal(OWN.x, 2)))
    }
    unit, told = sets["unit"], {}

    def attempt(name, candidates, *public, **own):
        found = running.session(candidates, *public, **own)
        charged = [c for account in verify(running.ledger).accounts.values() for c in account.charges]
        told[name] = found, len(charged)

    def listed(data, name):
        file = write_npz(folder / f"{name}.npz", data.x.numpy(), data.y.numpy())
        about = {"name": name, "types": {"binary": 0, "integer": 0, "real": 64}}
        path = publish(read_dataset(file), about, folder / "catalogue", folder / f"{name}.salt")
        return [f"party.listing={path}", f"party.secret={folder / f'{name}.salt'}"]

    with Organisations(folder, model) as running:
        attempt("one row", single[:1])
        attempt("one row among many", [*unit[:19], single[19]])
        attempt("21 at once", unit[:21])
        attempt("15", unit[:15])
        attempt("6 more", unit[15:21], names=[f"other-{k}" for k in range(6)])
        attempt("5 more", unit[15:20], names=[f"other-{k}" for k in range(5)])
        attempt("another", unit[20:21], names=["new"])
    with Organisations(folder, model) as running:  # new processes, the same model
        attempt("the first again", unit[:1])
        attempt("under another name", unit[:1], names=["renamed"])
        attempt("listed", unit[:1], seller=listed(unit[0], "listed"))
        attempt("listed anew", unit[:1], seller=listed(unit[0], "anew"))
        attempt("with noise", unit[:1], "release=dp", "release.row_norm=5")
        attempt("a bit", unit[:1], "release=bit", buyer=["party.threshold=-100"])
        attempt("to the data owner", unit[:1], "release.to=data_owner")
        attempt("to the model owner", single[:2], "release.to=model_owner")
        attempt("guards off", single[:21], buyer=["party.ledger=none"])
        attempt("principal", sets["principal"][:20], buyer=[f"party.ledger={folder / 'new.ledger'}"])
        few = small(3)
        SoftmaxRegression(few.theta, model.l2).save(folder / "small.npz")
        for name, n, ledger in (("small, guards off", 1, ["party.ledger=none"]), ("small", 100, [])):
            sets[name] = attack.probes(4, 3, 1.0, rows=n, jitter=0.01 * (n > 1))
            attempt(name, sets[name], buyer=[f"party.model={folder / 'small.npz'}", *ledger])
    return told, sets


def test_one_row_is_refused_by_default(defaults):
    for name in ("one row", "one row among many"):
        found, charged = defaults[0][name]
        assert "budget.rows: got 1; expected 100 rows or more" in found.refusal
        assert found.values == [] and not found.computed and charged == 0


def test_20_values_are_told_by_default_and_no_more_in_any_number_of_sessions(defaults):
    told, _ = defaults
    assert Policy().plain_values == 20 and Policy().minimum_rows == 100
    for name, count, charged in (("15", 15, 15), ("5 more", 5, 20)):
        found, spent = told[name]
        assert len(found.values) == count and None not in found.values and spent == charged
    for name, charged in {"21 at once": 0, "6 more": 15, "another": 20}.items():
        found, spent = told[name]
        assert "budget.plain_values: got 21; expected at most 20" in found.refusal
        assert found.values == [] and not found.computed and spent == charged  # all or none, and before any sharing


def test_no_other_name_listing_repetition_or_release_gets_another_value(defaults):
    for name in (
        "the first again",
        "under another name",
        "listed",
        "listed anew",
        "with noise",
        "a bit",
        "to the data owner",
    ):
        found, charged = defaults[0][name]
        assert "budget.plain_values: got 21" in found.refusal, (name, found)
        assert found.values == [] and not found.computed and charged == 20


def test_what_the_defaults_tell_is_near_chance(defaults, model):
    """Whoever has labelled rows can train a model of its own instead; see the report for that."""
    told, sets = defaults
    values = {"unit": told["15"][0].values + told["5 more"][0].values, "principal": told["principal"][0].values}
    for name, found in values.items():
        candidates = sets[name][:20]
        models = [attack.recover(found, candidates), attack.most_likely(found, candidates, 1.0)]
        assert max(attack.agreement(model, stolen, TEST.x) for stolen in models) <= 0.25, name


def test_with_guards_off_the_same_attacker_is_told_all(defaults):
    found, charged = defaults[0]["guards off"]
    assert found.refusal is None and len(found.values) == 21 and None not in found.values and charged == 20


def test_told_to_the_model_owner_alone_the_attacker_sees_no_value(defaults):
    found, charged = defaults[0]["to the model owner"]
    assert found.values == [None, None] and found.decisions == [None, None]
    assert found.refusal is None and found.computed and charged == 20  # its ledger counts what it tells


def test_a_small_model_is_lost_between_organisations_without_ledgers_and_with_them_too(defaults):
    """15 values are all of it, and below the cap: the defaults protect models of many more."""
    told, sets = defaults
    for name in ("small, guards off", "small"):
        found, _ = told[name]
        assert found.refusal is None and len(found.values) == 15
        assert attack.agreement(small(3), attack.recover(found.values, sets[name]), rows()) >= 0.99


# --- single guards, by the plaintext formula


def test_a_minimum_of_rows_stops_nothing(model):
    for jitter in (0.0, 0.05):  # exact copies; rows that all differ
        candidates = attack.probes(64, 10, rows=100, jitter=jitter)
        assert len(candidates[0].x.unique(dim=0)) == (100 if jitter else 1)
        stolen = attack.recover(values(model, candidates), candidates)
        assert attack.agreement(model, stolen, TEST.x) >= 0.99


def test_a_cap_of_20_appraisals_stops_it_and_one_of_130_does_not(model):
    """20 appraisals are x = 0 and one direction, unit or principal: near chance, the most predicted share."""
    assert 0.1 <= attack.chance(model, TEST.x) <= 0.15
    agreements = []
    for along in (torch.eye(64)[:1], attack.principal(OWN.x, 1), attack.principal(OWN.x, 12)):
        candidates = attack.probes(64, 10, directions=along)
        assert len(candidates) in (20, 130)
        stolen = attack.recover(values(model, candidates), candidates)
        agreements.append(attack.agreement(model, stolen, TEST.x))
    assert max(agreements[:2]) <= 0.25 and agreements[2] >= 0.95


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_noise_stops_it(model, sigma):
    found, candidates, noise = noisy(model, sigma, copies=1)
    for stolen in (attack.recover(found, candidates), attack.most_likely(found, candidates, noise)):
        assert attack.agreement(model, stolen, TEST.x) <= 0.25


def test_noise_of_one_rows_sensitivity_does_not_stop_copies(model):
    found, candidates, noise = noisy(model, 1.0, copies=100)
    assert attack.agreement(model, attack.most_likely(found, candidates, noise), TEST.x) >= 0.75


def bits_of(model: SoftmaxRegression, count: int, seed: int) -> tuple[list[bool], list[Dataset]]:
    """Whether norms of copies of the attacker's rows, with labels drawn at random, are within their median."""
    draw = torch.Generator().manual_seed(seed)
    chosen = zip(torch.randint(600, (count,), generator=draw), torch.randint(10, (count,), generator=draw), strict=True)
    candidates = [Dataset(OWN.x[k].expand(100, -1), y.expand(100), 10, f"{y}") for k, y in chosen]
    norms = -torch.tensor(values(model, candidates))
    return (norms <= norms.median()).tolist(), candidates


def test_bits_tell_less_than_values_but_enough_of_them_the_model(model):
    few, many = (attack.from_bits(*bits_of(model, count, 0)) for count in (20, 650))
    assert attack.agreement(model, few, TEST.x) <= 0.35
    assert attack.agreement(model, many, TEST.x) >= 0.7


def test_noise_on_the_squared_norm_and_a_guess_to_start_from(model):
    candidates = attack.probes(64, 10, FAR, rows=100)
    draw = torch.randn(650, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    squares, noise = torch.tensor(values(model, candidates)).square(), 100.0
    stolen = attack.most_likely((squares + noise * draw).tolist(), candidates, noise, power=2)
    assert attack.agreement(model, stolen, TEST.x) >= 0.9
    own = fit(OWN, 3e-3)
    unsaid = attack.most_likely([v**2 for v in values(model, candidates[:20])], candidates[:20], 1e9, 0.1, 500, 2, own)
    assert torch.allclose(unsaid.theta, centred(own.theta), atol=1e-6)  # noise that says nothing leaves the guess


def test_repeated_probes_average_noise_out():
    model, errors = small(3), []
    for repeats in (1, 100):
        candidates = attack.probes(4, 3, 1.0, repeats=repeats)
        assert len(candidates) == attack.appraisals(4, 3, repeats)
        drawn = torch.randn(len(candidates), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        found = (torch.tensor(values(model, candidates)) + 0.02 * drawn).tolist()
        errors += [
            attack.probability_error(model, stolen, rows())
            for stolen in (attack.recover(found, candidates), attack.most_likely(found, candidates, 0.02))
        ]
    assert errors[2] < errors[0] / 3 and errors[3] < errors[1] / 3


def test_bad_probes_and_values_are_named():
    candidates = attack.probes(4, 3)
    with pytest.raises(InputError, match="values"):
        attack.recover([1.0], candidates)
    with pytest.raises(InputError, match="all 3 labels"):
        attack.recover([1.0] * 14, candidates[:14])
    with pytest.raises(InputError, match="noise"):
        attack.most_likely([1.0] * 15, candidates, 0.0)
    with pytest.raises(InputError, match="bits"):
        attack.from_bits([True], candidates)
    for wrong, options in (
        ("size", {"size": 0.0}),
        ("rows", {"rows": 0}),
        ("directions", {"directions": torch.eye(3)}),
    ):
        with pytest.raises(InputError, match=wrong):
            attack.probes(4, 3, **options)


def test_the_experiment_at_a_small_size(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "MPC_APPRAISAL_DATA"} | {"OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(PROJECT)
    options = ["--small", "--seeds", "1", "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    command = [sys.executable, "-m", "experiments", "extraction", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in (tmp_path / "extraction.jsonl").read_text().splitlines()]
    guarded = {r["guard"]: r for r in found if r["part"] == "guards" and r["session"] == "join"}
    assert guarded["defaults"]["answered"] == 20 and guarded["defaults"]["agreement"] <= 0.25
    assert guarded["defaults, one row each"]["answered"] == guarded["to the model owner alone"]["answered"] == 0
    summary = (tmp_path / "extraction.md").read_text().split("## Guards")[0]
    assert "budget.rows: got 1; expected 100 rows or more" in summary and "20 values are told" in summary
