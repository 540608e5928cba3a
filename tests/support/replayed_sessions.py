"""Sessions over an engine that a test runs, dry, on shares or on linear forms, in which every opening is a message."""

from __future__ import annotations

import torch

from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import Appraiser
from mpc_appraisal.mpc.backends.fast import EngineSession, TrainingContext
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret
from mpc_appraisal.mpc.ring.fixed_point import decode
from mpc_appraisal.mpc.session import Session


class ReplayedSession(EngineSession):
    """One owner's session. No value is read where the engine is dry or runs on linear forms.

    On forms, an opening fails whose messages since the opening before it are made of more than what was dealt since
    then, and masks of private matrices and of settled values.
    """

    def __init__(self, engine, bound: float = 16.0):
        Session.__init__(self)
        self.role, self.context, self.dry = OWNERS[engine.me], TrainingContext(engine, bound), engine.dry
        self.replays = engine.replays
        self.blind = engine.dry or self.replays  # whether the owner's numbers are not known here
        self._claims = self._nodes = 0  # so many of them there were at the last opening

    def input(self, owner, read, shape, name, grid=None):
        value = None
        if self.role == owner:
            value = torch.empty(shape, dtype=torch.float64, device="meta") if self.blind else read()
        return self._private(owner, value, shape, name, grid)

    def settled(self, values):
        """Both owners send their shares under fresh masks, so that the shares are now what was sent less a mask."""
        engine, found = self.context.engine, list(values)
        masks = []
        for value in found:
            for rank in range(len(OWNERS)):
                engine.ask_dealer("mask", engine.new_key(), rank, list(value.shape))
            masks.append(engine.streams["mask"].ring(value.shape))
        pairs = engine.swap([v.share + r for v, r in zip(found, masks, strict=True)], [64] * len(found))
        return [
            Secret(self.context, mine - r, value.bits) for value, r, (mine, _) in zip(found, masks, pairs, strict=True)
        ]

    def _open(self, secret, to):
        engine = self.context.engine
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        (opened,) = engine.open(engine.blinded(secret.share))
        if self.replays:
            for claim in engine.claims[self._claims :]:
                self._check_section(claim.form.node)
            self._claims, self._nodes = len(engine.claims), len(engine.tape.nodes)
        return torch.zeros(secret.shape, dtype=torch.float64) if self.dry else decode(opened, secret.bits)

    def _check_section(self, node: int) -> None:
        """Fail where a node is made of leaves, but for masks, that had been dealt when something was opened."""
        engine, seen, left = self.context.engine, set(), [node]
        masks = {form.node for form in engine.leaves["mask"]}
        while left:
            number = left.pop()
            if number in seen:
                continue
            seen.add(number)
            found = engine.tape.nodes[number]
            if found.leaf is not None and number < self._nodes:
                assert number in masks, "a share is used after an opening, and it is not settled"
            left.extend(found.inputs)


def bring_in(session: ReplayedSession, method: Appraiser, owned: dict[str, torch.Tensor], candidate: Dataset, facts):
    """The model owner's tensors of a method by name, and the candidate's x and y, as private tensors of a session."""
    shapes = method.private_shapes(facts)
    tensors = {key: session.input(MODEL_OWNER, lambda key=key: owned[key], shapes[key], key) for key in shapes}
    x, y = with_bias(candidate.x.to(torch.float64)), candidate.targets(facts.outputs)
    rows = session.input(DATA_OWNER, lambda: x, x.shape, "x")
    return tensors, rows, session.input(DATA_OWNER, lambda: y, y.shape, "y")
