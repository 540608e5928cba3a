"""Attacks on the protocol of an appraisal: which fit, and what they recover.

On the engine rtas a helper sees the logits of all rows, permuted, and the attacks that read a helper's view fit; on the
other engines no party sees a value, and none fits. In go the configuration, and the inputs of both sides, which a run
on one machine has. Out comes an `Attacked`, beside the cost of the same appraisal in the clear. Attacks are simulated
from the model owner's model, and change nothing in the appraisal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import Prepared, classes_of, prepare, transformed
from mpc_appraisal.appraisal.sessions import Join, Plain
from mpc_appraisal.attacks.measures import EVERY, Attack, NoAttack, attacks_on
from mpc_appraisal.cli.config import instantiate
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.data.targets import CLASSES
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.protocols.masked_layers import Masks, mask
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.quantised import quantise
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.marketplace.simulation import SimulatedMarket
from mpc_appraisal.models.networks import first_matrix
from mpc_appraisal.mpc.backends.rtas import NAME as RTAS
from mpc_appraisal.mpc.backends.settings import PlainSettings
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.transformations.views import CloudView, HelperView

OWN_WORK = "plaintext"  # the phase in which the model owner works in the clear, which is the same without a protocol
LABELS = {"fast": "appraisal on shares", "stock": "appraisal by CrypTen", RTAS: "appraisal by RTAS"}


def attacks_on_appraisal(cfg: DictConfig, plan: Plan, session: Any) -> list[Attack] | None:
    """Return the attacks to measure; None where none is chosen.

    Raises InputError for an attack that does not fit, and for any between organisations, where nobody has both sides.
    """
    chosen = instantiate(cfg.attack)
    if chosen.name == NoAttack.name:
        return None
    if isinstance(session, Join):
        raise InputError("attack", chosen.name, "none with session=join: nobody holds both sides")
    return attacks_on(chosen, RTAS if session.engine == RTAS else cfg.protocol.name, _shown(plan, session), EVERY)


def attacks_on_market(cfg: DictConfig, protocol: str) -> list[Attack] | None:
    """Return the attacks to measure on a protocol of the marketplace; None where none is chosen.

    Raises InputError for an attack that does not fit. Under `ife_shares` no party sees a value, and none fits.
    """
    chosen = instantiate(cfg.attack)
    if chosen.name == NoAttack.name:
        return None
    return attacks_on(chosen, protocol, ("cloud",) if protocol == IfeTransform.name else (), EVERY)


def _shown(plan: Plan, session: Any) -> tuple[str, ...]:
    """Return the views that the session leaves: a helper sees the logits of classes, where a method computes them."""
    classes = plan.model is not None and plan.model.target == CLASSES
    helped = session.engine == RTAS and classes and any(method.uses_labels for method in plan.methods)
    return ("helper",) if helped else ()


def attack_appraisal(
    attacks: Sequence[Attack],
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    result: Result,
    emit: Callable[[dict[str, Any]], None],
) -> Attacked:
    """Measure the attacks on the rows of all candidates together, and the cost of the appraisal in the clear.

    Args:
        attacks: What `attacks_on_appraisal` returned.
        plan, buyer, seller: As for `Spawn.run`.
        result: The records of the appraisal.
        emit: A function that takes progress events.
    """
    emit({"state": "the same appraisal in the clear"})
    prepared, candidates = _prepared(plan, buyer, seller)
    start = time.perf_counter()
    for method in plan.methods:
        for candidate in candidates:
            prepared.plaintext(method, candidate)
    plain = time.perf_counter() - start
    private = [r for r in result if not r.baseline and r.session != Plain.name]
    engine = private[0].engine if private else plan.engine
    findings: list[dict[str, Any]] = []
    for attack in attacks:
        emit({"state": f"attack: {attack.name.replace('_', ' ')}"})
        findings += [found.as_dict() for found in attack.measure(_view(prepared, candidates), plan.seed)]
    return Attacked(
        label=LABELS[engine] if private else "appraisal in the clear",
        operation=f"appraisal by {', '.join(method.name for method in plan.methods)}",
        seconds=sum(r.total_seconds - r.seconds.get(OWN_WORK, 0.0) for r in private) if private else None,
        plain_seconds=plain,
        megabytes=sum(r.megabytes for r in private) if private else None,
        attacks=findings,
    )


def _prepared(plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput) -> tuple[Prepared, list[Dataset]]:
    classes = classes_of(buyer, plan)
    candidates = transformed(seller, plan, {c.name: classes for c in seller.candidates}).candidates
    return prepare(buyer, plan, classes), [c.with_classes(classes) for c in candidates]


def _view(prepared: Prepared, parts: Sequence[Dataset]) -> HelperView:
    """Return what the helper is shown of the candidates: logits, or one logit a row where the model has one output."""
    rows = Dataset(torch.cat([c.x for c in parts]), torch.cat([c.y for c in parts]), parts[0].classes)
    logits = prepared.model.logits
    hidden = "columns" if logits(rows.x[:1]).shape[1] > 1 else "entries"
    return HelperView(hidden, logits, lambda: logits(rows.x)[None], rows, prepared.test or prepared.train)


# -- the marketplace -----------------------------------------------------------------------------------------------
def attack_market(attacks: Sequence[Attack], simulated: SimulatedMarket, record: MarketRecord, seed: int) -> Attacked:
    """Measure the attacks of the cloud on a marketplace, and the cost of the same marketplace in the clear.

    Args:
        attacks: What `attacks_on_market` returned.
        simulated: The market, which the run has used.
        record: The record of the run.
        seed: The seed of all that is drawn.
    """
    start = time.perf_counter()
    run_market(simulated.market, simulated.shopper, simulated.sellers, PlainSettings())
    plain = time.perf_counter() - start
    spent, private = record["costs"].values(), record["session"] != PlainSettings.name
    findings = [found.as_dict() for each in attacks for found in each.measure(_cloud(simulated), seed)]
    return Attacked(
        label=record["protocol"],
        operation="selection and validation at the marketplace",
        seconds=sum(max(c["seconds"] for c in roles.values()) for roles in spent) if private else None,
        plain_seconds=plain,
        megabytes=sum(c["bytes"] for roles in spent for c in roles.values()) / 1e6 if private else None,
        attacks=findings,
    )


def _cloud(simulated: SimulatedMarket) -> CloudView:
    """Return what the cloud has under `ife_transform`, with masks that are drawn here as the shopper draws its own."""
    network = simulated.shopper.network
    masked = mask(network, Masks.draw(network.architecture))
    sellers, classes = simulated.sellers, network.architecture.classes
    images = np.concatenate([seller.x for seller in sellers])
    labels = torch.from_numpy(np.concatenate([seller.y for seller in sellers])).to(torch.int64)
    known = Dataset(torch.from_numpy(images).to(torch.float32) / 255, labels, classes)
    layer = quantise(first_matrix(masked)).w

    def own(x: torch.Tensor) -> torch.Tensor:
        return network.logits(x).argmax(1)

    return CloudView(layer, images.astype(np.int64), masked.logits, own, known, simulated.test)
