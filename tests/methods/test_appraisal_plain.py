"""The methods in plaintext against autograd for each example, the full Hessian, torch's SGD and finite differences."""

from __future__ import annotations

import math
from pathlib import Path

import oracles
import pytest
import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import (
    METHODS,
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    Methods,
    MlpFinetuning,
    as_methods,
    plaintext,
    scaled,
)
from mpc_appraisal.methods.influence import inverse_hessian_product
from mpc_appraisal.models.training import fit, union, utility
from mpc_appraisal.mpc import ops

D, C, L2 = 4, 3, 1e-2
CONF = Path(__file__).parents[2] / "conf"


def data(n: int, seed: int, noise: float = 0.1, classes: int = C) -> Dataset:
    return Dataset(*oracles.problem(n, D, classes, seed, noise), classes, f"seed {seed}")


TRAIN, TEST, CANDIDATE = data(40, 1), data(30, 2, 0.0), data(25, 3)
MODEL = fit(TRAIN, L2)
SET = {"train": (TRAIN.x, TRAIN.y), "test": (TEST.x, TEST.y), "candidate": (CANDIDATE.x, CANDIDATE.y)}


# ---- gradient norm, eq. 3


@pytest.mark.parametrize("rows", [1, 2, 25, 700])
def test_gradient_norm_is_the_norm_of_summed_example_gradients(rows):
    candidate = data(rows, 4)
    theirs = oracles.example_gradients(MODEL.theta, candidate.x, candidate.y).sum(0).norm().item()
    value, paper = plaintext(GradientNorm(), MODEL, None, None, candidate)
    assert paper == pytest.approx(theirs, rel=1e-10) and value == -paper


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 5_940, 1_000_000])
@pytest.mark.parametrize("row_norm", [1.0, 16.0, 28_000.0])
def test_the_scale_of_the_norm_fits_the_ring(rows, row_norm):
    scale = GradientNorm.scale(Facts(D, C, 0, 0, rows, L2, row_norm))
    assert math.log2(scale).is_integer()
    largest = scale * rows * math.sqrt(2) * row_norm  # every row wrong with certainty, and as long as may be
    assert 2.0**8 / 2 <= largest <= 2.0**9
    assert largest**2 * 2.0**36 < 2.0**55  # with 36 fractional bits, below what is refused as implausible


def test_a_norm_rounded_below_zero_is_zero():
    assert GradientNorm().paper_value(-(2.0**-16), Facts(D, C, 0, 0, 10, L2)) == 0.0


# ---- influence, eq. 7


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_influence_is_the_double_sum_with_the_dense_inverse(classes, damping):
    sets = [data(n, seed, 0.1, classes) for n, seed in ((40, 1), (30, 2), (25, 3))]
    model = fit(sets[0], L2)
    theirs = oracles.influence(model.theta, *((s.x, s.y) for s in sets), L2, damping)
    value, paper = plaintext(Influence(damping), model, *sets)
    assert paper == pytest.approx(theirs, rel=1e-8) and value == -paper


def test_influence_has_the_sign_and_size_of_a_slight_upweighting():
    # The candidate's mean loss enters the objective with weight eps: d(test loss)/d(eps) at 0 is eq. 7's number.
    x, y = torch.cat([TRAIN.x, CANDIDATE.x]), torch.cat([TRAIN.y, CANDIDATE.y])

    def test_loss(eps: float) -> float:
        weights = torch.cat([torch.full((40,), 1 / 40), torch.full((25,), eps / 25)]).double()
        return oracles.loss(oracles.descended(x, y, C, L2, weights), TEST.x, TEST.y).item()

    slope = (test_loss(1e-4) - test_loss(-1e-4)) / 2e-4
    assert plaintext(Influence(), MODEL, TRAIN, TEST, CANDIDATE)[1] == pytest.approx(slope, rel=1e-4)


