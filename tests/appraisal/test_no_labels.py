"""Relevance and diversity of rows without labels, from every kind of file and from arrays; others refuse them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from processes import DATA_OWNER, MODEL_OWNER, ROLES, Processes
from tables_between import NAMES, join

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import open_dataset, read_dataset
from mpc_appraisal.data.files import StoredDataset
from mpc_appraisal.methods import Diversity, Relevance
from mpc_appraisal.reporting.record import read

K = 2


def rows(n: int, seed: int) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(size=(n, 5)) * [3, 2, 1, 0.5, 0.2], 3)


TRAIN, DATA = rows(60, 1), rows(50, 2) + [0, 0.5, 0, 0, 0]


def oracle(name: str) -> float:
    """The value by numpy's eigenvectors."""
    values, vectors = np.linalg.eigh(np.cov(TRAIN.T, bias=True))
    values, u = values[::-1][:K], vectors[:, ::-1][:, :K]
    moved = DATA - TRAIN.mean(0)
    if name == "diversity":
        return float(((moved - moved @ u @ u.T) ** 2).sum(1).mean())
    return -float(np.linalg.norm(((moved @ u) ** 2).mean(0) - values))


def files(folder, x: np.ndarray) -> list:
    """The rows without labels in every format."""
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(x, columns=list(NAMES))
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet", index=False)
    np.savez(folder / "a.npz", x=x)
    return [folder / f"a.{suffix}" for suffix in ("csv", "parquet", "npz")]


def test_every_format_is_read_without_labels(tmp_path):
    for path in files(tmp_path, DATA):
        read_whole = read_dataset(path, None)
        assert np.array_equal(read_whole.x.numpy(), DATA) and not read_whole.labelled and not read_whole.y.any()
        if path.suffix != ".csv":
            (block,) = StoredDataset(path, None, None, "data").blocks(100)
            assert np.array_equal(block.x.numpy(), DATA) and not block.labelled
        with pytest.raises(InputError, match="'label'|arrays named x and y"):
            open_dataset(path)
    assert read_dataset(files(tmp_path, DATA)[0], None, target="number").numeric
    (tmp_path / "b.csv").write_text("a;b\n1;2\n")
    with pytest.raises(InputError, match="fields separated by ';'"):
        read_dataset(tmp_path / "b.csv", None)


def test_between_organisations_neither_side_needs_labels(tmp_path):
    """The buyer has no labels; the seller has those of four classes, which nobody reads."""
    with Processes(tmp_path) as processes:
        train, data = files(tmp_path / "b", TRAIN)[0], files(tmp_path / "s", DATA)[1]
        labelled = pd.read_parquet(data).assign(label=np.arange(len(DATA)) % 4)
        labelled.to_parquet(data, index=False)
        public = ["appraisal=relevance", f"appraisal.directions={K}"]
        ended = join(processes, [f"party.train={train}", "party.label=null"], [f"party.data={data}"], public)
        assert {role: one.code for role, one in ended.items()} == dict.fromkeys(ROLES, 0), ended
        for role in (MODEL_OWNER, DATA_OWNER):
            (record,) = read(tmp_path / role / "run" / "records.jsonl")
            assert record.value == pytest.approx(oracle("relevance"), rel=1e-3)


@pytest.mark.parametrize("model", ["softmax_regression", "linear_regression", "logistic_regression"])
def test_arrays_without_labels(model):
    given = {"train": (TRAIN, None), "method": [Relevance(K), Diversity(K)], "model": model}
    result = appraise({"a": (DATA, None)}, **given, session="plain", true_utility=True)
    for name in ("relevance", "diversity"):
        assert result[name, "a"].value == pytest.approx(oracle(name), rel=1e-9) and result[name, "a"].utility is None
    if model == "softmax_regression":
        for record in appraise({"a": (DATA, None)}, **given):
            assert record.value == pytest.approx(oracle(record.method), rel=1e-3, abs=1e-4)


def test_files_of_both_sides_on_one_machine(tmp_path):
    train, data = files(tmp_path / "b", TRAIN)[1], files(tmp_path / "s", DATA)[0]
    stated = ["session=plain", "appraisal=diversity", f"appraisal.directions={K}", "party.label=null"]
    (record,) = appraise_config(compose([*stated, f"party.train={train}", f"party.data={data}"]), print, tmp_path)
    assert record.value == pytest.approx(oracle("diversity"), rel=1e-9) and record.utility is None
    stated[1:3] = ["appraisal=gradient_norm"]
    with pytest.raises(
        InputError, match="^party.train: got rows without labels; expected a label .* gradient_norm needs it"
    ):
        appraise_config(compose([*stated, f"party.train={train}", f"party.data={data}"]), print, tmp_path)


def test_methods_that_read_labels_refuse_rows_without_them():
    y = np.arange(60) % 3
    bare, own = Dataset.of(DATA, None, name="bare"), Dataset.of(TRAIN, y, name="own")
    for method in ("gradient_norm", "influence", ["relevance", "finetuning"]):
        named = method if isinstance(method, str) else "finetuning"
        with pytest.raises(InputError, match=rf"^data \(bare\): got rows without labels; .* method {named} needs"):
            appraise(bare, train=own, test=own, method=method, session="plain")
        with pytest.raises(InputError, match=f"train: got rows without labels; .* method {named} needs"):
            appraise(own, train=(TRAIN, None), test=own, method=method, session="plain")
    with pytest.raises(InputError, match="baselines: got rows without labels"):
        appraise(bare, train=own, test=own, method=Relevance(K), session="plain", baselines=["shapley"])
    with pytest.raises(InputError, match="rows without a target, as for classes"):
        appraise(bare, train=bare, method=Relevance(K), session="plain", model="linear_regression")
