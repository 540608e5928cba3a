"""The key authority in a run: it issues keys of the first layer for each seller, then keys of the selected labels.

In go the run's context and the folder with the authority's state; out go messages with keys to shopper and cloud. What
a shopper can ask of the authority is limited as follows, and these limits have to stay:

- In a run a shopper can ask for the keys of one first layer, of the agreed shape. It chooses the rows of that layer,
  and so the functions of an image, up to the seller's cap of independent rows. The cap is counted over all runs,
  including runs that failed and runs at the same time.
- In a run a shopper can ask for the keys of `budget` labels, of rows and of an upload's id that it chooses. The keys
  are counted as well, and capped where a cap is stated. A shopper that states the id of another upload gets keys that
  open labels of that upload.
- In sessions on shares the authority deals what shopper and cloud have both rehearsed, see `mpc.protocols.orders`, and
  no more sessions than the plan has.

The order of messages has to fit `cloud`, `shopper` and `shares`, and the purpose of a key has to be decided in this
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.cap import CAP_SHARE
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.scheme import Scheme
from mpc_appraisal.marketplace.messages import announced_by, id_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import receive_first
from mpc_appraisal.marketplace.roles import CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.context import KEY_BYTES, RunContext, Selected, by_seller, selected_rows


@dataclass(frozen=True)
class AuthorityInput:
    """The private input of the key authority.

    Attributes:
        folder: the folder with the authority's state, see `enrolment.enrol`.
        cap_share: the largest number of independent first-layer rows that it issues keys for, as a share of the pixels.
        label_cap: the largest number of one seller's labels that it issues keys for; None for no cap.
    """

    folder: str | Path
    cap_share: float = CAP_SHARE
    label_cap: int | None = None

    def open(self, scheme: Scheme) -> Authority:
        """Open the authority in the folder. A label takes two keys, one of its share and one of its pad."""
        keys = None if self.label_cap is None else 2 * self.label_cap
        return Authority(Path(self.folder), scheme, self.cap_share, keys)


def issue(context: RunContext, authority: Authority) -> None:
    """Send the cloud the function keys of the shopper's first layer, seller by seller.

    A seller whose cap the rows exceed is refused by its name, and the others are served.
    """
    with context.costs.phase("keys"):
        w = receive_first(context.messages, context.market.architecture)
        for name in context.offers.rows:
            try:
                key = authority.function_key(name, w)
            except InputError as error:
                for role in (SHOPPER, CLOUD):
                    context.messages.announce(role, {"refused": str(error)})
                context.refusal(name, str(error))
                continue
            for role in (SHOPPER, CLOUD):
                context.messages.announce(role, {"key_id": key.key_id})
            context.messages.send_array(CLOUD, key.values)


def label_keys(context: RunContext, authority: Authority, selected: Selected, pads_to: str) -> None:
    """Send the shopper the keys of the selected labels' sealed shares, and `pads_to` the keys of their pads.

    Args:
        context: this role's view of the run.
        authority: the opened authority.
        selected: the selection, pairs (seller, row).
        pads_to: the role that gets the keys of pads: the shopper, who then has the labels, or the cloud, which then has
            the other share.

    The ids and nonces come from other roles, but the purpose of a key is decided here. So nobody can obtain the keys of
    pads in another step.
    """
    _send_keys(context, authority, selected, context.offers.ids, "label", SHOPPER)
    message = context.messages.hear(SHOPPER)
    with announced_by(SHOPPER):
        nonces = {name: id_of(message["nonces"][name]) for name in by_seller(selected)}
    _send_keys(context, authority, selected, nonces, "pad", pads_to)


def _send_keys(
    context: RunContext, authority: Authority, selected: Selected, ids: dict[str, bytes], purpose: str, to: str
) -> None:
    keys = np.zeros((len(selected), KEY_BYTES), dtype=np.uint8)
    for name, places in by_seller(selected).items():
        given = authority.label_keys(name, ids[name], [selected[place][1] for place in places], purpose)
        keys[places] = np.frombuffer(b"".join(given), dtype=np.uint8).reshape(-1, KEY_BYTES)
    context.messages.send(to, torch.from_numpy(keys))


def run_transform(context: RunContext, own: AuthorityInput) -> None:
    """Run the authority's side of `ife_transform`."""
    authority = own.open(context.market.protocol.scheme)
    issue(context, authority)
    selected = selected_rows(context)
    with context.costs.phase("keys"):
        label_keys(context, authority, selected, SHOPPER)
