"""`run_market` runs a whole marketplace from Python, on one machine.

In go the public plan, the shopper's input and the sellers' inputs. Out comes the shopper's `MarketResult`. A run takes
place in one process in the clear, which is the baseline, or in processes of the roles: shopper, cloud, key authority,
and groups of sellers, which have left before the other roles meet. Organisations on several machines do not use this
file; each calls `roles.party.take_part`.

How many sellers share a process and how files reach a process may change. Three things have to stay: each process is
given its own role's files alone; the sellers' files go to the role in `HOLDERS` and nowhere else; and `_enrol`, `_sell`
and `_spawned` take the arguments that `launch` passes to them.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.cap import CAP_SHARE, check_cap
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, whole
from mpc_appraisal.marketplace.result import PHASES, MarketResult, PhaseCosts, by_phase
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SELLERS, SHOPPER
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import Connection
from mpc_appraisal.marketplace.roles.party import HOLDERS, take_part
from mpc_appraisal.marketplace.roles.plain import run_plain
from mpc_appraisal.marketplace.roles.shares import ENGINE
from mpc_appraisal.marketplace.uploads.enrolment import SUFFIX, enrol
from mpc_appraisal.marketplace.uploads.seller import Receipt, upload
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.backends.settings import PlainSettings, SpawnSettings, refuse_integrity
from mpc_appraisal.mpc.net.launch import Emit, launch
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.transport import Transport

SELLERS_PER_PROCESS = 25


def run_market(
    market: MarketPlan,
    shopper: ShopperInput,
    sellers: Sequence[SellerInput],
    session: PlainSettings | SpawnSettings | None = None,
    cap_share: float = CAP_SHARE,
    sellers_per_process: int = SELLERS_PER_PROCESS,
    emit: Emit = lambda event: None,
) -> MarketResult:
    """Enrol the sellers, let them upload, then predict, select and validate.

    Args:
        market: the public plan.
        shopper: the shopper's input.
        sellers: one input for each seller; no two have the same name.
        session: `PlainSettings` for the baseline, one process without privacy; or `SpawnSettings`, the default, where
            each role and each group of sellers has a process and files of its own on this machine. The setting
            `logit_bound` is not used, and `integrity` has to be off.
        cap_share: the largest number of independent first-layer rows that the authority issues keys for, as a share of
            the pixels of an image.
        sellers_per_process: how many sellers share a process. All sellers have left before the shopper comes.
        emit: a function that receives progress events.

    Returns the shopper's `MarketResult`.

    Raises:
        InputError: an argument or input is bad; the error names it.
        PeerError: a role failed or vanished; the error names the role.
    """
    session = session or SpawnSettings()
    refuse_integrity(session, "a marketplace")
    whole("sellers_per_process", sellers_per_process)
    shopper.check(market)
    _check_sellers(market, sellers)
    runners: dict[str, Callable[[], MarketResult]] = {
        PlainSettings.name: lambda: run_plain(market, shopper, sellers),
        SpawnSettings.name: lambda: _run_spawned(
            market, shopper, sellers, session, cap_share, sellers_per_process, emit
        ),
    }
    if session.name not in runners:
        raise InputError("session", session.name, f"one of {', '.join(runners)}; between organisations: `take_part`")
    return runners[session.name]()


def _check_sellers(market: MarketPlan, sellers: Sequence[SellerInput]) -> None:
    names = [seller.name for seller in sellers]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InputError("sellers", ", ".join(sorted(doubled)), "different names")
    for seller in sellers:
        if seller.x.shape[1] != market.architecture.features:
            expected = f"{market.architecture.features}, an image {market.architecture.image}"
            raise InputError(f"images of {seller.name}", f"{seller.x.shape[1]} pixels", expected)
        if seller.y.min() < 0 or seller.y.max() >= market.architecture.classes:
            found = f"{seller.y.min()}..{seller.y.max()}"
            raise InputError(f"labels of {seller.name}", found, f"0..{market.architecture.classes - 1}")
    market.check_pool(sum(len(seller.x) for seller in sellers))


def _run_spawned(
    market: MarketPlan,
    shopper: ShopperInput,
    sellers: Sequence[SellerInput],
    session: SpawnSettings,
    cap_share: float,
    per_process: int,
    emit: Emit,
) -> MarketResult:
    if session.engine != ENGINE:
        raise InputError("engine", repr(session.engine), f"{ENGINE}: the marketplace has no other")
    check_cap(market.architecture, cap_share)  # before sellers encrypt anything
    transport = Transport(session.transport, session.tls and str(Path(session.tls).absolute()), session.freeze_timeout)
    connection = Connection(transport, session.join_timeout, session.timeout)
    with tempfile.TemporaryDirectory(prefix="mpc-market-") as root:
        state, enrolments, inbox = (Path(root, name) for name in ("authority", "enrolments", "inbox"))
        job = {"names": [s.name for s in sellers], "market": market, "state": state, "out": enrolments}
        enrolled = launch(_enrol, {AUTHORITY: job | {"cap_share": cap_share}}, emit, session.threads)[AUTHORITY]
        groups = [sellers[start : start + per_process] for start in range(0, len(sellers), per_process)]
        receipts: list[Receipt] = []
        for place, group in enumerate(groups):  # one process at a time, because sellers need not meet
            files = {f"{s.name}.npz": _writer(s) for s in group}
            files |= {f"{s.name}{SUFFIX}": _copier(enrolments / f"{s.name}{SUFFIX}") for s in group}
            name = f"{SELLERS}-{place}"
            receipts += launch(_sell, {name: {"inbox": inbox, "files": files}}, emit, session.threads)[name]
        jobs: dict[str, dict[str, Any]] = {role: {} for role in (SHOPPER, CLOUD, AUTHORITY)}
        at = {role: inbox if HOLDERS[market.protocol.name] == role else None for role in jobs}
        jobs[SHOPPER] = {"read": lambda folder: _read_shopper(folder, at[SHOPPER]), "files": _files_of(shopper)}
        jobs[CLOUD] = {"read": lambda folder: CloudInput(at[CLOUD])}
        jobs[AUTHORITY] = {"read": lambda folder: AuthorityInput(state, cap_share)}
        common = {"market": market, "connection": connection, "where": _where(session)}
        jobs = {role: job | common for role, job in jobs.items()}
        result = launch(_spawned, jobs, emit, session.threads)[SHOPPER]
    sold = PhaseCosts(Meter())
    for receipt in receipts:
        sold.add("encrypt", receipt.seconds)
        sold.add("upload", 0.0, receipt.bytes)
    before = by_phase({AUTHORITY: enrolled, SELLERS: sold.phases})
    phases = {phase: before.get(phase, {}) | result.costs.get(phase, {}) for phase in PHASES}
    return replace(result, costs={phase: roles for phase, roles in phases.items() if roles})


def _where(session: SpawnSettings) -> str | None:
    """Return a free local address for TLS, and None for other transports, which use the launcher's rendezvous.

    TLS needs an address of its own because the launcher's rendezvous is in the clear.
    """
    if session.transport != "tls":
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def _enrol(role, address, emit, folder, names, market: MarketPlan, state, out, cap_share):
    """Run the authority before the market, where it enrols all sellers. Returns its costs by phase."""
    costs = PhaseCosts(Meter())
    with costs.phase("enrol"):
        for name in names:
            enrol(state, name, market.architecture, out, market.protocol.scheme, cap_share)
    return costs.phases


def _sell(role, address, emit, folder, inbox) -> list[Receipt]:
    """Run some sellers, one after the other. Returns a receipt for each."""
    receipts = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            data = SellerInput(path.stem, arrays["x"], arrays["y"])
        receipts.append(upload(data, folder / f"{path.stem}{SUFFIX}", inbox))
    return receipts


def _spawned(role, address, emit, folder, market, read, connection, where) -> MarketResult | None:
    return take_part(role, where or address, market, lambda: read(folder), connection, hosted=True)


def _writer(seller: SellerInput) -> Callable[[Path], None]:
    return lambda path: np.savez(path, x=seller.x, y=seller.y)


def _copier(source: Path) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(source.read_bytes())


def _files_of(shopper: ShopperInput) -> dict[str, Callable[[Path], None]]:
    files: dict[str, Callable[[Path], None]] = {"network.npz": shopper.network.save}
    for name in ("own", "validation"):
        pair = getattr(shopper, name)
        if pair is not None:
            files[f"{name}.npz"] = lambda path, pair=pair: np.savez(path, x=np.asarray(pair[0]), y=np.asarray(pair[1]))
    return files


def _read_shopper(folder: Path, inbox: Path | None) -> ShopperInput:
    pairs = {}
    for name in ("own", "validation"):
        if (folder / f"{name}.npz").exists():
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                pairs[name] = arrays["x"], arrays["y"]
    return ShopperInput(Network.load(folder / "network.npz"), inbox=inbox, **pairs)