def test_good_data_is_worth_more_than_bad_data_by_influence_and_by_utility():
    good = data(25, 5, 0.0)
    bad = Dataset(good.x, (good.y + 1) % C, C)
    for appraise in (
        lambda c: plaintext(Influence(), MODEL, TRAIN, TEST, c)[0],
        lambda c: plaintext(Finetuning(), MODEL, TRAIN, TEST, c)[0],
        lambda c: plaintext(GradientNorm(), MODEL, None, None, c)[0],
        lambda c: utility(TRAIN, TEST, c, L2, MODEL),
    ):
        assert appraise(good) > appraise(bad)


def test_the_inverse_hessian_product_solves_the_dense_system():
    gradient = torch.randn(D + 1, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    solution = inverse_hessian_product(MODEL, TRAIN, gradient, damping=0.1)
    h = torch.from_numpy(oracles.hessian(MODEL.theta, TRAIN.x, TRAIN.y, L2 + 0.05))
    assert (h @ solution.reshape(-1) - gradient.reshape(-1)).norm() < 1e-9 * gradient.norm()


def test_features_of_very_different_scale_are_solved_too():
    spread = Dataset(TRAIN.x * torch.tensor([1e-3, 1.0, 30.0, 1e3]), TRAIN.y, C)
    gradient = torch.ones(D + 1, C, dtype=torch.float64)
    solution = inverse_hessian_product(MODEL, spread, gradient)
    h = torch.from_numpy(oracles.hessian(MODEL.theta, spread.x, spread.y, L2))
    assert (h @ solution.reshape(-1) - gradient.reshape(-1)).norm() < 1e-8 * gradient.norm()


def test_a_gradient_of_zero_has_no_direction():
    zero = torch.zeros(D + 1, C, dtype=torch.float64)
    assert torch.equal(inverse_hessian_product(MODEL, TRAIN, zero), zero)


def test_a_singular_hessian_is_an_error():
    # One row and no regulariser: the Hessian of 15 weights has rank two and the test gradient lies outside its range.
    bare = type(MODEL)(MODEL.theta, 0.0)
    with pytest.raises(AppraisalError, match="singular.*appraisal.damping"):
        Influence().prepare(bare, TRAIN.subset([0]), TEST)


# ---- fine-tuning, eq. 4


@pytest.mark.parametrize("l2", [0.0, L2])
@pytest.mark.parametrize("lr", [0.001, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("steps", "batch_size"), [(1, None), (5, None), (1, 8), (20, 8), (3, 65), (3, 1000)])
def test_finetuning_is_sgd(steps, batch_size, lr, l2):
    method = Finetuning(steps, lr, batch_size, seed=7)
    model = type(MODEL)(MODEL.theta, l2)
    facts = Facts.of(model, TRAIN, TEST, CANDIDATE)
    batches = [torch.cat([own, other + TRAIN.rows]) for own, other in method.schedule(facts)]
    both = union(TRAIN, CANDIDATE)
    after = oracles.finetuned(model.theta, both.x, both.y, l2, lr, batches)
    theirs = (oracles.loss(after, *SET["test"], "sum") - oracles.loss(model.theta, *SET["test"], "sum")).item()
    value, paper = plaintext(method, model, TRAIN, TEST, CANDIDATE)
    assert paper == pytest.approx(theirs, rel=1e-8, abs=1e-11)
    assert value == -paper / TEST.rows


def test_the_batches_are_full_reshuffled_and_public():
    method, facts = Finetuning(steps=16, batch_size=10, seed=3), Facts(D, C, 40, 30, 25, L2)
    steps = [torch.cat([own, other + 40]).tolist() for own, other in method.schedule(facts)]
    assert len(steps) == 16 and all(len(set(step)) == 10 for step in steps)
    first, second = (sum(steps[i : i + 6], []) for i in (0, 6))
    assert len(set(first)) == len(set(second)) == 60 and first != second  # 6 whole batches of 65 rows, then a new order
    assert all(0 <= row < 65 for row in first)
    again, other = (
        [torch.cat([a, b + 40]).tolist() for a, b in Finetuning(16, 1.0, 10, seed).schedule(facts)] for seed in (3, 4)
    )
    assert steps == again != other


def test_without_batches_every_step_sees_every_row_once():
    for own, other in Finetuning(steps=3).schedule(Facts(D, C, 40, 30, 25, L2)):
        assert own.tolist() == list(range(40)) and other.tolist() == list(range(25))


def test_long_finetuning_reaches_the_true_utility():
    # Eq. 4 "can approximate data utility arbitrarily well".
    value, _ = plaintext(Finetuning(steps=4000, lr=0.5), MODEL, TRAIN, TEST, CANDIDATE)
    assert value == pytest.approx(utility(TRAIN, TEST, CANDIDATE, L2, MODEL), abs=1e-6)


# ---- what all methods share


@pytest.mark.parametrize("method", METHODS.values())
def test_prepared_tensors_have_the_public_shapes_and_the_score_is_one_number(method):
    appraiser, facts = method(), Facts.of(MODEL, TRAIN, TEST, CANDIDATE)
    owned = appraiser.prepare(MODEL, TRAIN, TEST)
    assert list(owned) == list(appraiser.private_shapes(facts))
    assert {name: tuple(tensor.shape) for name, tensor in owned.items()} == appraiser.private_shapes(facts)
    assert all(tensor.dtype == torch.float64 for tensor in owned.values())
    before = {name: tensor.clone() for name, tensor in owned.items()}
    x, y = with_bias(CANDIDATE.x), CANDIDATE.one_hot()
    opened = appraiser.score(owned, x, y, facts)
    assert opened.shape == () and opened == appraiser.score(owned, x, y, facts)
    assert all(torch.equal(before[name], owned[name]) for name in owned), "the score must not change its inputs"
    assert appraiser.opens and appraiser.name in METHODS


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m is not MlpFinetuning])  # has `ops` for that
def test_the_score_uses_only_what_secret_tensors_have(method):
    appraiser, facts = method(), Facts.of(MODEL, TRAIN, TEST, CANDIDATE)
    variants = [appraiser, Finetuning(steps=3, lr=0.01, batch_size=8)] if method is Finetuning else [appraiser]
    for variant in variants:
        owned = {name: Secret(tensor) for name, tensor in variant.prepare(MODEL, TRAIN, TEST).items()}
        x, y = Secret(with_bias(CANDIDATE.x)), Secret(CANDIDATE.one_hot())
        opened = variant.score(owned, x, y, facts)
        assert isinstance(opened, Secret), "the opened number must still be secret"
        assert variant.value(opened.plain.item(), facts) == plaintext(variant, MODEL, TRAIN, TEST, CANDIDATE)[0]


