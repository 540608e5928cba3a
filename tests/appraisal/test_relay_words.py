"""The setting session.relay in requests, records and trust: that there is a relay is stated, where it is stays out."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from test_deal_edges import Deal

from mpc_appraisal.appraisal.agreement import make_request
from mpc_appraisal.appraisal.sessions import Join
from mpc_appraisal.appraisal.settings import settings_of
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, RELAY_TRUST, ROLES, TRUST, TRUST_CHECKED
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.mpc.backends.registry import trust_of
from mpc_appraisal.mpc.net.transport import Transport

PLACE = "relay.example:7787"


def flat(text: str) -> str:
    return " ".join(text.split())


def request(folder, relay: str | None, integrity: bool = False) -> Request:
    deal = Deal(folder)
    facts, published = deal.published()
    plan = deal.plan(transport=Transport("tls", relay=relay), integrity=integrity)
    keys = {role: f"{rank}" * 64 for rank, role in enumerate(ROLES)} if relay else None
    return make_request(plan, facts, published, dict.fromkeys(facts), keys=keys)


def test_the_trust_says_what_a_relay_learns():
    assert trust_of("fast", relay=True) == f"{TRUST} {RELAY_TRUST}"
    assert trust_of("fast", True, True) == f"{TRUST_CHECKED} {RELAY_TRUST}"
    assert RELAY_TRUST not in trust_of("fast")


def test_the_request_says_that_there_is_a_relay_and_who_the_dealer_is(tmp_path):
    none, one = request(tmp_path, None), request(tmp_path, PLACE)
    assert (
        set(none.content["protocol"]) == {"engine", "transport", "trust"} and one.content["protocol"]["relay"] == "on"
    )
    assert request(tmp_path, "10.0.0.1:1/other").digest == one.digest != none.digest
    text = flat(one.text())
    assert "Relay (session.relay): on; all parties dial out to it." in text and "(session.relay)" not in none.text()
    assert RELAY_TRUST in text and PLACE not in text
    assert f"The dealer is whoever holds the certificate key with SHA-256 {'2' * 64}" in text
    with pytest.raises(InputError, match="protocol.relay"):
        Request(one.content | {"protocol": one.content["protocol"] | {"relay": PLACE}})


def test_settings_state_that_there_is_a_relay_and_not_where(tmp_path):
    plan = Deal(tmp_path).plan(transport=Transport("tls", relay=PLACE))
    assert settings_of(plan, "join")["session.relay"] == "on" and PLACE not in str(settings_of(plan, "join"))
    assert "session.relay" not in settings_of(Deal(tmp_path).plan(), "join")


def test_a_configuration_without_a_relay_has_the_keys_of_before():
    own = ["session=join", "party.train=null"]
    none, one = compose(own), compose([*own, f"session.relay={PLACE}"])
    assert public_part(none) == public_part(one) and "session.relay" not in public_part(one)
    before = compose(own)
    OmegaConf.set_struct(before, False)
    del before.session["relay"]
    assert job_key(before) == job_key(none)


def test_a_relay_needs_tls_and_stands_in_place_of_addresses():
    relay, where = "relay.example:7787/first", "tcp://127.0.0.1:1"
    for transport in ("tcp", "gloo"):
        with pytest.raises(InputError, match="^relay: got .*expected session.transport=tls"):
            Join(DATA_OWNER, transport=transport, in_the_clear=True, relay=relay)
    for key in ("rendezvous", "data_owner_address"):
        with pytest.raises(InputError, match=f"^{key}: got .*no party listens"):
            Join(DATA_OWNER, relay=relay, **{key: where})
    with pytest.raises(InputError, match="^session.tls: got None"):
        Join(DATA_OWNER, relay=relay).check()
    with pytest.raises(InputError, match="^session.relay: got .*expected session.transport=tls"):
        Transport(relay=relay)
