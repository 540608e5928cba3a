"""Check on shares that the matrices that the model owner has shared keep the norms that it announced.

In go a method's shared weights, its shared influence direction if it has one, and the public facts. Nothing comes out,
or `BoundError` at both owners. Noise is scaled to these norms, and so is the bound on logits, without which the
computed probabilities may leave the simplex that all sensitivities count on. The check is exact, so that sensitivities
need no slack. It opens one bit to both owners for each method. If the bit is 0, both stop before anything else of that
method is opened, and the ledgers keep the charge, as after any session that failed.

How the bit is computed is in `mpc.protocols.norm_check`. The check has to stay exact and to come before every other
opening of its method; the sensitivities of `dp.sensitivity` count on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpc_appraisal.common.errors import BoundError
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.models.links import LOGISTIC, SOFTMAX
from mpc_appraisal.mpc.protocols import norm_check
from mpc_appraisal.mpc.protocols.checks import NORM_CHECK_WHAT, NORM_CHECK_WHY
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.release.description import ReleaseDescription


def check_announced_norms(
    session: Session, described: ReleaseDescription, method: Appraiser, secrets: Mapping[str, Any], facts: Facts
) -> None:
    """Check what the model owner announced of its `secrets`, once they are shared and before anything is opened.

    Nothing is done where the release does not count on these norms, or in a plain session, whose tensors are in the
    clear.

    Args:
        session: This owner's side of the joint computation.
        described: The release's description.
        method: The method whose matrices are checked.
        secrets: The shared matrices of d features, by the names 'weights' and 'direction'. They are (d + 1, C) for C
            classes, and (d + 1, 1) for a model without a softmax, whose one column is measured as it is.
        facts: The public facts, with the bound on logits.

    Raises:
        BoundError: A matrix is longer than announced. It is raised at both owners.
    """
    if not described.checks(method) or not isinstance(secrets["weights"], PrivateTensor):
        return
    # The largest norm of a class's centred weights with which rows within R keep the bound on logits.
    limit = (facts.logit_bound - norm_check.LOGIT_ROOM) / described.row_norm
    if facts.loss is LOGISTIC:
        limit *= 2  # the bound is that of the two centred columns -theta / 2 and theta / 2
    allowance = norm_check.WEIGHT_ROOM - norm_check.LOGIT_ROOM
    numbers = [norm_check.weights_within(secrets["weights"], limit, allowance)]
    spread = described.spread or facts.spread
    if "direction" in secrets:
        numbers.append(norm_check.direction_within(secrets["direction"], spread))
    context = secrets["weights"].context
    held = Secret(context, norm_check.all_hold(context.engine, numbers), 0)
    opened = session.reveal(held, NORM_CHECK_WHAT, NORM_CHECK_WHY)
    if context.engine.dry or opened.item() == 1:
        return
    also = f", or an influence direction whose spread is above {spread:g}" if "direction" in secrets else ""
    whose = "classes' centred norm" if facts.loss is SOFTMAX else "norm"
    raise BoundError(
        f"{method.name}: model_owner has shared weights whose {whose} is above {limit:g}{also}, and no "
        "value is released. Expected matrices as short as model_owner announced, because noise and the bound on logits "
        "are made of that"
    )
