"""`ife_shares` in the marketplace: what each of the three roles does, and what it holds.

    shopper     w, its ciphertexts' bodies c       c w' - centre                        one additive share of <w, x>
    cloud       sk = S w', public seeds of a       -a sk                                the other share
    labels      shopper: sealed shares, opened for the selected rows; cloud: the pads

w is the quantised first layer, x a seller's row, S the seller's secret and sk the function key; the formulas are in
`protocols.shares_protocol`. In go the run's context and a role's own input; out comes the `MarketResult`, at the
shopper alone. Every prediction and every retraining is a session of the engine, with the authority as dealer; between
the sessions the roles announce what comes next. The sellers' files are at the shopper, for the reason that the
strategy's leakage states.

What is computed may change in `protocols`. The order of messages has to stay equal at the three roles, no message may
wait while the engine runs, and `openings` has to name what a run opens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import BoundError, PeerError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.buying.validation import Verdict, subsets, wrong_predictions
from mpc_appraisal.marketplace.encryption.scheme import SEED_BYTES, FunctionKey
from mpc_appraisal.marketplace.encryption.signed_upload import Upload
from mpc_appraisal.marketplace.messages import REASON, announced_by, count_of, key_of, reasons_of
from mpc_appraisal.marketplace.plan import ShopperInput, rows_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import quantised_first
from mpc_appraisal.marketplace.protocols.shares_plan import OpenedResults, SharesPlan, Shopper, Training
from mpc_appraisal.marketplace.protocols.shares_protocol import run_shares
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.authority import AuthorityInput, issue, label_keys
from mpc_appraisal.marketplace.roles.context import KEY_BYTES, RunContext, Selected, by_seller, selected_rows
from mpc_appraisal.marketplace.roles.label_check import judge, send_share
from mpc_appraisal.marketplace.roles.pooled import PooledCloud, PooledShopper
from mpc_appraisal.marketplace.roles.shopper import chosen, kept_of, open_shares
from mpc_appraisal.marketplace.roles.trials import MOST_ROWS, Trials, kept_places
from mpc_appraisal.marketplace.uploads.labels import pads
from mpc_appraisal.models.networks import Network, batches, first_bias
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.ring.prg import new_key
from mpc_appraisal.mpc.session import Opening, Session

ENGINE = "fast"


def run_authority(context: RunContext, own: AuthorityInput) -> None:
    """Run the authority's side of `ife_shares`: the authority issues keys, then it is the dealer of every session."""
    authority = own.open(context.market.protocol.scheme)
    issue(context, authority)
    context.messages.hear(CLOUD)  # the cloud has all keys, so no message waits while the engine runs
    _deal(context, "predict")
    selected = selected_rows(context)
    with context.costs.phase("keys"):
        label_keys(context, authority, selected, CLOUD)
        judge(context)
    for _ in _subsets(context):
        if context.messages.hear(SHOPPER).get("train") is None:  # there are fewer trials, because a seller was left out
            break
        _deal(context, "retrain")


def _deal(context: RunContext, phase: str) -> None:
    with context.costs.phase(phase):
        sent = deal(ENGINE, context.rendezvous, context.connection.timeout, context.connection.transport.kind)
    context.costs.add(phase, 0.0, sum(sent))


