"""The setting session.integrity: its two spellings, what it does to digests, and what is refused before a run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from test_differences import Met

from mpc_appraisal import Influence, appraise, transformations
from mpc_appraisal.appraisal import covered
from mpc_appraisal.appraisal.api import _plan
from mpc_appraisal.appraisal.covered import COVERED, Coverage, check_covered
from mpc_appraisal.appraisal.plan import HELD_ROWS
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.sessions import Join, Spawn, _with
from mpc_appraisal.appraisal.settings import settings_of
from mpc_appraisal.appraisal.tasks import check_supported
from mpc_appraisal.cli.config import CONF, compose, instantiate, public_part
from mpc_appraisal.cli.jobs import job_key, job_settings
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import INTEGRITY
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.methods import Facts, GradientNorm, as_methods
from mpc_appraisal.mpc.backends.registry import ENGINES, dry_session
from mpc_appraisal.mpc.backends.settings import INTEGRITY_DEFAULTS, SpawnSettings, checks_messages
from mpc_appraisal.mpc.session import agree
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value

KEY = INTEGRITY.partition(".")[2]
STATED = {"on": True, "off": False, "true": True, "false": False, "True": True, "'on'": True, '"off"': False}
WRONG = ("yes", "1", "0", "ON", "auto", "null", "[on]", "1.0", "''")
FACTS = Facts(4, 3, 40, 40, 30, 0.01)


def plan(method="influence", release=None, engine="fast", integrity=True):
    made = _plan(as_methods(method), 0.01, 3, Value() if release is None else release)
    return replace(made, engine=engine, integrity=integrity)


def stated(session, value="on"):
    return compose([f"session={session}", f"{INTEGRITY}={value}"])


# ---- spellings ----


@pytest.mark.parametrize("session", INTEGRITY_DEFAULTS)
@pytest.mark.parametrize("value", STATED)
def test_a_value_of_the_command_line_is_on_or_off(session, value):
    assert checks_messages(instantiate(stated(session, value).session).integrity) is STATED[value]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("session", INTEGRITY_DEFAULTS)
def test_any_other_value_is_refused_by_its_key(session, value):
    with pytest.raises(InputError, match=rf"^{INTEGRITY}: got .*; expected on or off$"):
        instantiate(stated(session, value).session)


@pytest.mark.parametrize("value", [1, 0, 1.0, None, "yes", "On", b"on", [True], {}, 2**300])
def test_any_other_value_is_refused_from_python(value):
    for session in (Spawn, Join, SpawnSettings):
        with pytest.raises(InputError, match=rf"^{KEY}: got .*; expected on or off$") as error:
            session(integrity=value)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("session", [Spawn, Join, SpawnSettings])
def test_both_spellings_are_one_setting(session):
    assert session(integrity="on") == session(integrity=True) != session(integrity="off")
    assert session(integrity="off") == session(integrity=False) == session()


@pytest.mark.parametrize("session", INTEGRITY_DEFAULTS)
def test_a_file_of_the_configuration_states_the_default_and_may_state_either(session):
    text = (CONF / "session" / f"{session}.yaml").read_text(encoding="utf-8")
    default = checks_messages(INTEGRITY_DEFAULTS[session])
    assert checks_messages(yaml.safe_load(text)[KEY]) is default
    assert checks_messages({"spawn": Spawn, "join": Join}[session]().integrity) is default
    (line,) = [each for each in text.splitlines() if each.startswith(f"{KEY}:")]
    for word, expected in {"on": True, "off": False, "'on'": True, '"off"': False, "true": True, "Off": False}.items():
        assert checks_messages(yaml.safe_load(text.replace(line, f"{KEY}: {word}"))[KEY]) is expected


def test_a_plain_session_has_no_such_key():
    assert KEY not in compose(["session=plain"]).session
    with pytest.raises(InputError):
        compose(["session=plain", f"{INTEGRITY}=on"])


# ---- digests, and what the parties agree on ----


@pytest.mark.parametrize("session", INTEGRITY_DEFAULTS)
def test_a_configuration_without_the_check_has_the_digests_that_it_had(session):
    cfg = stated(session, "off")
    without = compose([f"session={session}", f"~{INTEGRITY}"])  # as it was before there was the key
    assert KEY not in without.session and INTEGRITY not in public_part(cfg)
    assert public_part(cfg) == public_part(without) == public_part(stated(session, "false"))
    assert (job_key(cfg), job_settings(cfg)) == (job_key(without), job_settings(without))
    assert job_key(stated(session, "false")) == job_key(without)


@pytest.mark.parametrize("session", INTEGRITY_DEFAULTS)
def test_both_spellings_of_on_are_one_configuration(session):
    words, truths, off = stated(session, "on"), stated(session, "true"), stated(session, "off")
    assert public_part(words) == public_part(truths) and public_part(words)[INTEGRITY] == "on"
    assert config_hash(public_part(words)) != config_hash(public_part(off))
    assert job_key(words) == job_key(truths) != job_key(off)
    assert job_settings(words) == job_settings(truths) != job_settings(off)


@pytest.mark.parametrize("kind", [Spawn, Join])
def test_the_plan_states_the_check_in_public_and_only_where_there_is_one(kind):
    before = plan(integrity=False)
    for value in (True, "on"):
        checked = _with(before, kind(integrity=value), None)
        assert checked.integrity is True and checked.public == before.public | {INTEGRITY: "on"}
        assert checked.digest == config_hash(checked.public) != before.digest
    for value in (False, "off"):
        same = _with(before, kind(integrity=value), None)
        assert same.integrity is False and same.public == before.public and same.digest == before.digest


def test_the_plan_of_the_app_and_the_session_state_the_same():
    public = public_part(stated("join"))
    made = _with(replace(plan(integrity=False), public=public, digest=config_hash(public)), Join(integrity=True), None)
    assert made.public == public and made.digest == config_hash(public)


def test_parties_that_state_it_differently_are_told_its_name():
    first, second = (_with(plan(integrity=False), Join(integrity=each), None) for each in ("on", "off"))
    for mine, other in ((first, second), (second, first)):
        with pytest.raises(DisagreementError, match=rf"{INTEGRITY}: .*'on'") as error:
            agree(Met(mine.public, other.public), other.public, other.digest, config_hash)
        assert "methods" not in str(error.value)
    assert agree(Met(first.public, first.public), first.public, first.digest, config_hash) == (
        first.public,
        first.digest,
    )


def test_a_record_states_it_by_a_name_that_stays():
    for session in ("spawn", "join"):
        assert settings_of(plan(), session)["session.integrity"] == "on"
        assert settings_of(plan(integrity=False), session)["session.integrity"] == "off"
    assert "session.integrity" not in settings_of(plan(integrity=False), "plain")


# ---- what is not covered ----

FEW = Coverage(("fast",), (Influence, GradientNorm), ("value",), HELD_ROWS)
ENGINES_WITHOUT = {f"session.engine={engine}": plan(engine=engine) for engine in ("rtas", "stock")}
UNCOVERED = ENGINES_WITHOUT | {
    "appraisal=finetuning": plan("finetuning"),
    "appraisal=mlp_finetuning": plan("mlp_finetuning"),
    "appraisal=influence_error": plan(["influence", "influence_error"]),
    "appraisal=relevance": plan("relevance"),
    "appraisal=diversity": plan("diversity"),
    "release=bit": plan(release=Bit()),
    "release=best": plan(release=Best(k=1)),
    "release=dp": plan(release=NoisedRelease(row_norm=3.0)),
}


@pytest.fixture()
def few(monkeypatch):
    """As if the check covered few methods and one release."""
    monkeypatch.setattr(covered, "COVERED", FEW)


def refused(case: str, covers: Coverage) -> None:
    words = rf"^{INTEGRITY}: got on with {case}; expected off, or what the check of messages covers: {covers.words}$"
    with pytest.raises(InputError, match=words) as error:
        check_supported(UNCOVERED[case])
    assert error.value.public == f"bad input in {INTEGRITY}"
    check_supported(replace(UNCOVERED[case], integrity=False))


@pytest.mark.parametrize("case", UNCOVERED)
def test_what_is_not_covered_is_refused_with_what_is(few, case):
    refused(case, FEW)


@pytest.mark.parametrize("case", ENGINES_WITHOUT)
def test_an_engine_without_the_check_is_refused(case):
    refused(case, COVERED)


def test_the_words_name_all_that_is_covered():
    assert FEW.words == (
        "session.engine=fast, appraisal=influence or gradient_norm, release=value, and candidates of 32768 rows at most"
    )
    assert replace(FEW, releases=("value", "bit", "dp")).words.count("release=value, bit or dp, and") == 1
    for engine in ENGINES:
        assert (f"engine={engine}," in COVERED.words) == (engine in COVERED.engines)
    for method in COVERED.methods:
        assert re.search(rf"(appraisal=|, | or ){method.name}(,| or )", COVERED.words)
    assert all(re.search(rf"(release=|, | or ){kind}(,| or )", COVERED.words) for kind in COVERED.releases)


def test_the_least_that_the_project_promises_is_covered():
    for method in (Influence(), GradientNorm()):
        check_covered(plan(method), {"a": replace(FACTS, rows=HELD_ROWS)})


def test_a_method_that_derives_from_a_covered_one_is_another_method():
    class Mine(Influence):
        name = "mine"

    with pytest.raises(InputError, match=f"^{INTEGRITY}: got on with appraisal=mine;"):
        check_covered(plan(Mine()))


def test_a_candidate_of_too_many_rows_is_refused_before_anything_is_computed():
    dry, large = dry_session("fast", "model_owner", True), replace(FACTS, rows=HELD_ROWS + 1)
    words = f"^{INTEGRITY}: got on with the {HELD_ROWS + 1} rows of 'b'; expected off, or .*{COVERED.words}$"
    with pytest.raises(InputError, match=words):
        program(dry, plan(), {}, {}, {"a": FACTS, "b": large}, 16.0, lambda event: None)
    assert dry.script == [] and dry.meter.cost().bytes_sent == 0


def test_python_refuses_before_it_starts_processes(few, monkeypatch):
    from mpc_appraisal.appraisal import sessions

    monkeypatch.setattr(sessions, "launch", lambda *arguments: pytest.fail("a process was started"))
    x, y = [[0.0, 1.0], [1.0, 0.0], [0.5, 0.25], [0.75, 1.0]], [0, 1, 0, 1]
    for options in ({"method": "finetuning"}, {"release": "bit", "threshold": 0.0}):
        with pytest.raises(InputError, match=f"^{KEY}: got on with "):
            appraise({"a": (x, y)}, train=(x, y), test=(x, y), session=Spawn(integrity=True), **options)
    with pytest.raises(InputError, match=f"^{KEY}: got on with .*engine=rtas"):
        appraise({"a": (x, y)}, train=(x, y), test=(x, y), session=Spawn(integrity="on", engine="rtas"))


@pytest.mark.parametrize("name", transformations.PROTOCOLS)
def test_private_learning_has_no_check(name):
    protocol = getattr(transformations, name)()
    protocol.check_session(SpawnSettings(integrity="off"))
    with pytest.raises(
        InputError, match=f"^{INTEGRITY}: got on for protocol={protocol.name}; expected off: .*appraisals alone"
    ):
        protocol.check_session(SpawnSettings(integrity="on"))


def test_a_marketplace_has_no_check():
    with pytest.raises(InputError, match=f"^{INTEGRITY}: got on for a marketplace; expected off: .*appraisals alone"):
        run_market(None, None, [], SpawnSettings(integrity=True))
