"""Two organisations read their raw tables by one recipe: the value is that of features made by hand."""

from __future__ import annotations

import json
import os
import sys

import pytest
from processes import DATA_OWNER, HERE, MODEL_OWNER, ROLES, Processes, free_port
from shop import RECIPE, by_hand, shop, write_recipe, write_shop
from tables_between import influence, join

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.inputs import read_own
from mpc_appraisal.cli.jobs import job_config, job_key
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.data import Recipe
from mpc_appraisal.governance.catalogue import read_listing
from mpc_appraisal.reporting.record import read

TRAIN, TEST, DATA = (shop(n, seed) for n, seed in ((60, 12), (150, 1), (120, 2)))
PERMUTED = ("bought", "income", "city", "age")


@pytest.fixture(scope="module")
def value():
    """The influence of the seller's rows, from features made by hand and by the full Hessian in numpy."""
    return influence(*(by_hand(frame) for frame in (TRAIN, TEST, DATA)), classes=2)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The shop's CSV at the buyer, and the seller's with permuted columns, listed by the recipe."""
    with Processes(tmp_path_factory.mktemp("recipe")) as processes:
        root = processes.folder
        recipe = write_recipe(root / "public" / "recipe.yaml")
        train, test = (write_shop(root / "b" / f"{k}.csv", f) for k, f in (("train", TRAIN), ("test", TEST)))
        data = write_shop(root / "s" / "data.csv", DATA, PERMUTED)
        catalogue(["publish", f"data={data}", "name=shop", f"recipe={recipe}", f"out={root / 'public'}"])
        listing = root / "public" / "shop.json"
        buyer = [f"party.train={train}", f"party.test={test}", f"party.listing={listing}"]
        seller = [f"party.data={data}", f"party.listing={listing}"]
        buyer.append(f"party.salt={root / 'b' / 'salt'}")
        ended = join(processes, buyer, seller, [f"recipe={recipe}"])
        assert {role: one.code for role, one in ended.items()} == dict.fromkeys(ROLES, 0), ended
        yield root


def test_the_value_is_that_of_features_made_by_hand(session, value):
    for role in (MODEL_OWNER, DATA_OWNER):
        (record,) = read(session / role / "run" / "records.jsonl")
        assert record.value == pytest.approx(value, abs=1e-4) and value > 0.1
        assert (record.n, record.features, record.classes) == (120, 7, 2) and record.warnings == ()


def test_listing_request_record_and_card_state_the_digest_of_the_recipe(session):
    digest = Recipe.load(session / "public" / "recipe.yaml").digest
    listing = read_listing(session / "public" / "shop.json")
    assert listing.recipe == digest and listing.column_names[:2] == ("city=Berlin", "city=Paris")
    assert listing.class_names == ("no", "yes")
    for role in (MODEL_OWNER, DATA_OWNER):
        run = session / role / "run"
        assert [record.recipe for record in read(run / "records.jsonl")] == [digest]
        assert f"recipe with SHA-256 {digest}" in " ".join((run / "request.md").read_text().split())
        assert digest in (run / "card-shop.md").read_text()


def test_after_the_deal_the_answer_is_computed_again_by_the_recipe(session, capsys):
    run, recipe = session / MODEL_OWNER / "run", f"recipe={session / 'public' / 'recipe.yaml'}"
    stated = ["check", f"listing={session / 'public' / 'shop.json'}", f"data={session / 's' / 'data.csv'}"]
    stated += [f"secret={session / 's' / 'data.csv.shop.salt'}", f"record={run / 'records.jsonl'}"]
    stated += [f"{key}={session / 'b' / f'{key}.csv'}" for key in ("train", "test")]
    catalogue([*stated, recipe, f"salt={session / 'b' / 'salt'}"])
    said = capsys.readouterr().out
    assert "agrees with" in said and "the model owner's inputs are those of the record" in said
    with pytest.raises(InputError, match="data.recipe: got no recipe; expected the recipe"):
        catalogue(stated)


def test_different_recipes_are_refused_first_with_both_digests_and_nothing_is_charged(tmp_path):
    with Processes(tmp_path) as processes:
        one = write_recipe(tmp_path / "b" / "recipe.yaml")
        two = write_recipe(tmp_path / "s" / "recipe.yaml", RECIPE.replace("mean: 40", "mean: 41"))
        train, test = (write_shop(tmp_path / "b" / f"{k}.csv", f) for k, f in (("train", TRAIN), ("test", TEST)))
        data = write_shop(tmp_path / "s" / "data.csv", DATA)
        buyer = [f"party.train={train}", f"party.test={test}", f"party.ledger={tmp_path / 'b' / 'ledger'}"]
        seller = [f"party.data={data}", f"party.ledger={tmp_path / 's' / 'ledger'}", f"recipe={two}"]
        ended = join(processes, [*buyer, f"recipe={one}"], seller, [])
    digests = [Recipe.load(path).digest for path in (one, two)]
    for role, found in ended.items():
        assert found.code == 2 and "Traceback" not in found.err, (role, found.err)
        assert f"recipe: '{digests[0]}' at model_owner, '{digests[1]}' at data_owner" in found.err, (role, found.err)
    for side in "bs":
        assert "charge" not in (tmp_path / side / "ledger").read_text()


def test_a_run_in_one_process_and_python_give_the_same_value(tmp_path, value):
    recipe = write_recipe(tmp_path / "recipe.yaml")
    files = {k: write_shop(tmp_path / f"{k}.csv", f) for k, f in (("train", TRAIN), ("test", TEST), ("data", DATA))}
    stated = [f"party.{key}={path}" for key, path in files.items()]
    plain = ["session=plain", "appraisal=influence", "model.l2=0.01", "baselines.true_utility=false"]
    (record,) = appraise_config(compose([*plain, *stated, f"recipe={recipe}"]), lambda event: None, tmp_path)
    assert record.value == pytest.approx(value, abs=1e-6) and record.recipe == Recipe.load(recipe).digest
    own = Recipe.load(recipe)
    result = appraise(
        {"data": own.apply(DATA, "data")},
        train=own.apply(files["train"], "train"),
        test=own.apply(TEST, "test"),
        l2=0.01,
        session="plain",
    )
    assert result["data"].value == pytest.approx(value, abs=1e-6)
    assert "recipe" not in json.loads(result["data"].to_json())


PARTY = """
import sys
from mpc_appraisal import DisclosureControls, Join, appraise
from mpc_appraisal.data import Recipe
from shop import shop