def run_cloud(context: RunContext) -> None:
    """Run the cloud's side of `ife_shares`.

    The cloud derives from the plan which rows may be trained on, see `trials`, and it rehearses each session itself,
    see `mpc.protocols.orders`. So neither shopper nor authority chooses what the cloud computes. Raises PeerError where
    another role's message does not fit the plan.
    """
    market, messages = context.market, context.messages
    scheme, found, key, starts, total = market.protocol.scheme, [], None, {}, 0
    for name, rows in context.offers.rows.items():
        with context.costs.phase("keys"):
            seeds = messages.receive(SHOPPER, (rows, SEED_BYTES), torch.uint8).numpy()
            message = messages.hear(AUTHORITY)
            if "refused" in message:
                context.refusal(name, shown(str(message["refused"]), REASON))
                continue
            values = messages.receive_array(AUTHORITY)
            key = FunctionKey(scheme.name, market.architecture.features, values, message["key_id"])
        with context.costs.phase("predict"):
            found.append(torch.from_numpy(scheme.cloud_share(key, seeds)))
            starts[name], total = total, total + rows
    for role in (SHOPPER, AUTHORITY):
        messages.announce(role, {"ready": True})
    first = torch.cat(found) if found else torch.empty(0, 0)
    message = messages.hear(SHOPPER)
    with announced_by(SHOPPER):
        counted = count_of(message["rows"], 1)
    if counted != total:
        raise PeerError(f"{SHOPPER} counts {counted} rows, not the {total} that keys were issued for")
    own = PooledCloud(key, first, first=first)
    _compute(context, "predict", predicting(context, total), cloud=own)
    rows = selected_rows(context)
    with context.costs.phase("keys"):
        keys = messages.receive(AUTHORITY, (market.budget, KEY_BYTES), torch.uint8).numpy()
        message = messages.hear(SHOPPER)
        with announced_by(SHOPPER):
            places = [starts[name] + row for name, row in rows]  # a seller that was refused gives a KeyError
            announced, left_out = message["places"], reasons_of(message["left_out"], context.offers.rows)
            check_key = key_of(message["label_check"])
        if announced != places:
            raise PeerError(f"{SHOPPER} placed other rows than those that it selected")
        selected = first[places]
        padded = pads([row.tobytes() for row in keys], market.architecture.classes)
        left_out |= send_share(context, check_key, padded, rows, left_out, -1)
        for name, why in left_out.items():
            context.refusal(name, why)
    classes = market.architecture.classes
    # The pads are shares already, so this key evaluates nothing.
    none = FunctionKey(scheme.name, classes, np.zeros((classes, 0), dtype=np.int64))
    _retrainings(context, Trials(kept_places(rows, list(left_out)), _granularity(context)), key, selected, padded, none)


def _retrainings(
    context: RunContext, trials: Trials, key: FunctionKey, selected: Tensor, padded: Tensor, none: FunctionKey
) -> None:
    """Run the cloud's side of every trial.

    Args:
        context: this role's view of the run.
        trials: the trials that the plan allows.
        key: the function key of the first layer.
        selected: this side's shares of the first-layer outputs of all selected rows, (b, k).
        padded: this side's shares of their labels, (b, C).
        none: a key for labels that evaluates nothing.
    """
    messages, sizes = context.messages, None
    for _ in _subsets(context):
        message = messages.hear(SHOPPER)
        if message.get("train") is None:
            break
        with announced_by(SHOPPER):
            picked = [count_of(place) for place in message["train"]]
            own_rows, asked_rows = found = [count_of(message[name], 1, MOST_ROWS) for name in ("own", "validation")]
        trials.take(picked)
        if sizes not in (None, found):
            raise PeerError(f"{SHOPPER} brought {found} rows of its own; expected {sizes}, as in the trial before")
        sizes, bought = found, selected[picked]
        messages.announce(SHOPPER, {"ready": True})
        one = PooledCloud(key, bought, none, padded[picked], first=bought)
        _compute(context, "retrain", training(context, len(picked), own_rows, asked_rows), cloud=one)


def run_shopper(context: RunContext, own: ShopperInput, uploads: dict[str, Upload]) -> MarketResult:
    """Run the shopper's side of `ife_shares`.

    A seller whose sealed labels do not open, or are no labels (`label_check`), is left out by its name, and no rows
    replace that seller's rows; see `shopper.run_transform`. Returns the result without costs, which are added when all
    roles have announced theirs. Raises InputError where too few rows are left, and BoundError where training leaves the
    range of shares.
    """
    market, messages = context.market, context.messages
    network = own.network.to(torch.float64)
    first, refused = quantised_first(network), dict(context.offers.refused)
    # A bad network is refused here, before keys are counted.
    side = Shopper(network, first, next(iter(uploads.values())).ciphertext)
    with context.costs.phase("keys"):
        messages.send(AUTHORITY, torch.from_numpy(first.w).to(torch.int32))
        for found in uploads.values():
            messages.send(CLOUD, torch.from_numpy(np.ascontiguousarray(found.ciphertext.header)))
    shares: dict[str, Tensor] = {}
    for name, found in uploads.items():
        with context.costs.phase("keys"):
            message = messages.hear(AUTHORITY)
        if "refused" in message:
            refused[name] = shown(str(message["refused"]), 500)
            continue
        with context.costs.phase("predict"):
            shares[name] = replace(side, images=found.ciphertext).share(market.protocol.scheme, range(len(found)))
    messages.hear(CLOUD)
    total = sum(map(len, shares.values()))
    market.check_pool(total, refused)
    messages.announce(CLOUD, {"rows": total})
    pooled = torch.cat(list(shares.values()))
    side = PooledShopper(network, first, pooled, first=pooled)
    logits, opened = _compute(context, "predict", predicting(context, total), shopper=side)
    parts = logits.predicted.softmax(dim=1).split([len(share) for share in shares.values()])
    probabilities = dict(zip(shares, parts, strict=True))
    selected = chosen(market, probabilities)
    with context.costs.phase("keys"):
        for role in (CLOUD, AUTHORITY):
            messages.announce(role, {"rows": selected})
        labels, places, left_out = _labels(
            context, selected, uploads, {name: len(share) for name, share in shares.items()}
        )
    opened, kept = list(opened), kept_of(selected, left_out)
    verdicts = _validate(context, own, side, labels, pooled[places], opened, kept) if market.validation else []
    return MarketResult(
        tuple(selected[place] for place in kept),
        probabilities,
        tuple(verdicts),
        {},
        openings(context, len(first.w), opened, len(verdicts)),
        market.protocol.leakage,
        market.protocol.label,
        tuple((refused | left_out).items()),
    )


