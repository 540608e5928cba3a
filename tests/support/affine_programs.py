"""Small appraisals as programs of an engine, whose messages have to be affine in what the dealer deals.

An `Appraisal` holds public facts and both owners' values in the clear. `program` runs the method's own formula, and a
release's own steps, on the session of any engine: a real one, a dry one, or a replay on linear forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch

from mpc_appraisal.appraisal.integers import grid
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Resolution, with_bias
from mpc_appraisal.methods import Facts, GradientNorm, Influence, InfluenceError
from mpc_appraisal.methods.base import Appraiser, centred
from mpc_appraisal.models.links import IDENTITY, LOGISTIC, SOFTMAX, Link
from mpc_appraisal.mpc.backends.fast import EngineSession, TrainingContext
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.ring.fixed_point import decode
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor
from mpc_appraisal.release import Bit, NoisedRelease, Value
from mpc_appraisal.release.base import Release, Score
from mpc_appraisal.release.dp.announced_norms import check_announced_norms
from mpc_appraisal.release.dp.clipping import clip_direction, spread

ROWS, FEATURES, CLASSES = 11, 4, 3


class OnEngine(EngineSession):
    """A session on an engine that is given. It opens to both owners, and keeps the last secret that it opened."""

    def __init__(self, engine: Engine, bound: float):
        super().__init__()
        self.role, self.last = OWNERS[engine.me], None
        self.context = TrainingContext(engine, bound)

    def input(self, owner, read, shape, name, grid=None):
        engine, value = self.context.engine, None
        if owner == self.role:
            kind = torch.float64 if grid is None else torch.int32
            value = shape_tensor(shape, kind) if engine.dry or engine.replays else read()
        return self._private(owner, value, shape, name, grid)

    def _open(self, secret, to):
        engine, self.last = self.context.engine, secret
        (opened,) = engine.open(engine.blinded(secret.share))
        return torch.zeros(secret.shape, dtype=torch.float64) if engine.dry else decode(opened, secret.bits)


@dataclass(frozen=True)
class Appraisal:
    """One appraisal: facts, the model owner's tensors, and the candidate's rows (n, d) and targets in the clear.

    blocks: the numbers of rows of the blocks in which the candidate is brought in; empty brings it in at once.
    """

    method: Appraiser
    facts: Facts
    owned: dict[str, torch.Tensor]
    rows: torch.Tensor
    targets: torch.Tensor
    release: Release | None = None
    blocks: tuple[int, ...] = ()

    @property
    def right(self) -> float:
        """The number that is opened if nothing is noised, in float64; that of rows without a resolution."""
        facts = replace(self.facts, resolution=None)
        return float(self.method.score(self.owned, with_bias(self.rows), self.targets, facts))

    @property
    def threshold(self) -> float:
        """A threshold that the value reaches, close to it."""
        value = self.method.value(self.right, replace(self.facts, resolution=None))
        return value - 0.05 * abs(value)

    def score(self, session: OnEngine) -> Score:
        """The score on shares, after the checks that the release demands."""
        facts = self.facts
        if self.blocks:
            x, y = RowBlocks(lambda: self._stream(session)), None
        else:
            x, y = self._bring_in(session, 0, ROWS)
            session.cache(x)
        secrets = {
            key: session.input(MODEL_OWNER, lambda value=value: value / facts.ratio, value.shape, key)
            for key, value in self.owned.items()
        }
        if self.release is not None:
            if self.release.description.noised:
                session.require_exact_truncation()
            check_announced_norms(session, self.release.description, self.method, secrets, facts)
        return Score(self.method, "candidate", facts, self.method.score(secrets, x, y, facts))

    def _bring_in(self, session: OnEngine, start: int, rows: int) -> tuple[Any, Any]:
        ring, part = grid(self.facts, rows, self.facts.logit_bound), slice(start, start + rows)
        x = with_bias(self.rows) if ring is None else self.facts.resolution.integers(self.rows, "rows")
        y = self.targets[part]
        return (
            session.input(DATA_OWNER, lambda: x[part], (rows, FEATURES + 1), "rows", ring),
            session.input(DATA_OWNER, lambda: y, y.shape, "targets"),
        )

    def _stream(self, session: OnEngine) -> Iterator[tuple[Any, Any]]:
        for start, rows in zip(accumulate((0, *self.blocks)), self.blocks, strict=False):
            x, y = self._bring_in(session, start, rows)
            yield x, y
            session.evict(x, y)

    def outcome(self, session: OnEngine, exact: bool = False) -> Any:
        """What is opened: the score, or the outcome of the release. `exact` demands truncations that cannot fail."""
        if exact:
            session.require_exact_truncation()
        score = self.score(session)
        if self.release is None:
            return float(session.reveal(score.score, "score", "test"))
        return self.release.open(session, [score], lambda: self.threshold)[0]

    def program(self, exact: bool = False) -> Callable[[Engine], Any]:
        """The program of both owners, which returns what is opened."""
        return lambda engine: self.outcome(OnEngine(engine, self.facts.logit_bound), exact)

    def of_share(self, exact: bool = False) -> Callable[[Engine], torch.Tensor]:
        """The same program, which returns the share of the last number that it opens."""

        def program(engine: Engine) -> torch.Tensor:
            session = OnEngine(engine, self.facts.logit_bound)
            self.outcome(session, exact)
            return session.last.share.reshape(-1)

        return program


def appraisal(
    method: Appraiser,
    bound: float,
    link: Link = SOFTMAX,
    resolution: Resolution | None = None,
    release: Release | None = None,
    seed: int = 5,
) -> Appraisal:
    """An appraisal of random rows whose logits almost reach the bound, as owners that announce their norms state it."""
    g = torch.Generator().manual_seed(seed)
    scale = 255 if resolution is None else resolution.scale
    x = torch.round(torch.rand(ROWS, FEATURES, generator=g, dtype=torch.float64) * scale) / scale
    outputs = CLASSES if link is SOFTMAX else 1
    labels = torch.arange(ROWS) % max(outputs, 2)
    y = torch.eye(CLASSES, dtype=torch.float64)[labels] if link is SOFTMAX else labels.double()[:, None]
    row_norm = with_bias(x).norm(dim=1).max().item() * 1.01
    weights = centred(torch.randn(FEATURES + 1, outputs, generator=g, dtype=torch.float64))
    longest = weights.norm(dim=0).max().item() * (0.5 if link is LOGISTIC else 1.0)
    weights = weights * (0.9 * bound / row_norm / longest)
    owned, target = {"weights": weights}, 0.0
    if link is IDENTITY:
        y = with_bias(x).matmul(weights) + torch.randn(ROWS, 1, generator=g, dtype=torch.float64) / 4
        target = y.abs().max().item()
    facts = Facts(FEATURES, 1 if link is IDENTITY else max(outputs, 2), 9, 9, ROWS, 0.05, row_norm, row_norm, bound)
    facts = replace(facts, link=link.name, target=target, resolution=resolution)
    if isinstance(method, (Influence, InfluenceError)):
        direction = centred(torch.randn(FEATURES + 1, outputs, generator=g, dtype=torch.float64) / 3)
        facts = replace(facts, spread=spread(direction) * 1.1)
        owned["direction"] = clip_direction(direction, facts.spread)
    return Appraisal(method, facts, owned, x, y, release)


def noised(a: Appraisal, what: str = "value", ceiling: float | None = None) -> Appraisal:
    """The appraisal with noise of both owners, which checks the norms that the model owner has announced."""
    target = a.facts.target * 1.01 if a.facts.link == IDENTITY.name else None
    return replace(
        a,
        release=NoisedRelease(
            what=what,
            epsilon=2.0,
            row_norm=a.facts.row_norm,
            ceiling=ceiling,
            spread=a.facts.spread,
            target_norm=target,
        ),
    )


def with_bit(a: Appraisal) -> Appraisal:
    """The appraisal whose value is compared with a threshold that the model owner alone knows."""
    return replace(a, release=Bit())


NARROW = {32: Resolution(1, 1), 40: Resolution(255, 8), 48: Resolution(65535, 16)}
LINKS = {link.name: link for link in (SOFTMAX, LOGISTIC, IDENTITY)}
# Appraisals by name, and whether they are run with exact truncations, by which influence takes the gradient's path.
SCORES: dict[str, tuple[Appraisal, bool]] = {}
for _bound in (2.0, 30.0):
    for _name, _link in LINKS.items():
        SCORES[f"gradient norm {_name} {_bound:g}"] = (appraisal(GradientNorm(), _bound, _link), False)
        SCORES[f"influence {_name} {_bound:g}"] = (appraisal(Influence(), _bound, _link), True)
        SCORES[f"influence error {_name} {_bound:g}"] = (appraisal(InfluenceError(), _bound, _link), False)
    for _ring, _resolution in NARROW.items():
        SCORES[f"gradient norm in {_ring} bits {_bound:g}"] = (
            appraisal(GradientNorm(), _bound, resolution=_resolution),
            False,
        )
        SCORES[f"influence in {_ring} bits {_bound:g}"] = (appraisal(Influence(), _bound, resolution=_resolution), True)
for _method, _exact in ((GradientNorm(), False), (Influence(), True), (InfluenceError(), False)):
    _one = appraisal(_method, 2.0, resolution=NARROW[40] if _method.narrow else None)
    SCORES[f"{_method.name} in blocks"] = (replace(_one, blocks=(6, 5)), _exact)
RELEASES: dict[str, Appraisal] = {}
for _bound in (2.0, 30.0):
    RELEASES[f"bit of influence {_bound:g}"] = with_bit(appraisal(Influence(), _bound, resolution=NARROW[40]))
    RELEASES[f"bit of gradient norm {_bound:g}"] = with_bit(appraisal(GradientNorm(), _bound, resolution=NARROW[40]))
    RELEASES[f"value of gradient norm {_bound:g}"] = replace(appraisal(GradientNorm(), _bound), release=Value())
    RELEASES[f"noised bit of influence {_bound:g}"] = noised(appraisal(Influence(), _bound), "bit", 50.0)
    for _name, _link in LINKS.items():
        RELEASES[f"noised influence {_name} {_bound:g}"] = noised(appraisal(Influence(), _bound, _link))
        RELEASES[f"noised gradient norm {_name} {_bound:g}"] = noised(
            appraisal(GradientNorm(), _bound, _link), ceiling=400.0
        )
