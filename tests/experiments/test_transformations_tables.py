"""RTAS's tables at small sizes: sessions against plain tensors, the page from rows alone, a rival's padding."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from experiments.harness.size import Size
from experiments.rivals import tenseal as tenseal_rival
from experiments.studies.transformations import parties, tables
from experiments.studies.transformations import tables as page
from experiments.studies.transformations.study import page_and_figures
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.models.networks import Conv, Dense
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.transformations.rtas_layers import CNN, LOGISTIC, Model, initial
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training

torch.set_num_threads(1)
ROWS, TESTED, LR = 24, 5, 0.3
BOUND = 5e-5  # see test_rtas_training
SMALL_SIZE = Size("transformations", True, 1)
SMALL = Model("small", (1, 8, 8), ((Conv(3, 4, stride=2), "relu"), (Dense(6), "sigmoid"), (Dense(4), "sigmoid")))


def test_the_tables_sessions_measure_every_kind_of_job():
    model, steps = replace(LOGISTIC, image=(1, 8, 8)), (tuple(range(8)),)
    x = torch.rand(ROWS + TESTED, 64, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    data = tables.Data(x[:ROWS], (x[:ROWS, :1] > 0.5).double(), x[ROWS:], (x[ROWS:, :1] > 0.5).double())
    runs = [
        tables.system_run(
            model, "train", system, TrainingPlan(model, steps, LR, TESTED, fast), data, data.test, 1, False
        )
        for system, fast in ((page.RTAS, False), (page.RTAS_FAST, True), (page.FLOATS, False))
    ]
    plan = TrainingPlan(model, steps, LR, TESTED)
    plain = run_training(PlainSession(), plan, DataSide(data.x, data.y, data.test), ModelSide(initial(model, 0)))
    for found in parties.run(runs):
        assert (found.predicted - plain.predicted).abs().max() < BOUND
        assert len(found.seconds) == 1 and set(found.sent) == {MODEL_OWNER, DATA_OWNER, DEALER}
        assert min(found.sent.values()) > 0 and found.rounds > 1


def test_the_page_is_made_of_rows_alone():
    sent = {MODEL_OWNER: 10**6, DATA_OWNER: 2 * 10**6, DEALER: 0}
    cost = {"part": "table", "kind": "cost", "batch": 32, "seconds": [3.0, 1.0, 2.0], "bytes": sent, "rounds": 7}
    rows = [
        cost | {"model": model, "operation": operation, "system": system}
        for model in page.MODELS
        for operation in page.OPERATIONS
        for system in (page.RTAS, page.CRYPTEN)
    ]
    assert page.wan(rows[0]) == pytest.approx(2.0 + 7 * 0.04 + 8 * 2e6 / 1e8)  # 40 ms and 100 Mbit/s
    trained = {"part": "table", "kind": "training", "model": page.MODELS[0], "steps": 200, "tested": 100, "recall": 0.8,
               "always": 0.9, "seconds": 2.0, "bytes": sent, "rounds": 9, "spread": None}  # fmt: skip
    rows += [trained | {"system": page.PLAIN, "accuracy": 0.98}, trained | {"system": page.RTAS, "accuracy": 0.977}]
    rows.append({"part": "table", "kind": "absent", "system": "SPU", "why": "not installed"})
    found = rendered(rows)
    assert [table.title.split(":")[0] for table in found[:4]] == [f"Table {k}" for k in (1, 2, 3, 4)]
    assert all(len(row) == len(table.header) for table in found for row in table.rows)
    assert found[0].rows[0][:4] == ("train", "32", page.CRYPTEN, "2.00") and found[1].rows[0][6] == "3.00"
    assert found[4].rows[1][4] == "-0.30" and any("SPU" in note for note in found[0].notes)
    assert len(page.drawing(rows).axes) == 2


def rendered(rows):
    """Render the report, and return tables 1 to 4 and that of training."""
    about = {"size": "full", "sizes": {}, "missing": [], "machine": "m", "versions": {}, "revision": "r"}
    page, _ = page_and_figures(about | {"command": "c"}, rows)
    return [table for table in page.main if table.title.startswith(("Table", "Training"))]


# -- SPU -----------------------------------------------------------------------------------------------------------
SPU_NOTE = "SPU: SEMI2K between two processes"
TOLD = {"model": page.MODELS[1], "operation": "train", "batch": 32, "seconds": [2.0, 3.0, 1.0], "bytes": [10**6, 10**6],
        "rounds": 5}  # fmt: skip
ASKED = {"side": 8, "hidden": 20, "batch": 32, "inferred": 64, "lr": 0.1}
ABSENT = {"part": "table", "kind": "absent", "system": page.SPU, "why": "no --spu-python was given"}


def interpreter(folder: Path, body: str) -> str:
    """A program in place of the interpreter that has spu; it is given the runner's path and the sizes."""
    path = folder / "python-with-spu"
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_spus_rows_stand_beside_the_others(tmp_path):
    seen = tmp_path / "asked.json"
    printed = [TOLD, TOLD | {"operation": "infer", "bytes": None, "rounds": None}]
    body = f"open({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))\nprint('a log line')\n"
    python = interpreter(tmp_path, body + "\n".join(f"print({json.dumps(row)!r})" for row in printed))
    rows = tables.spu(python, ASKED)
    runner, asked = json.loads(seen.read_text())
    assert Path(runner).name == "spu_rival.py" and json.loads(asked)["side"] == 8
    assert rows[0]["bytes"] == {MODEL_OWNER: 10**6, DATA_OWNER: 10**6} and rows[1]["bytes"] == {}
    others = [row | {"system": page.RTAS} for row in rows] + [row | {"model": page.MODELS[0]} for row in rows]
    (seconds, traffic), titles = spu_tables([*rows, *others, ABSENT])
    assert titles[2:4] == ["Table 3", "Table 4"]
    assert [row[2:4] for row in seconds.rows[:2]] == [(page.SPU, "2.00"), (page.RTAS, "2.00")]
    assert traffic.rows[0][2:] == (page.SPU, "1.00", "1.00", "0", "2.00", "5")
    assert any(SPU_NOTE in note for note in seconds.notes) and not any("not measured" in note for note in seconds.notes)


