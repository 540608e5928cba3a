"""The key authority in a run: keys of the first layer for each seller under its cap, then keys of selected labels.

What the shopper can ask of it: one first layer a run, of the agreed shape; any rows of it, so functions of an image of
its choice, up to the seller's cap of independent ones, which is counted over all runs, also of those that failed and of
several at once; keys of `budget` labels a run, of rows of its choice and of any upload's id, counted as well and capped
where a cap is stated. A shopper that states another upload's id has keys that open labels of that one. Of sessions on
shares it deals what shopper and cloud have both rehearsed, see `mpc.orders`, and no more of them than the plan has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.scheme import Scheme
from mpc_appraisal.marketplace.messages import announced_by, id_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import receive_first
from mpc_appraisal.marketplace.roles import CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.context import KEY_BYTES, RunContext, Selected, by_seller, selected_rows

CAP_SHARE = 0.9


@dataclass(frozen=True)
class AuthorityInput:
    """folder: its state, see `enrolment.enrol`. cap_share: see `Authority`. label_cap: labels given of one seller at
    most; None for no cap."""

    folder: str | Path
    cap_share: float = CAP_SHARE
    label_cap: int | None = None

    def open(self, scheme: Scheme) -> Authority:
        keys = None if self.label_cap is None else 2 * self.label_cap  # a label takes two: of its share and of its pad
        return Authority(Path(self.folder), scheme, self.cap_share, keys)


def issue(context: RunContext, authority: Authority) -> None:
    """Function keys of the shopper's rows, seller by seller, to the cloud; a seller whose cap they exceed is refused by
    name, and the others are served."""
    with context.costs.phase("keys"):
        w = receive_first(context.messages, context.market.architecture)
        for name in context.offers.rows:
            try:
                key = authority.function_key(name, w)
            except InputError as error:
                for role in (SHOPPER, CLOUD):
                    context.messages.announce(role, {"refused": str(error)})
                continue
            for role in (SHOPPER, CLOUD):
                context.messages.announce(role, {"key_id": key.key_id})
            context.messages.send_array(CLOUD, key.values)


def label_keys(context: RunContext, authority: Authority, selected: Selected, pads_to: str) -> None:
    """Keys of the selected labels' sealed shares to the shopper, those of their pads to `pads_to`.

    Ids and nonces are told by others; what a key is for is decided here, so the keys of pads are got in no other step.
    """
    _send_keys(context, authority, selected, context.offers.ids, "label", SHOPPER)
    note = context.messages.hear(SHOPPER)
    with announced_by(SHOPPER):
        nonces = {name: id_of(note["nonces"][name]) for name in by_seller(selected)}
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
    """The authority's part of `ife_transform`."""
    authority = own.open(context.market.protocol.scheme)
    issue(context, authority)
    selected = selected_rows(context)
    with context.costs.phase("keys"):
        label_keys(context, authority, selected, SHOPPER)