@pytest.mark.parametrize("method", [Influence, Finetuning])
def test_what_a_method_needs_and_lacks_is_named(method):
    with pytest.raises(InputError, match=f"^party.train: .*training set.*{method.name}"):
        plaintext(method(), MODEL, None, TEST, CANDIDATE)
    with pytest.raises(InputError, match=f"^party.test: .*test set.*{method.name}"):
        method().prepare(MODEL, TRAIN, None)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Influence(damping=-1.0), "damping"),
        (lambda: Influence(damping=float("inf")), "damping"),
        (lambda: Finetuning(steps=0), "steps"),
        (lambda: Finetuning(steps=None), "steps"),
        (lambda: Finetuning(steps=1.5), "steps"),
        (lambda: Finetuning(lr=0.0), "lr"),
        (lambda: Finetuning(lr=float("nan")), "lr"),
        (lambda: Finetuning(lr="fast"), "lr"),
        (lambda: Finetuning(batch_size=0), "batch_size"),
        (lambda: Finetuning(seed=-1), "seed"),
    ],
)
def test_bad_settings_are_named(make, key):
    with pytest.raises(InputError, match=f"^{key}:"):
        make()


def test_methods_by_name_object_and_list():
    assert [m.name for m in as_methods("all")] == ["gradient_norm", "finetuning", "influence"]
    four = Finetuning(steps=4)
    assert as_methods(four) == (four,) and as_methods([four, "influence"]) == (four, Influence())
    assert as_methods(Methods(finetuning=four)) == (four,) and len(Methods(finetuning=four)) == 1
    for bad in ("shapley", ["influence", 3], [], ["influence", "influence"]):
        with pytest.raises(InputError, match="^appraisal:"):
            as_methods(bad)
    with pytest.raises(InputError, match="gradient_norm, finetuning, influence"):
        as_methods("shapley")
    for bad in ({}, {"influence": "influence"}):
        with pytest.raises(InputError):
            Methods(**bad)