def _labels(
    context: RunContext, selected: Selected, uploads: dict[str, Upload], rows: dict[str, int]
) -> tuple[Tensor, list[int], dict[str, str]]:
    """Obtain this side's shares of the selected labels, and have them judged.

    `rows` has the number of rows of each seller that was predicted, in order.

    Returns the shares (b, C), the places of the selection among all predicted rows, and by seller, why it is left out.
    The shares of a seller that is left out mean nothing.
    """
    market, starts, total = context.market, {}, 0
    for name, count in rows.items():
        starts[name], total = total, total + count
    places = [starts[name] + row for name, row in selected]
    sealed = np.stack([uploads[name].labels[row] for name, row in selected])
    by_name, left_out = open_shares(context, selected, sealed)
    labels = torch.zeros((market.budget, market.architecture.classes), dtype=torch.int64)
    for name, found in by_name.items():
        labels[by_seller(selected)[name]] = found
    kept_of(selected, left_out)  # raises an error if none is left
    key = new_key()
    context.messages.announce(CLOUD, {"places": places, "left_out": left_out, "label_check": key.hex()})
    return labels, places, left_out | send_share(context, key, labels, selected, left_out, 1)


def _validate(
    context: RunContext,
    own: ShopperInput,
    side: PooledShopper,
    labels: Tensor,
    bought: Tensor,
    opened: list[Opening],
    tried: list[int],
) -> list[Verdict]:
    """Try the subsets of the selection, as `validation.validate` does with keep.

    Only the number of wrong predictions is used, since the plan may open no more than that. `tried` has the places of
    the selection that are tried, and the rows of a verdict are places in `tried`. Appends to `opened` what each session
    opened.

    A subset whose training leaves the range in which shares are right, as rows of garbage may do, counts as wrong on
    all validation rows, so that it is refused and the others are tried. Raises BoundError where every subset does so.
    """
    market = context.market
    x, y = rows_of(own.own, market.architecture, "own")
    asked_x, asked_y = rows_of(own.validation, market.architecture, "validation")
    rows, classes = torch.cat([x, asked_x]), torch.cat([y, asked_y])
    threshold = wrong_predictions(own_logits(side), asked_x, asked_y) / len(asked_y)
    verdicts, kept, rest, lost = [], torch.arange(0), torch.tensor(tried), 0
    parts = subsets(torch.arange(len(tried)), min(market.validation.granularity, len(tried)))
    for place, subset in enumerate(parts):
        picked = torch.cat([kept, rest[subset]])
        context.messages.announce(CLOUD, {"train": picked.tolist(), "own": len(x), "validation": len(asked_x)})
        context.messages.announce(AUTHORITY, {"train": len(picked)})
        context.messages.hear(CLOUD)  # no message waits while the engine runs
        one = PooledShopper(
            side.network, side.quantised, bought[picked], labels[picked], rows, classes, first=bought[picked]
        )
        found, ledger = _compute(context, "retrain", training(context, len(picked), len(x), len(asked_x)), shopper=one)
        opened += ledger
        wrong = found.errors
        if wrong is None:
            wrong = wrong_predictions(lambda _, z=found.validation: z, asked_x, asked_y)
        if not 0 <= wrong <= len(asked_y):
            wrong, lost = len(asked_y), lost + 1
        verdicts.append(Verdict(place, tuple(subset.tolist()), wrong, len(asked_y), threshold))
        if verdicts[-1].accepted:
            kept, threshold = picked, verdicts[-1].error
    if lost == len(parts):
        raise BoundError(
            f"validation: no trial has a number of errors on {len(asked_y)} rows: training has left the range in which "
            "shares are right; lower validation.lr, or take fewer validation.steps"
        )
    if len(parts) < len(_subsets(context)):
        for role in (CLOUD, AUTHORITY):
            context.messages.announce(role, {"train": None})
    return verdicts