role, port, recipe = sys.argv[1:]
own = {
    "model_owner": {"train": shop(60, 12), "test": shop(150, 1)},
    "data_owner": {"data": {"data": shop(120, 2)}},
    "dealer": {},
}[role]
session = Join(role, f"tcp://127.0.0.1:{port}", join_timeout=60, transport="tcp", in_the_clear=True)
given = {"recipe": Recipe.load(recipe), "controls": DisclosureControls()}
for record in appraise(**own, session=session, l2=0.01, **given):
    print(repr(record.value), record.recipe)
"""


@pytest.mark.parametrize("alike", [True, False])
def test_the_python_interface_compares_the_recipes_between_organisations(tmp_path, value, alike):
    one = write_recipe(tmp_path / "a.yaml")
    two = one if alike else write_recipe(tmp_path / "b.yaml", RECIPE.replace("mean: 40", "mean: 41"))
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Processes(tmp_path) as processes:
        port = str(free_port())
        started = {
            role: processes.start(
                role,
                [sys.executable, "-c", PARTY, role, port, str(two if role == DATA_OWNER else one)],
                {"PYTHONPATH": path},
            )
            for role in ROLES
        }
        ended = {role: process.wait(120) for role, process in started.items()}
    digests = [Recipe.load(each).digest for each in (one, two)]
    for role in ROLES:
        if not alike:
            assert ended[role].code == 1 and f"'{digests[0]}' at model_owner, '{digests[1]}'" in ended[role].err, role
        elif role in (MODEL_OWNER, DATA_OWNER):
            found, recipe = ended[role].out.split()
            assert float(found) == pytest.approx(value, abs=1e-4) and recipe == digests[0], ended[role].err


def test_raw_tables_are_read_by_the_recipe_that_python_states(tmp_path, value):
    recipe, path = Recipe.load(write_recipe(tmp_path / "recipe.yaml")), write_shop(tmp_path / "data.csv", DATA)
    own = {"train": TRAIN, "test": recipe.apply(TEST, "test"), "l2": 0.01, "session": "plain", "recipe": recipe}
    for data in (path, DATA, {"data": str(path)}):
        (record,) = appraise(data, **own)
        assert record.value == pytest.approx(value, abs=1e-6) and record.recipe == recipe.digest
    with pytest.raises(InputError, match="data: got a data set with the columns .*; expected 'city=Berlin'"):
        appraise(Dataset.of(*by_hand(DATA)), **own)
    with pytest.raises(InputError, match="data: got tuple; expected the path of a raw table"):
        appraise(by_hand(DATA), **own)
    with pytest.raises(InputError, match="recipe: got str; expected a Recipe"):
        appraise(path, **own | {"recipe": "recipe.yaml"})


# -- configuration ---------------------------------------------------------------------------------------------------
def test_without_a_recipe_the_configuration_and_its_keys_are_those_of_before():
    cfg = compose(["session=plain"])
    assert cfg.recipe is None and "recipe" not in public_part(cfg) and "recipe" not in job_config(cfg)


def test_the_digest_of_the_recipe_is_public_and_its_path_is_not(tmp_path):
    one, two = write_recipe(tmp_path / "a.yaml"), write_recipe(tmp_path / "b.yaml", "# the same\n" + RECIPE)
    first, second = (compose(["session=plain", f"recipe={path}"]) for path in (one, two))
    assert public_part(first)["recipe"] == Recipe.load(one).digest
    assert config_hash(public_part(first)) == config_hash(public_part(second))
    before = job_key(first)
    write_recipe(one, RECIPE.replace("mean: 40", "mean: 41"))
    assert job_key(first) != before


def test_a_recipe_without_files_and_a_listing_by_another_recipe_are_refused(tmp_path):
    cfg = compose(["session=plain", f"recipe={write_recipe(tmp_path / 'r.yaml')}"])
    with pytest.raises(InputError, match="recipe: got .*; expected party.data and party.train beside it"):
        appraise_config(cfg, print, tmp_path)
    data = write_shop(tmp_path / "data.csv", DATA)
    catalogue(["publish", f"data={data}", "name=a", f"recipe={tmp_path / 'r.yaml'}", f"out={tmp_path / 'out'}"])
    listing = f"party.listing={tmp_path / 'out' / 'a.json'}"
    other = write_recipe(tmp_path / "s.yaml", RECIPE.replace("mean: 40", "mean: 41"))
    for more, words in (
        ([], "got no recipe; expected the recipe"),
        ([f"recipe={other}"], "got the recipe .* expected"),
    ):
        stated = [f"party.data={data}", f"party.train={data}", "party.test=null", "appraisal=gradient_norm", listing]
        with pytest.raises(InputError, match=f"listing a: data.recipe: {words}"):
            read_own(compose(["session=plain", *stated, *more]), DATA_OWNER, ())
    with pytest.raises(InputError, match="label: got bought; expected no label= beside recipe="):
        catalogue(["publish", f"data={data}", "name=b", f"recipe={other}", "label=bought"])


@pytest.mark.parametrize(
    "stated, words",
    [
        ("party.label=bought", "party.label: got bought; expected label beside recipe="),
        ("party.class_names=[a,b]", r"party.class_names: got \['a', 'b'\]; expected null beside recipe="),
        ("standardise.mean=1", "standardise.mean: got 1; expected null beside recipe="),
        ("recipe=nowhere.yaml", "recipe: got .*nowhere.yaml; expected an existing .yaml file"),
        ("recipe=3", "recipe: got 3; expected the path of a .yaml file"),
    ],
)
def test_what_the_recipe_states_is_not_stated_twice(tmp_path, stated, words):
    cfg = compose(["session=plain", f"recipe={write_recipe(tmp_path / 'r.yaml')}", stated])
    with pytest.raises(InputError, match=words):
        public_part(cfg)
