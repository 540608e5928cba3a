"""`mpc-appraisal market`: the marketplace between organisations. Files travel as they like; the last three meet online.

authority   enrol      a seller's secrets in one file, for the seller alone
seller      upload     one signed file of ciphertexts; then the seller is done
three       join       shopper, cloud and authority, each with the same plan file and inputs of its own
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.plan import SellerInput, ShopperInput
from mpc_appraisal.marketplace.plan_file import architecture_of, read_plan
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.authority import CAP_SHARE, AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import TRANSPORTS, Connection
from mpc_appraisal.marketplace.roles.party import Own, take_part
from mpc_appraisal.marketplace.uploads.enrolment import SCHEMES, enrol
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.models.networks import ARCHITECTURES, Network
from mpc_appraisal.mpc.net.transport import Transport, check_clear

ROLES = {"shopper": SHOPPER, "cloud": CLOUD, "authority": AUTHORITY}
LARGEST = 1 << 34  # bytes of a seller's own images, unpacked
ARRAYS = "a .npz file with x (rows, pixels) uint8 and y (rows,) integers"


def main(arguments: Sequence[str]) -> None:
    """The subcommand. Raises InputError, DisagreementError and PeerError; see `take_part`."""
    stated = _parser().parse_args(arguments)
    actions: dict[str, Callable[[argparse.Namespace], None]] = {"enrol": _enrol, "upload": _upload, "join": _join}
    actions[stated.action](stated)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mpc-appraisal market", description="The encrypted marketplace.")
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("enrol", help="at the authority: draw a seller's secrets and write them for it")
    one.add_argument("STATE", type=Path, help="the authority's folder, made if it is not there; holds all secrets")
    one.add_argument("SELLER", help="its name: lower-case letters, digits, - and _")
    one.add_argument("--out", type=Path, default=Path("."), help="where SELLER.enrolment goes; for the seller alone")
    one.add_argument("--network", choices=sorted(ARCHITECTURES), default="cnn")
    one.add_argument("--image", type=int, nargs=3, metavar=("CHANNELS", "HEIGHT", "WIDTH"))
    one.add_argument("--classes", type=int)
    one.add_argument("--scheme", choices=sorted(SCHEMES), default="lwe")
    _cap(one)
    one = actions.add_parser("upload", help="at a seller: encrypt images and labels into one signed file")
    one.add_argument("DATA", type=Path, help=ARRAYS)
    one.add_argument("ENROLMENT", type=Path, help="the file from the authority")
    one.add_argument("--out", type=Path, default=Path("."), help="where SELLER.upload goes; may travel in the open")
    one = actions.add_parser("join", help="shopper, cloud or authority: play a part")
    one.add_argument("ROLE", choices=sorted(ROLES))
    one.add_argument("ADDRESS", help="tcp://HOST:PORT where the shopper listens; the same at all")
    one.add_argument("PLAN", type=Path, help="the plan's JSON file; equal at all three")
    one.add_argument("--network", type=Path, help="shopper: the network's .npz file")
    one.add_argument("--own", type=Path, help=f"shopper: own rows, {ARRAYS}")
    one.add_argument("--validation", type=Path, help="shopper: rows to validate on, likewise")
    one.add_argument("--inbox", type=Path, help="the sellers' uploads: cloud (ife_transform) or shopper (ife_shares)")
    one.add_argument("--state", type=Path, help="authority: its folder")
    one.add_argument("--out", type=Path, help="shopper: where the result goes, as JSON")
    one.add_argument("--deliver", type=Path, help="shopper: where a delivered network goes")
    one.add_argument("--transport", choices=TRANSPORTS, default="tls", help="default: %(default)s")
    one.add_argument("--tls", help="folder of certificate files: see `mpc-appraisal certificates`")
    one.add_argument(
        "--in-the-clear",
        action="store_true",
        help="state that who can read the network may read all that is sent; --transport tcp needs it",
    )
    one.add_argument("--join-timeout", type=float, default=120.0, help="seconds to wait for the others")
    one.add_argument("--timeout", type=float, default=300.0, help="seconds that one message may take")
    one.add_argument("--label-cap", type=int, help="authority: labels of one seller at most; default: no cap")
    _cap(one)
    return parser


def _cap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cap-share",
        type=float,
        default=CAP_SHARE,
        help="authority: independent rows at most, as a share of pixels; the lower of enrolment's and the run's",
    )


def _enrol(stated: argparse.Namespace) -> None:
    architecture = architecture_of(stated.network, stated.image, stated.classes)
    path = enrol(stated.STATE, stated.SELLER, architecture, stated.out, SCHEMES[stated.scheme](), stated.cap_share)
    print(f"{path}: secrets of {stated.SELLER}, for it alone")


def _upload(stated: argparse.Namespace) -> None:
    x, y = _arrays(stated.DATA, "data")
    receipt = upload(SellerInput(stated.ENROLMENT.stem, x, y), stated.ENROLMENT, stated.out)
    print(f"{receipt.file}: {receipt.rows} rows, {receipt.bytes} bytes, {receipt.seconds:.2f} s")


def _join(stated: argparse.Namespace) -> None:
    market = read_plan(stated.PLAN)
    reads: dict[str, Callable[[], Own]] = {
        SHOPPER: lambda: ShopperInput(
            Network.load(_needed(stated.network, "network")),
            None if stated.own is None else _arrays(stated.own, "own"),
            None if stated.validation is None else _arrays(stated.validation, "validation"),
            stated.inbox,
        ),
        CLOUD: lambda: CloudInput(stated.inbox),
        AUTHORITY: lambda: AuthorityInput(_needed(stated.state, "state"), stated.cap_share, stated.label_cap),
    }
    role = ROLES[stated.ROLE]
    check_clear(stated.transport, stated.in_the_clear, "--in-the-clear")
    connection = Connection(Transport(stated.transport, stated.tls), stated.join_timeout, stated.timeout)
    result = take_part(role, stated.ADDRESS, market, reads[role], connection)
    if result is not None:
        _tell(result, stated)


def _tell(result: MarketResult, stated: argparse.Namespace) -> None:
    print(f"{result.label}")
    for sentence in result.leakage:
        print(f"- {sentence}")
    for name, why in result.refused:
        print(f"refused: {name}: {why}")
    print(f"selected {len(result.selected)} rows of {len(result.probabilities)} sellers")
    for verdict in result.verdicts:
        word = "accepted" if verdict.accepted else "refused"
        print(f"subset {verdict.subset}: error {verdict.error:.4f}, threshold {verdict.threshold:.4f}: {word}")
    if stated.out is not None:
        stated.out.write_text(json.dumps(as_json(result), indent=1) + "\n")
    if stated.deliver is not None and result.network is not None:
        result.network.save(stated.deliver)


def as_json(result: MarketResult) -> dict[str, Any]:
    """All but the predictions and the network."""
    return {
        "label": result.label,
        "leakage": list(result.leakage),
        "selected": [list(pair) for pair in result.selected],
        "verdicts": [asdict(v) | {"error": v.error, "accepted": v.accepted} for v in result.verdicts],
        "labels": None if result.labels is None else result.labels.tolist(),
        "refused": [list(pair) for pair in result.refused],
        "costs": result.costs,
        "openings": [opening.as_dict() for opening in result.openings],
    }


def _arrays(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_arrays(path, name, ARRAYS, LARGEST)
    if not {"x", "y"} <= set(arrays):
        raise InputError(name, f"{path} with {shown(', '.join(arrays)) or 'no arrays'}", ARRAYS)
    return arrays["x"], arrays["y"]


def _needed(path: Path | None, name: str) -> Path:
    if path is None:
        raise InputError(name, None, f"--{name}: this role needs it")
    return path
