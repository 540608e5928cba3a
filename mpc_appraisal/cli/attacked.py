"""Attacks on the protocol of an appraisal: which fit, and what they recover.

Which views an appraisal leaves is said in `attack_views`, and an attack fits that begins from one of them. In go the
configuration, and the inputs of both sides, which a run on one machine has. Out comes an `Attacked`, beside the cost of
the same appraisal in the clear. Attacks are simulated from the model owner's model, and change nothing in the
appraisal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.sessions import Join, Plain
from mpc_appraisal.attacks.measures import EVERY, Attack, EveryAttack, NoAttack, attacks_on
from mpc_appraisal.cli.attack_views import OFFERS, prepared_sides, shown, view_of
from mpc_appraisal.cli.config import instantiate
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
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
from mpc_appraisal.transformations.views import CloudView

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
    return attacks_on(chosen, RTAS if session.engine == RTAS else cfg.protocol.name, shown(plan, session), EVERY)


def check_candidates(attacks: Sequence[Attack] | None, seller: DataOwnerInput) -> list[Attack] | None:
    """Return the attacks without those that compare candidates, where there is one candidate alone; None for none.

    Raises InputError where no other attack was chosen.
    """
    if attacks is None or len(seller.candidates) > 1:
        return None if attacks is None else list(attacks)
    fitting = [attack for attack in attacks if attack.reads != OFFERS]
    if attacks and not fitting:
        expected = f"two candidates or more; there is one: {seller.candidates[0].name}"
        raise InputError("attack", attacks[0].name, expected)
    return fitting


def attacks_on_market(cfg: DictConfig, protocol: str) -> list[Attack] | None:
    """Return the attacks to measure on a protocol of the marketplace; None where none is chosen.

    Raises InputError for an attack that does not fit. Under `ife_shares` no party sees a value, and none fits.
    """
    chosen = instantiate(cfg.attack)
    if chosen.name == NoAttack.name:
        return None
    return attacks_on(chosen, protocol, ("cloud",) if protocol == IfeTransform.name else (), EVERY)


def attack_appraisal(
    attacks: Sequence[Attack],
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    result: Result,
    emit: Callable[[dict[str, Any]], None],
    chosen: str = EveryAttack.name,
) -> Attacked:
    """Measure the attacks on the rows of all candidates together, and the cost of the appraisal in the clear.

    Args:
        attacks: What `attacks_on_appraisal` returned.
        plan, buyer, seller: As for `Spawn.run`.
        result: The records of the appraisal.
        emit: A function that takes progress events.
        chosen: The name of the choice of attacks.
    """
    emit({"state": "the same appraisal in the clear"})
    prepared, candidates = prepared_sides(plan, buyer, seller)
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
        view = view_of(attack.reads, plan, prepared, candidates, bool(private))
        findings += [found.as_dict() for found in attack.measure(view, plan.seed)]
    return Attacked(
        label=LABELS[engine] if private else "appraisal in the clear",
        operation=f"appraisal by {', '.join(method.name for method in plan.methods)}",
        seconds=sum(r.total_seconds - r.seconds.get(OWN_WORK, 0.0) for r in private) if private else None,
        plain_seconds=plain,
        megabytes=sum(r.megabytes for r in private) if private else None,
        attacks=findings,
        chosen=chosen,
    )


# -- the marketplace -----------------------------------------------------------------------------------------------
def attack_market(
    attacks: Sequence[Attack],
    simulated: SimulatedMarket,
    record: MarketRecord,
    seed: int,
    chosen: str = EveryAttack.name,
) -> Attacked:
    """Measure the attacks of the cloud on a marketplace, and the cost of the same marketplace in the clear.

    Args:
        attacks: What `attacks_on_market` returned.
        simulated: The market, which the run has used.
        record: The record of the run.
        seed: The seed of all that is drawn.
        chosen: The name of the choice of attacks.
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
        chosen=chosen,
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
