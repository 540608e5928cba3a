"""`ife_shares`: whether the sealed labels of the selection are labels, which nobody can see as nobody has them.

    shopper, cloud   draw, from a key that the shopper sends the cloud, masks r_i in Z_{2^64}^C and permutations p_i
    shopper          p_i(s_i + r_i)        to the authority;  s_i is its share of the label y_i
    cloud            p_i(t_i - r_i)        to the authority;  t_i is the pad, s_i + t_i = 2^39 onehot(y_i)
    authority        p_i(2^39 onehot(y_i)) is one 2^39 among zeros, or the row is no label

C is the number of classes. Of a label the authority sees a one at a uniformly random place, which says nothing of the
class, since the shares are masked and it does not have the key. Of what is no label it sees the numbers, in an order
that it does not know. Shopper and cloud are told which rows are none, and leave out their sellers. As everywhere in
this protocol, the three roles follow it and do not collude; the sellers need not be trusted.

In go a role's shares of the selected rows; out comes, by seller, why it is left out. The order of messages has to stay
equal at the three roles; a mask and a permutation may be used for one row alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.messages import announced_by, count_of
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.context import RunContext, Selected
from mpc_appraisal.marketplace.roles.trials import kept_places
from mpc_appraisal.marketplace.uploads.labels import ONE
from mpc_appraisal.mpc.ring.prg import Stream


def send_share(
    context: RunContext, key: bytes, share: Tensor, selected: Selected, left_out: Mapping[str, str], sign: int
) -> dict[str, str]:
    """At shopper or cloud: have the authority judge the labels, and hear which sellers sold none.

    Args:
        context: this role's view of the run.
        key: the 32 bytes that shopper and cloud share, fresh in each run.
        share: this role's shares of the labels, (b, C) int64, in the order of the selection.
        selected: the selection, b pairs (seller, row).
        left_out: by seller, why it was left out already; its rows are not judged.
        sign: 1 at the shopper, who adds the masks, and -1 at the cloud.

    Returns, by seller, why it is left out now. Raises PeerError where the authority's answer does not fit.
    """
    kept, classes = kept_places(selected, list(left_out)), share.shape[1]
    masks = Stream(key, "label check masks").ring((len(kept), classes))
    order = Stream(key, "label check order").ring((len(kept), classes)).argsort(dim=1)
    context.messages.announce(AUTHORITY, {"labels": len(kept)})
    context.messages.send(AUTHORITY, (share[kept] + sign * masks).gather(1, order))
    message = context.messages.hear(AUTHORITY)
    with announced_by(AUTHORITY):
        places = [kept[count_of(place, 0, len(kept) - 1)] for place in message["no_labels"]]
    found: dict[str, str] = {}
    for name, row in (selected[place] for place in places):
        found.setdefault(name, str(InputError(f"labels of {name}", f"no label in row {row}", "one class of each row")))
    return found


def judge(context: RunContext) -> None:
    """At the authority: tell shopper and cloud which of the selected rows have no label. Nothing else is kept.

    Raises PeerError where shopper and cloud state another number of rows.
    """
    messages, market = context.messages, context.market
    total, rows = 0, None
    for role in (SHOPPER, CLOUD):
        message = messages.hear(role)
        with announced_by(role):
            rows = count_of(message["labels"], rows or 1, rows or market.budget)
        total = total + messages.receive(role, (rows, market.architecture.classes), torch.int64)
    good = ((total == 0) | (total == ONE)).all(1) & ((total == ONE).sum(1) == 1)
    wrong = torch.nonzero(~good).flatten().tolist()
    for role in (SHOPPER, CLOUD):
        messages.announce(role, {"no_labels": wrong})
