"""What the model owner compares before it asks: who signed its offer, and whether the request keeps it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from offers import BUYER, OWNER, STRANGER, key_of, offer, request, terms
from processes import DATA_OWNER, MODEL_OWNER

from mpc_appraisal.appraisal.counterparty import check_counterparty
from mpc_appraisal.appraisal.decided import check_terms
from mpc_appraisal.appraisal.plan import DataOwnerInput, DisclosureControls, ModelOwnerInput
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.methods import Influence

METRICS = {"one_of": ["log_loss", "squared_error"]}
OFFER = offer(terms("methods", "influence", "metric", to=METRICS) | {"until": "2999-12-31"})
TAKER = ModelOwnerInput(controls=DisclosureControls(offer=OFFER))


def seat(key: str | None):
    """A connection whose other owner shows this key."""
    return SimpleNamespace(certified=lambda role: key)


def test_an_offer_has_to_be_signed_with_the_key_that_the_data_owner_shows():
    check_counterparty(MODEL_OWNER, TAKER, seat(key_of(OWNER)))
    with pytest.raises(
        DisagreementError, match="the offer standard .* was signed with the key .* that of the data owner"
    ):
        check_counterparty(MODEL_OWNER, TAKER, seat(key_of(STRANGER)))
    with pytest.raises(InputError, match="^party.offer: got standard; expected session.transport=tls"):
        check_counterparty(MODEL_OWNER, TAKER, seat(None))


@pytest.mark.parametrize(
    ("damping", "metric"), [(0.0, "log_loss"), (0.5, "squared_error"), (0.7, "log_loss"), (0.0, "auroc")]
)
def test_the_model_owner_is_warned_of_each_term_that_its_request_does_not_keep(damping, metric, capsys):
    plan = SimpleNamespace(methods=(Influence(damping=damping, metric=metric),))
    check_terms(plan, TAKER, request(OFFER), {MODEL_OWNER: BUYER})
    said = capsys.readouterr().err
    warning = "warning: the request does not keep the offer standard (party.offer): methods.influence."
    assert (f"{warning}damping: got 0.7; expected from 0 to 0.5" in said) == (damping == 0.7)
    assert (f"{warning}metric: got auroc; expected one of log_loss, squared_error" in said) == (metric == "auroc")
    assert said.count("\n") == (damping == 0.7) + (metric == "auroc")


def test_terms_are_compared_at_the_model_owner_alone():
    shown = []
    new = request(OFFER)
    old = request(OFFER, purpose={"kind": "research", "text": ""})
    agreed = ModelOwnerInput(controls=DisclosureControls(agreed=old, show=shown.append))
    plan = SimpleNamespace(methods=(Influence(),))
    with pytest.raises(DisagreementError, match="purpose: research before, purchase: a supplier for 2027 now"):
        check_terms(plan, agreed, new, {})
    assert shown == [new]  # the model owner can read what it did not agree to
    check_terms(plan, DataOwnerInput((), DisclosureControls(agreed=old)), new, {DATA_OWNER: BUYER})
    check_terms(plan, None, new, {})
