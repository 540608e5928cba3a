"""Whether the features of training rows are of about one size, as a model with a penalty on its weights needs.

Rows go in; a sentence that names the features that are too large, with their ranges, comes out, or None. A feature of
the root mean square s and weight w adds s w to a logit, and the penalty is on w: one that is a thousand times larger
than the others is hardly penalised, fitting takes a thousand times as many steps, and values by such a model may even
be in the opposite order. The bounds may be changed; standardised features, pixels from 0 to 1 and shares pass them.
"""

from __future__ import annotations

from mpc_appraisal.data.dataset import Dataset

LARGE = 20.0  # the root mean square up to which no feature is reported; a standardised one has 1
APART = 10.0  # how many times larger than the smallest feature such a one is
NAMED = 3  # features that the sentence names


def out_of_scale(train: Dataset, advice: str) -> str | None:
    """Return a sentence on features that are far larger than others; None where there are none.

    advice: what to do about it, which ends the sentence. The sentence tells ranges of the rows: it is for their owner.
    """
    sizes = train.x.double().square().mean(0).sqrt()
    found = sizes[sizes > 0]
    if not len(found):
        return None
    large = (sizes > max(LARGE, APART * float(found.min()))).nonzero()[:, 0].tolist()
    if not large:
        return None
    order = sorted(large, key=lambda column: -float(sizes[column]))
    called = train.columns or [f"feature {k}" for k in range(train.features)]
    named = [f"{called[k]} ({train.x[:, k].min():.4g} to {train.x[:, k].max():.4g})" for k in order[:NAMED]]
    more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
    return (
        f"{len(order)} of {train.features} features are far larger than others: {', '.join(named)}{more}. Values may "
        f"be wrong, even in the opposite order: {advice}"
    )
