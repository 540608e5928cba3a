"""The marketplace refuses by name what is foreign, tampered, over its cap or of another shape, and serves the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from processes import free_port
from small_market import (
    CAP,
    PROBABILITY,
    SHARES,
    SMALL,
    in_processes,
    in_threads,
    market,
    problem,
    served,
    stocked,
)

from mpc_appraisal.appraisal.sessions import Plain, Spawn
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.plan import SellerInput, Validation
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.roles import CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.party import take_part
from mpc_appraisal.marketplace.uploads.enrolment import enrol
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.models.networks import ARCHITECTURES
from mpc_appraisal.mpc.net.certificates import make_trial


def test_a_tampered_upload_is_refused_by_name_and_the_others_are_served(simulated):
    plan, shopper, sellers, places = simulated
    path = places["inbox"] / "seller-1.upload"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = in_threads(plan, shopper, sellers, places)
    served(found, ["seller-0", "seller-2"])
    ((name, why),) = found[SHOPPER].refused
    assert name == "seller-1" and "upload of seller-1" in why and "altered" in why


def test_a_foreign_sellers_file_is_refused_by_name(simulated, tmp_path):
    plan, shopper, sellers, places = simulated
    stranger = SellerInput("stranger", sellers[0].x, sellers[0].y)
    other = stocked(tmp_path / "elsewhere", plan, [stranger])
    (places["inbox"] / "stranger.upload").write_bytes((other["inbox"] / "stranger.upload").read_bytes())
    (places["inbox"] / "seller-2.upload").write_bytes((places["inbox"] / "seller-0.upload").read_bytes())
    found = in_threads(plan, shopper, sellers, places)
    served(found, ["seller-0", "seller-1"])
    refused = dict(found[SHOPPER].refused)
    assert set(refused) == {"seller-2", "stranger"}
    assert "does not know" in refused["stranger"] and "seller-0" in refused["seller-2"]


def test_a_seller_over_its_key_cap_is_refused_by_name(simulated):
    plan, shopper, sellers, places = simulated
    authority = Authority(places["authority"], plan.protocol.scheme, CAP)
    authority.function_key(
        "seller-1", np.eye(64, dtype=np.int64)[:55]
    )  # of 57; the network's rows need more on the rest
    found = in_threads(plan, shopper, sellers, places)
    served(found, ["seller-0", "seller-2"])
    ((name, why),) = found[SHOPPER].refused
    assert name == "seller-1" and "rows for seller-1" in why and authority.issued("seller-1").rows == 55


def test_shares_over_tls_serve_who_is_left_as_the_baseline_does(tmp_path):
    """One seller of four is over its cap and one file is cut, so the rows are counted without them."""
    validation = Validation(4, steps=2, lr=0.05, batch_size=16)
    plan = replace(market(protocol=IfeShares(LWE(), opens="logits"), budget=4), validation=validation)
    shopper, sellers = problem(SMALL, sellers=4, rows=8)
    places = stocked(tmp_path, plan, sellers)
    Authority(places["authority"], plan.protocol.scheme, CAP).function_key("seller-1", np.eye(64, dtype=np.int64)[:55])
    path = places["inbox"] / "seller-0.upload"
    path.write_bytes(path.read_bytes()[:-1])
    make_trial(tmp_path / "tls")
    found = in_processes(plan, shopper, places, tls=(f"tcp://127.0.0.1:{free_port()}", str(tmp_path / "tls")))
    plain = run_market(plan, shopper, sellers[2:], Plain())
    assert sorted(dict(found.refused)) == ["seller-0", "seller-1"]
    assert found.selected == plain.selected and found.verdicts == plain.verdicts
    for name, expected in plain.probabilities.items():
        assert (found.probabilities[name] - expected).abs().max() <= PROBABILITY["ife_shares"]


def test_an_image_of_another_shape_is_refused_by_name(simulated, tmp_path):
    plan, shopper, sellers, places = simulated
    wide = replace(SMALL, image=(1, 4, 16))
    file = enrol(places["authority"], "wide", wide, places["enrolments"], plan.protocol.scheme, CAP)
    upload(SellerInput("wide", sellers[0].x, sellers[0].y), file, places["inbox"])
    found = in_threads(plan, shopper, sellers, places)
    served(found, ["seller-0", "seller-1", "seller-2"])
    assert "images of shape (1, 4, 16)" in dict(found[SHOPPER].refused)["wide"]
    with pytest.raises(InputError, match="images of seller-0: got 64 pixels; expected 784"):
        run_market(market(ARCHITECTURES["cnn"]), problem(ARCHITECTURES["cnn"])[0], sellers, Plain())
    with pytest.raises(InputError, match="network"):
        run_market(market(ARCHITECTURES["mlp"]), shopper, sellers, Plain())


def test_a_budget_larger_than_the_pool_is_refused_at_all(simulated):
    plan, shopper, sellers, places = simulated
    large = replace(plan, budget=61)
    with pytest.raises(InputError, match="budget: got 61; expected at most 60"):
        run_market(large, shopper, sellers, Spawn())
    found = in_threads(large, shopper, sellers, places)
    assert all(isinstance(error, InputError) and error.name == "budget" for error in found.values())


def test_different_plans_share_nothing(simulated):
    plan, shopper, sellers, places = simulated
    found = in_threads(plan, shopper, sellers, places, {CLOUD: replace(plan, selection="entropy")})
    assert all(isinstance(error, DisagreementError | PeerError) for error in found.values())
    assert "selection: 'margin' at model_owner, 'entropy' at data_owner" in str(found[SHOPPER])
    assert Authority(places["authority"], plan.protocol.scheme, CAP).issued("seller-0").rows == 0


def test_an_input_that_does_not_fit_its_role_is_named():
    shopper, sellers = problem(SMALL)
    with pytest.raises(InputError, match="own rows"):
        run_market(market(), replace(shopper, own=None), sellers, Plain())
    with pytest.raises(InputError, match="momentum"):
        replace(market(protocol=SHARES), validation=Validation(2, 1, 0.1, 4, momentum=0.9))
    with pytest.raises(InputError, match="sellers"):
        run_market(market(), shopper, [sellers[0], sellers[0]], Plain())
    with pytest.raises(InputError, match="labels of seller-0"):
        run_market(market(), shopper, [replace(sellers[0], y=sellers[0].y + 10)], Plain())
    for session in (Spawn(engine="stock"), Spawn(transport="gloo")):
        with pytest.raises(InputError, match="^engine: |^transport: "):
            run_market(market(), shopper, sellers, session)
    with pytest.raises(InputError, match="inbox"):
        take_part(SHOPPER, f"tcp://127.0.0.1:{free_port()}", market(protocol=SHARES), lambda: shopper)