def own_logits(side: Shopper) -> Callable[[Tensor], Tensor]:
    """Return the shopper's network with the quantised first layer, as a function of pixels (m, d)."""
    network: Network = side.network

    def logits(x: Tensor) -> Tensor:
        return network.from_hidden(side.quantised.real(x.numpy() @ side.quantised.w.T) + first_bias(network))

    return logits


def predicting(context: RunContext, rows: int) -> SharesPlan:
    """Return the public plan of the session that predicts all records on offer."""
    market = context.market
    return SharesPlan(
        market.architecture, predicted=tuple(range(rows)), batch=market.batch, scheme=market.protocol.scheme
    )


def training(context: RunContext, rows: int, own: int, asked: int) -> SharesPlan:
    """Return the public plan of one retraining on `own` own rows and `rows` bought ones.

    The batches count own rows first, as `plain` and `ife_transform` do. `asked` is the number of validation rows.
    """
    market, v = context.market, context.market.validation
    steps = tuple(
        tuple(place + rows if place < own else place - own for place in index.tolist())
        for index in batches(own + rows, v.batch_size, v.steps, v.seed)
    )
    return SharesPlan(
        market.architecture,
        training=Training(tuple(range(rows)), steps, v.lr, own),
        validation=asked,
        opens=market.protocol.opens,
        batch=market.batch,
        scheme=market.protocol.scheme,
    )


def _compute(
    context: RunContext, phase: str, plan: SharesPlan, **sides: Any
) -> tuple[OpenedResults, Sequence[Opening]]:
    """Run one session of the engine. Returns what it opened to this role, and the list of all its openings."""

    def program(session: Session, **sides: Any) -> OpenedResults:
        found = run_shares(session, plan, **sides)
        session.mark()
        return found

    with context.costs.phase(phase):
        session = open_session(
            ENGINE, context.rendezvous, context.connection.timeout, context.connection.transport.kind
        )
        try:
            session.prepare(program)
            found = program(session, **sides)
        except BaseException:
            session.close(orderly=False)
            raise
        session.close()
    context.costs.add(phase, 0.0, session.meter.bytes_sent, session.meter.rounds)
    return found, session.ledger


def _granularity(context: RunContext) -> int:
    return context.market.validation.granularity if context.market.validation else context.market.budget


def _subsets(context: RunContext) -> range:
    v = context.market.validation
    return range(-(-context.market.budget // v.granularity) if v else 0)


def openings(context: RunContext, outputs: int, ledger: Sequence[Opening], verdicts: int) -> tuple[Opening, ...]:
    """List what was opened to whom in a run of `ife_shares`: keys, choices, and what the engine's sessions opened."""
    market = context.market
    found = [
        Opening("quantised first layer", (AUTHORITY,), outputs * market.architecture.features, "keys are made for it"),
        Opening("rows selected", (CLOUD, AUTHORITY), market.budget, "their shares and label keys are asked for"),
        Opening(
            "selected labels in orders that it does not know",
            (AUTHORITY,),
            market.budget * market.architecture.classes,
            "it sees whether each is one class, and not which",
        ),
    ]
    if market.validation:
        why = "later subsets are trained beside them"
        found.append(Opening("which subsets were accepted", (CLOUD, AUTHORITY), verdicts, why))
    sums: dict[tuple[str, tuple[str, ...], str], int] = {}
    for one in (*found, *ledger):
        key = one.what, one.to, one.why
        sums[key] = sums.get(key, 0) + one.numbers
    return tuple(Opening(what, to, numbers, why) for (what, to, why), numbers in sums.items())
