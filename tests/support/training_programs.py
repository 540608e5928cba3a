"""Small appraisals by training, relevance and diversity, as programs of an engine whose messages have to be affine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from replayed_sessions import ReplayedSession, bring_in

from mpc_appraisal import Dataset
from mpc_appraisal.methods import Facts, plaintext
from mpc_appraisal.methods.base import Appraiser
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import FITS
from mpc_appraisal.mpc.protocols.logit_bound import weight_limit

ROW_NORM, BOUND = 2.0, 8.0


@dataclass(frozen=True)
class Problem:
    """A method, whether its softmax has no bound, a model, its training and test rows, a candidate, and their facts."""

    method: Appraiser
    model: LinearModel
    train: Dataset
    test: Dataset
    candidate: Dataset
    facts: Facts

    @classmethod
    def of(cls, method: Appraiser, model: str = "softmax_regression", auto: bool = False) -> Problem:
        train, test, candidate = (rows(model, count, seed) for seed, count in enumerate((7, 6, 5)))
        fitted = FITS[model](train, 1e-2)
        facts = Facts.of(fitted, train, test, candidate)
        target = max(float(each.targets().abs().max()) for each in (train, candidate)) if train.numeric else 0.0
        norms = {"row_norm": ROW_NORM, "longest": ROW_NORM, "logit_bound": BOUND, "target": target, "auto": auto}
        return cls(method, fitted, train, test, candidate, replace(facts, **norms))

    @property
    def right(self) -> float:
        """The value in float64, in the clear."""
        return plaintext(self.method, self.model, self.train, self.test, self.candidate)[0]

    def score(self, engine):
        """A session over the engine, and the score and what the check of the weights opens, or None, on shares."""
        session, facts, method = ReplayedSession(engine), self.facts, self.method
        spread = method.logit_spread(facts) if facts.auto else None
        limit, shape, bound = None, (facts.features + 1, facts.outputs), BOUND * method.logit_growth
        if method.logit_growth > 1 and spread is None:
            limit = weight_limit(method.name, 2 * bound, ROW_NORM, shape, lambda norm: method.reach(norm, facts))
        session.bound_logits(bound, limit, spread)
        owned = method.prepare(self.model, self.train, self.test)
        tensors, x, y = bring_in(session, method, owned, self.candidate, facts)
        return session, method.score(tensors, x, y, facts), session.within_bound()

    def opened(self, values: list[float]):
        """A program that opens the check of the weights, if there is one, and then the score, whose value it keeps."""

        def program(engine):
            session, score, within = self.score(engine)
            if within is not None:
                (score,) = session.settled([score])
                session.reveal(within, "whether the weights kept the bound", "a test")
            opened = session.reveal(score, self.method.opens, "a test")
            if not session.blind:
                values.append(self.method.value(float(opened), self.facts))

        return program

    def share(self, engine) -> torch.Tensor:
        """A program that returns this owner's share of the score, and opens nothing."""
        return self.score(engine)[1].share.reshape(1)


def rows(model: str, count: int, seed: int) -> Dataset:
    """Rows of three features for a model."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, generator=g, dtype=torch.float64)
    if model == "linear_regression":
        return Dataset.of(x, x.sum(1) - x[:, 0] * 2, name=f"rows {seed}", target="number")
    classes = 2 if model == "logistic_regression" else 3
    return Dataset.of(x, (x.argmax(1) + (torch.arange(count) % 5 == 0)) % classes, classes, f"rows {seed}")