@pytest.mark.parametrize("factor", [1e-7, 0.001 / 6540, 2.0**-20, 0.3, 1.0, 1.5, 2.0**8, 130.8])
def test_scaled_is_a_product_that_sixteen_bits_can_hold(factor):
    tensor = torch.tensor([1.0, -3.0, 2.0**20], dtype=torch.float64)
    assert torch.allclose(scaled(tensor, factor), tensor * factor, rtol=1e-15, atol=0)
    factors = []
    scaled(Secret(tensor, factors), factor)
    # Every public factor keeps its worth when it is rounded to sixteen fractional bits.
    assert all(abs(round(f * 65536) / 65536 - f) <= f * 2.0**-17 for f in factors)


# ---- the configuration


def test_a_config_for_every_method_and_only_the_defaults_of_the_class():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    assert {path.stem for path in (CONF / "appraisal").glob("*.yaml")} == {*METHODS, "all", "influence_interval"}
    for name, method in METHODS.items():
        assert instantiate(OmegaConf.load(CONF / "appraisal" / f"{name}.yaml")) == method()


def test_settings_of_one_method_and_of_one_among_all():
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(str(CONF), version_base=None):
        one = compose(overrides=["+appraisal=finetuning", "appraisal.steps=4", "appraisal.batch_size=32"])
        every = compose(overrides=["+appraisal=all", "appraisal.finetuning.steps=4", "appraisal.influence.damping=0.1"])
    assert as_methods(instantiate(one.appraisal)) == (Finetuning(steps=4, batch_size=32),)
    assert as_methods(instantiate(every.appraisal)) == (GradientNorm(), Finetuning(steps=4), Influence(damping=0.1))


class Secret:
    """A stand-in that answers to no more than a secret tensor does; public numbers only from the right."""

    __array_priority__ = 1000

    def __init__(self, plain: torch.Tensor, factors: list[float] | None = None):
        self.plain, self._factors = plain, factors

    def _new(self, plain: torch.Tensor) -> Secret:
        return Secret(plain, self._factors)

    @staticmethod
    def _secret(other: object) -> torch.Tensor:
        assert isinstance(other, Secret), f"secret and {type(other).__name__}"
        return other.plain

    def __add__(self, other):
        return self._new(self.plain + self._secret(other))

    def __sub__(self, other):
        return self._new(self.plain - self._secret(other))

    def __mul__(self, other):
        if isinstance(other, float):
            if self._factors is not None:
                self._factors.append(other)
            return self._new(self.plain * other)
        return self._new(self.plain * self._secret(other))

    def __truediv__(self, other):
        assert isinstance(other, float) and other == int(other), "division by a public whole number is exact"
        return self._new(self.plain / other)

    def __getitem__(self, index):
        assert isinstance(index, slice) or (isinstance(index, torch.Tensor) and index.dtype == torch.int64)
        return self._new(self.plain[index])

    def matmul(self, other):
        return self._new(self.plain.matmul(self._secret(other)))

    def t(self):
        return self._new(self.plain.t())

    def square(self):
        return self._new(self.plain.square())

    def sum(self, *dim):
        assert dim in ((), (1,))
        return self._new(self.plain.sum(*dim))

    @property
    def shape(self):
        return self.plain.shape

    def softmax(self, dim):
        return self._new(self.plain.softmax(dim))

    def log_softmax(self, dim):
        return self._new(self.plain.log_softmax(dim))


@ops.join.register(Secret)
def _join(first: Secret, tensors) -> Secret:
    return first._new(torch.cat([t.plain for t in tensors]))