def test_without_spu_the_page_says_so_and_no_job_is_run():
    row = {"part": "table", "kind": "cost", **TOLD, "system": page.RTAS, "bytes": {MODEL_OWNER: 1}}
    (seconds, traffic), _ = spu_tables([row, row | {"operation": "infer"}, row | {"model": page.MODELS[0]}, ABSENT])
    for table in (seconds, traffic):
        assert "SPU: not measured, no --spu-python was given." in table.notes and not any(
            SPU_NOTE in note for note in table.notes
        )
        assert page.SPU not in [line[2] for line in table.rows]


def test_spu_is_a_job_of_its_own(tmp_path):
    size = SMALL_SIZE.settings("tables")
    assert [job.name for job in tables.jobs(size)] == ["table-cost", "table-training", "table-rivals"]
    table, _, _, added = tables.jobs(size, interpreter(tmp_path, f"print({json.dumps(TOLD)!r})"))
    assert (table.name, added.name) == ("table-cost", "table-spu")
    added.keep(tmp_path)
    (kept,) = added.rows(tmp_path)
    assert kept["system"] == page.SPU and table.rows(tmp_path) is None
    *_, other = tables.jobs(size, os.devnull)
    assert other.rows(tmp_path) == [kept]  # whatever the interpreter is called


@pytest.mark.parametrize(
    ("body", "reason"), [("sys.exit('no module named spu')", "no module named spu"), ("", "no row")]
)
def test_an_interpreter_that_fails_is_named(tmp_path, body, reason):
    with pytest.raises(InputError, match=f"--spu-python.*python-with-spu.*{reason}"):
        tables.spu(interpreter(tmp_path, body), ASKED)


def test_an_interpreter_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="--spu-python.*nowhere"):
        tables.spu(str(tmp_path / "nowhere"), ASKED)


def spu_tables(rows):
    """The CNN's two tables, and the titles of all; with one line of training, which the page needs."""
    training = {"part": "table", "kind": "training", "model": page.MODELS[0], "system": page.PLAIN, "steps": 1,
                "tested": 1, "accuracy": 1.0, "recall": None, "always": 0.5, "seconds": 1.0, "bytes": {}, "rounds": 0,
                "spread": None}  # fmt: skip
    found = rendered([*rows, training])
    return found[2:4], [table.title.split(":")[0] for table in found]


class Clear:
    """What the rival asks of a ciphertext, in the clear."""

    def __init__(self, values, patches=None):
        self.values, self.patches = values, patches

    def conv2d_im2col(self, kernel, windows):
        assert len(self.patches) == windows and windows & (windows - 1) == 0
        return Clear(self.patches @ np.array(kernel).ravel())

    def mm(self, matrix):
        return Clear(self.values @ np.array(matrix))

    def square_(self):
        return Clear(self.values**2)

    def __add__(self, other):
        return Clear(self.values + other)

    def decrypt(self):
        return self.values


class ClearContext:
    def encrypt_patches(self, patches):
        return [tenseal_rival.Patches(Clear(None, patches), len(patches))]


def test_a_rivals_padded_patches_give_the_networks_logits(monkeypatch):
    packed = SimpleNamespace(pack_vectors=lambda parts: Clear(np.concatenate([part.values for part in parts])))
    monkeypatch.setattr(tenseal_rival, "tenseal", SimpleNamespace(CKKSVector=packed))
    image = torch.rand(64, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    _, logits = tables.encrypted(ClearContext(), SMALL, image.numpy())
    first, *others = initial(SMALL, tables.SEED)
    a = functional.conv2d(image.reshape(1, *SMALL.image), first.weight, stride=2)
    for weight, _ in others:  # biases are 0
        a = a.flatten(1).square() @ weight
    assert np.allclose(logits, a[0].numpy(), rtol=0, atol=1e-12)
    assert np.allclose(tables.squared(SMALL, image), a[0].numpy(), rtol=0, atol=1e-12)


def test_a_full_size_has_the_papers_models():
    assert tables.models_of(Size("transformations", False, 1).settings("tables")) == (LOGISTIC, CNN)
    assert tables.models_of(SMALL_SIZE.settings("tables"))[1].image == (1, 8, 8)
