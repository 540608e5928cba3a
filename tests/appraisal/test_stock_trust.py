"""CrypTen as shipped has a dealer of the model owner's orders alone: request, record and card say it, of this engine
and of no other."""

from dataclasses import replace

import pytest
from test_deal_edges import Deal

from mpc_appraisal.appraisal.agreement import make_request
from mpc_appraisal.common.roles import CHEATING, STOCK_TRUST, TRUST
from mpc_appraisal.mpc.backends.registry import trust_of
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result

SAID = ("takes its orders from the model owner alone (rank 0)", "nothing pins what it deals")
UNTRUE = "cannot have the dealer unmask"  # of an engine without a script


def test_the_trust_of_each_engine():
    assert trust_of("stock") == STOCK_TRUST and all(said in STOCK_TRUST for said in SAID)
    assert UNTRUE in CHEATING and UNTRUE not in STOCK_TRUST
    for engine in ("fast", "rtas"):
        assert UNTRUE in trust_of(engine) and not any(said in trust_of(engine) for said in SAID)
    assert trust_of("fast") == TRUST


@pytest.mark.parametrize("engine", ["stock", "fast"])
def test_the_request_says_it(tmp_path, engine):
    deal = Deal(tmp_path)
    facts, published = deal.published()
    text = make_request(replace(deal.plan(), engine=engine), facts, published, dict.fromkeys(facts)).text()
    assert [said in " ".join(text.split()) for said in SAID] == [engine == "stock"] * 2


def test_the_card_says_it_whole(tmp_path):
    record = Record("influence", "seller", 0.5, session="join", engine="stock", trust=trust_of("stock"))
    for path in write_cards(Result([record]), tmp_path):
        assert "are not cryptographic" in " ".join(path.read_text(encoding="utf-8").split())
        assert SAID[1] in " ".join(path.read_text(encoding="utf-8").split())
