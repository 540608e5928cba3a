"""The benchmarks at tiny sizes: they end, write what they promise, and their numbers are sound."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
ENGINE_KEYS = {"engine", "work", "seconds", "ratio_to_stock", "mb", "rounds", "error", "machine", "repeat"}
PARTIES = {"model_owner", "data_owner", "dealer"}


def run(script: str, out: Path, *arguments: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "MPC_APPRAISAL_DATA"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXPERIMENTS / script), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=out)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    out = tmp_path_factory.mktemp("engine")
    small = ("--small", "--size", "20", "--rows", "100", "--features", "12", "--repeat", "1")
    text = run("bench_engine.py", out, *small, "--appraisals", "gradient_norm", "--spu-python", os.devnull)
    return text, lines(out / "engine.jsonl")


def test_every_line_has_the_keys(engine):
    _, rows = engine
    assert all(set(row) == ENGINE_KEYS for row in rows)
    found = {(row["engine"], row["work"].split(",")[0]) for row in rows}
    assert found == {
        *((name, "gradient") for name in ("fast", "fast-local", "stock", "plaintext")),
        *((name, "gradient_norm") for name in ("fast", "stock")),
    }


def test_errors_are_small_and_costs_sound(engine):
    _, rows = engine
    worst = {"fast": 1e-4, "fast-local": 1e-4, "stock": 1e-2, "plaintext": 1e-6}
    for row in rows:
        assert math.isfinite(row["error"]) and row["seconds"] > 0 and row["ratio_to_stock"] > 0
        if row["work"].startswith("gradient,"):
            assert row["error"] < worst[row["engine"]], row
        assert (row["mb"] > 0 and row["rounds"] > 0) != (row["engine"] == "plaintext")
        if row["engine"] == "stock":
            assert row["ratio_to_stock"] == 1
    gradient = {(row["engine"], row["work"]): row for row in rows}
    single, kept = (gradient["fast", f"gradient, {work}"] for work in ("single", "kept"))
    # What is kept need not be sent again: X, and the labels, eight bytes a number.
    assert 1e6 * (single["mb"] - kept["mb"]) >= 100 * 12 * 8 and kept["rounds"] <= single["rounds"]
    assert single["mb"] < gradient["stock", "gradient, single"]["mb"]


def test_the_tables_show_goals_and_what_is_missing(engine):
    text, _ = engine
    assert "spu is left out" in text and "Engines side by side" in text
    assert text.count(">= 30") == 2 and ("MISSED" in text or "met" in text)
    assert "extrapolated from one" in text


def test_rows(tmp_path):
    text = run("bench_rows.py", tmp_path, "--rows", "60,120", "--features", "10", "--classes", "3")
    found = lines(tmp_path / "rows.jsonl")
    assert [row["rows"] for row in found] == [60, 120] and "us a row" in text
    for row in found:
        assert set(row["peak_mb"]) == PARTIES and min(row["peak_mb"].values()) > 20
        assert row["seconds"] > 0 and row["mb"] > 0 and math.isfinite(row["value"])
        assert row["microseconds_per_row"] == pytest.approx(1e6 * row["seconds"] / row["rows"])
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
