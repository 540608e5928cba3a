"""After the deal, answers by logistic regression, relevance and diversity are computed again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from processes import write_csv
from regressions import LOGISTIC, problem

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.recompute import recompute
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import read_dataset
from mpc_appraisal.governance.catalogue import read_listing
from mpc_appraisal.methods import Diversity, Finetuning, GradientNorm, Influence, Relevance
from mpc_appraisal.reporting.record import append

METHODS = [GradientNorm(), Influence(), Finetuning(steps=2, lr=0.05), Relevance(2), Diversity(2)]


@pytest.mark.parametrize("model", ["logistic_regression", "softmax_regression"])
def test_answers_are_computed_again(tmp_path, model):
    """The records are those of processes on one machine, with the listing that a deal would have put into them."""
    sets = {name: problem(LOGISTIC, n, seed) for name, n, seed in (("train", 60, 1), ("test", 40, 2), ("data", 50, 3))}
    files = {name: write_csv(tmp_path / f"{name}.csv", d.x.numpy(), d.y.numpy()) for name, d in sets.items()}
    catalogue(["publish", f"data={files['data']}", "name=data", f"out={tmp_path / 'out'}"])
    listing, data = read_listing(tmp_path / "out" / "data.json"), read_dataset(files["data"])
    said = {"name": "data", "digest": listing.file_digest, "commitment": listing.digest}
    own = {name: str(files[name]) for name in ("train", "test")} | {"record": str(tmp_path / "records.jsonl")}
    read = {name: read_dataset(files[name]) for name in ("train", "test")}
    methods = METHODS if model == "logistic_regression" else METHODS[3:]
    found = appraise({"data": data}, **read, model=model, l2=0.02, method=methods)
    for record in found:
        assert record.error_bound is None or abs(record.value - record.plaintext_value) <= record.error_bound
        append(tmp_path / "records.jsonl", replace(record, listing=said))
    sentences = recompute(listing, data, own)
    assert len([one for one in sentences if "agrees with" in one and "bound" in one]) == len(methods)
    for record in found:
        path = tmp_path / f"{record.method}.jsonl"
        append(path, replace(record, listing=said, value=record.value * 1.1 + 0.01, error_bound=None))
        with pytest.raises(InputError, match=f"record: {record.method} of data: got .*the recorded number is another"):
            recompute(listing, data, own | {"record": str(path)})
    if model == "logistic_regression":
        terms = found[0].recompute | {"model": "ridge"}
        append(tmp_path / "other.jsonl", replace(found[0], listing=said, recompute=terms))
        with pytest.raises(InputError, match="record: recompute: model: got ridge; expected one of softmax_regression"):
            recompute(listing, data, own | {"record": str(tmp_path / "other.jsonl")})
