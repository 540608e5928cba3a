"""A request that nobody answers, that is refused, and that follows another."""

from __future__ import annotations

import os
import re
import time
from types import SimpleNamespace

import pytest
from deals import (
    OWNERS,
    SELLER,
    CertifiedMarket,
    Market,
    Session,
)
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    free_port,
    problem,
    stretched,
    write_csv,
)

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.governance.approval.decide import RequestQueue

# ---- no answer, no, and another request -----------------------------------------------------------------------


class Quiet(CertifiedMarket):
    """A market whose sessions all meet at the same place, for the place is public and part of a request; over TLS."""

    def start(self, *public: str, **own: list[str]) -> Session:
        self.port = getattr(self, "port", None) or free_port()
        return super().start(*public, port=self.port, **own)


@pytest.fixture(scope="module")
def quiet(module_processes):
    return Quiet(module_processes, "quiet", seller=SELLER)


@pytest.fixture(scope="module")
def left(quiet):
    """A request that waits while the model owner is killed; then the data owner says yes to it."""
    session = quiet.start()
    id = session.asked()
    ended = session.kill(MODEL_OWNER)
    COMMANDS["approval"](["yes", id, f"in={quiet.desk}"])
    assert session.without_records() and set(quiet.charged().values()) == {0}
    return SimpleNamespace(id=id, ended=ended)


def test_a_data_owner_that_waits_hears_of_a_killed_model_owner(left):
    assert left.ended[DATA_OWNER].err.endswith(
        "error: model_owner is gone: its process ended, or the network between us\n"
    )


def unused(quiet, left, id: str) -> None:
    """The yes was said to another request, and is still there."""
    assert id != left.id and RequestQueue(quiet.desk).read(left.id).state == "yes"
    assert set(quiet.charged().values()) == {0}


def test_another_configuration_is_asked_anew_and_patience_ends(quiet, left):
    session = quiet.start("model.l2=2e-2", data_owner=["party.patience=1"])
    id = session.asked()
    session.end(2)
    words = f"no answer to request {id} within 1 s"
    assert session.error(DATA_OWNER) == f"{words}\n"
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: {words}\n"
    assert session.without_records()
    unused(quiet, left, id)


def test_another_release_is_asked_anew_and_a_killed_data_owner_is_named(quiet, left):
    session = quiet.start("release.to=model_owner")
    id = session.asked()
    session.kill(DATA_OWNER)
    assert session.without_records()
    unused(quiet, left, id)


def test_other_data_of_the_same_name_are_asked_for_anew_and_a_no_ends_all(quiet, left):
    write_csv(quiet.files["seller"], *problem(121, seed=11))
    session = quiet.start()
    id = session.asked()
    start = time.monotonic()
    COMMANDS["approval"](["no", id, f"in={quiet.desk}", "reason=their offer is a joke"])
    session.end(2)
    assert time.monotonic() - start < stretched(6)
    write_csv(quiet.files["seller"], *SELLER)
    refusal = f"the data owner refused request {id}"
    assert re.fullmatch(rf"{refusal}: its no of \S+: their offer is a joke\n", session.error(DATA_OWNER))
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: {refusal}\n"
        assert b"joke" not in session.written(role)
    assert session.without_records()
    unused(quiet, left, id)


def test_the_yes_starts_the_request_that_it_was_said_to_from_whatever_folder(quiet, left):
    """Relative paths are those of the folder where they were typed, although Hydra changes it."""
    here = quiet.root / str(quiet.sessions + 1) / DATA_OWNER
    paths = {"party.data": quiet.files["seller"], "party.requests": quiet.desk}
    own = [f"{key}={os.path.relpath(path, here)}" for key, path in paths.items()]
    session = quiet.start(data_owner=[*own, "hydra.job.chdir=true"])
    session.end()
    assert RequestQueue(quiet.desk).read(left.id).state == "used"  # nobody said another
    for role in OWNERS:
        (record,) = session.records(role)
        assert (record.request["id"], record.request["how"]) == (left.id, "command")
    assert quiet.charged() == {"train.npz.ledger": 1, "seller.csv.ledger": 1}


def test_a_policy_file_that_forbids_names_the_rule_to_its_owner_alone(module_processes):
    market = Market(module_processes, "forbidden", seller=SELLER)
    policy = market.root / "approval.yaml"
    policy.write_text("minimum_rows: 121\n")
    session = market.start(data_owner=[f"party.approval={policy}"])
    session.end(2)
    id = re.search("request ([0-9a-f]{12})", session.error(DATA_OWNER))[1]
    assert "Too few rows: seller has 120; minimum_rows is 121." in session.error(DATA_OWNER)
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: the data owner refused request {id}\n"
        assert b"minimum_rows" not in session.written(role)
    assert session.without_records() and set(market.charged().values()) == {0}
