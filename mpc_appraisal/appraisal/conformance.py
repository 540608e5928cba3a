"""Whether an appraisal method keeps what `methods.base` asks of it: checks that any method can be put to.

In goes a method; out comes one line for each check: ok, missing (something optional is not stated, or a check could not
say much) or failed. The checks run the formula in the clear and dry, on shapes alone, and then on shares between three
processes, on a few rows of scikit-learn's digits. They compare the values with the plaintext ones, and the rounds and
bytes that were measured with those of the dry run. A check may be added. TOLERANCE must stay below half the difference
between the candidates' values, and the check says so where a method's values do not differ as much.
"""

from __future__ import annotations

import copy
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import torch

from mpc_appraisal.appraisal.api import appraise
from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.appraisal.plan import HELD_ROWS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Dataset, Digits, with_bias
from mpc_appraisal.data.scenarios import Candidate
from mpc_appraisal.methods import METHODS, Appraiser, Facts, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.fast import DEFAULT_BOUND
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.reporting.result import Result

OK, MISSING, FAILED = "ok", "missing", "failed"
# |value - plaintext| in parts of the largest |plaintext value| of the method, by engine. One step of fine-tuning
# changes little, so its 5e-5 of a mean loss over 50 rows is a few hundredths of it.
TOLERANCE = {"fast": 6e-2, "stock": 8e-2}
L2 = 1e-2
NAME = re.compile(r"[a-z][a-z0-9_]*")
SAME_REPR = "import sys, cloudpickle; print(repr(cloudpickle.load(sys.stdin.buffer)), end='')"
NOT_RUN = "it was not run, because of what failed above"


@dataclass(frozen=True)
class ConformanceLine:
    """What one check found. status: OK, MISSING or FAILED."""

    what: str
    status: str
    found: str


class ConformanceError(Exception):
    """This error says that a method does not keep what is asked of it. A check raises it, and it becomes a line."""


class SmallSets:
    """The rows of the checks: 100 to train on, 50 to test, and 30 that are offered in three ways."""

    def __init__(self) -> None:
        rows, test = Digits().load()
        self.train, self.test = rows.subset(range(100)), test.subset(range(50))
        self.good = rows.subset(range(100, 130)).renamed("as they are")
        # The same rows with labels moved up by one: a set that every method must tell from the first.
        self.wrong = Dataset(self.good.x, (self.good.y + 1) % 10, 10, "wrong labels")
        # The same labels of rows with their features in reverse, for methods that read no labels.
        self.turned = Dataset(self.good.x.flip(1), self.good.y, 10, "turned rows")

    @property
    def candidates(self) -> list[Dataset]:
        return [self.good, self.wrong, self.turned]


def conformance(method: Appraiser, sets: SmallSets | None = None) -> Iterator[ConformanceLine]:
    """Check one method, and yield a line for each check. The checks on shares start three processes."""
    sets = sets or SmallSets()
    stated = stated_lines(method)
    yield from stated
    if any(line.status == FAILED for line in stated):
        yield ConformanceLine("the formula", MISSING, NOT_RUN)
        return
    lines = [*text_lines(method), *formula_lines(method, sets), streaming_line(method, sets), dry_line(method, sets)]
    lines += release_lines(method, sets)
    yield from lines
    if any(line.status == FAILED for line in lines):
        yield ConformanceLine("on shares", MISSING, NOT_RUN)
        return
    try:
        offered = [Candidate(each.name, each, 0.0) for each in sets.candidates]
        result = appraise(offered, train=sets.train, test=sets.test, method=method, l2=L2)
    except Exception as error:  # whatever the formula raises in a party's process
        yield ConformanceLine("on shares", FAILED, _said(error, method))
        return
    yield from shares_lines(method, result, sets)
    yield cost_line(method, result)


def _line(what: str, method: Appraiser, check: Callable[[], str]) -> ConformanceLine:
    """Return OK with what the check returns, or FAILED with what it raises."""
    try:
        return ConformanceLine(what, OK, check())
    except ConformanceError as error:
        return ConformanceLine(what, FAILED, str(error))
    except Exception as error:  # whatever a stranger's formula raises
        return ConformanceLine(what, FAILED, _said(error, method))


def _said(error: BaseException, method: Appraiser) -> str:
    """Return an error in words, with the last line of the method's own file in its traceback."""
    text = "".join([*traceback.format_exception(error), *getattr(error, "__notes__", ())])
    path = getattr(sys.modules.get(type(method).__module__), "__file__", None)
    lines = re.findall(rf'File "{re.escape(str(path))}", line (\d+)', text) if path else []
    where = f" ({Path(path).name}, line {lines[-1]})" if lines else ""
    return shown(f"{type(error).__name__}: {error}", 600) + where


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConformanceError(message)


# ---- what the class states ----


def stated_lines(method: Appraiser) -> list[ConformanceLine]:
    """Check `name`, `needs` and `opens`."""

    def name() -> str:
        stated = getattr(method, "name", None)
        good = isinstance(stated, str) and NAME.fullmatch(stated)
        _require(bool(good), f"got {stated!r}; expected lower-case letters, digits and _")
        own = METHODS.get(stated)
        _require(own in (None, type(method)), f"{stated} is the name of a method of mpc_appraisal; expected another")
        return stated

    def needs() -> str:
        stated = getattr(method, "needs", None)
        good = isinstance(stated, (set, frozenset)) and stated <= {"train", "test"}
        _require(good, f'got {stated!r}; expected a subset of frozenset({{"train", "test"}})')
        return " and ".join(sorted(stated)) or "nothing beside the model"

    def opens() -> str:
        stated = getattr(method, "opens", None)
        good = isinstance(stated, str) and bool(stated.strip())
        _require(good, f"got {stated!r}; expected a description of the opened number in plain words")
        return stated

    return [_line(check.__name__, method, check) for check in (name, needs, opens)]


def text_lines(method: Appraiser) -> list[ConformanceLine]:
    """Check that the repr is one text in all processes, and that copies are equal; say whether settings are known."""

    def stable() -> str:
        data, environment = cloudpickle.dumps(method), os.environ | {"PYTHONHASHSEED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", SAME_REPR]
        done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=300)
        other, own = done.stdout.decode(errors="replace"), repr(method)
        _require(done.returncode == 0, f"no other process can read the method: {shown(done.stderr[-300:].decode())}")
        advice = "expected the same text: make the class a frozen dataclass"
        _require(other == own, f"{shown(own)} here, {shown(other)} in another process; {advice}")
        again = copy.deepcopy(method)
        _require(again == method, f"a copy is another method; {advice}")
        _require(hash(again) == hash(method), f"a copy has another hash; {advice}")
        return shown(own, 200)

    lines = [_line("repr and hash", method, stable)]
    if method.settings is None:
        advice = "the class is no dataclass, so that records state no settings, and nobody can recompute a value"
        lines.append(ConformanceLine("settings", MISSING, advice))
    return lines


# ---- the formula in the clear ----


def formula_lines(method: Appraiser, sets: SmallSets) -> list[ConformanceLine]:
    """Check the shapes of `prepare`, the number that `score` returns, and that `needs` names all that is used."""
    model = fit(sets.train, L2)
    facts = Facts.of(model, sets.train, sets.test, sets.good)

    def prepared() -> str:
        shapes, owned = method.private_shapes(facts), method.prepare(model, sets.train, sets.test)
        found = {key: tuple(value.shape) for key, value in owned.items()}
        good = found == {key: tuple(shape) for key, shape in shapes.items()} and list(owned) == list(shapes)
        _require(good, f"prepare returns {found}, private_shapes says {shapes}; expected the same, in one order")
        fit_for_shares = (v.dtype == torch.float64 and bool(torch.isfinite(v).all()) for v in owned.values())
        _require(all(fit_for_shares), "expected finite float64 tensors from prepare")
        return ", ".join(f"{key} {shape}" for key, shape in found.items()) or "nothing"

    def scored() -> str:
        owned = method.prepare(model, sets.train, sets.test)
        score = method.score(owned, with_bias(sets.good.x), sets.good.one_hot(), facts)
        good = isinstance(score, torch.Tensor) and score.shape == () and score.dtype == torch.float64
        _require(good, f"score returns {shown(score)}; expected one number, a float64 tensor without dimensions")
        value, paper_value = plaintext(method, model, sets.train, sets.test, sets.good)
        expected = method.value(score.item(), facts), method.paper_value(score.item(), facts)
        _require((value, paper_value) == expected, "two runs of the formula differ; expected the same number")
        _require(math.isfinite(value) and math.isfinite(paper_value), f"the value is {value}; expected a finite one")
        return f"value {value:.4g} of 30 rows"

    def enough() -> str:
        parts = (sets.train if "train" in method.needs else None, sets.test if "test" in method.needs else None)
        plaintext(method, model, *parts, sets.good)
        return "the formula uses no other data"

    checks = {"prepare": prepared, "score": scored, "needs suffice": enough}
    return [_line(what, method, check) for what, check in checks.items()]


def streaming_line(method: Appraiser, sets: SmallSets) -> ConformanceLine:
    """Check a method that says it streams: blocks of rows give the score of all rows, and can be rehearsed."""
    if not method.streams:
        return ConformanceLine("streaming", OK, "not claimed: x and y are kept whole")

    def streams() -> str:
        model = fit(sets.train, L2)
        facts = Facts.of(model, sets.train, sets.test, sets.good)
        owned, x, y = method.prepare(model, sets.train, sets.test), with_bias(sets.good.x), sets.good.one_hot()
        parts = [(x[k : k + 8], y[k : k + 8] if method.uses_labels else None) for k in range(0, len(x), 8)]
        whole = method.score(owned, x, y if method.uses_labels else None, facts).item()
        by_blocks = method.score(owned, RowBlocks(lambda: iter(parts)), None, facts).item()
        same = math.isclose(whole, by_blocks, rel_tol=1e-9, abs_tol=1e-12)
        _require(same, f"{by_blocks:.6g} by blocks of rows, {whole:.6g} of all at once; expected the same score")
        large = Facts(3, 2, 20, 20, HELD_ROWS + 1, L2)
        estimate([method], large, 1, DEFAULT_BOUND)
        return f"blocks give the same score; {large.rows} rows were rehearsed in blocks, on shapes"

    return _line("streaming", method, streams)


def dry_line(method: Appraiser, sets: SmallSets) -> ConformanceLine:
    """Check that the formula runs on secret tensors' shapes, before a process is started."""

    def dry() -> str:
        facts = Facts.of(fit(sets.train, L2), sets.train, sets.test, sets.good)
        found = estimate([method], facts, 1, DEFAULT_BOUND)
        return f"{found.rounds} rounds, {sum(found.bytes_sent.values()) / 1e6:.3g} MB a candidate"

    return _line("dry run", method, dry)


def release_lines(method: Appraiser, sets: SmallSets) -> list[ConformanceLine]:
    """Check what other releases than the value need: `opened_at` turns `value` round, and `comparable` is stated."""
    if method.incomparable:
        return [ConformanceLine("other releases", OK, f"not claimed: {method.incomparable}")]
    model, lines = fit(sets.train, L2), []
    facts = Facts.of(model, sets.train, sets.test, sets.good)
    if type(method).opened_at is Appraiser.opened_at:
        lines.append(ConformanceLine("opened_at", MISSING, "without it release=bit, best and dp refuse the method"))
    else:

        def turned_round() -> str:
            for candidate in sets.candidates:
                value, _ = plaintext(method, model, sets.train, sets.test, candidate)
                found = method.value(method.opened_at(value, facts), facts)
                good = math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-12)
                _require(good, f"value(opened_at({value:.6g})) is {found:.6g}; expected {value:.6g}")
            return "it turns `value` round"

        lines.append(_line("opened_at", method, turned_round))
    if type(method).comparable is Appraiser.comparable:
        lines.append(ConformanceLine("comparable", MISSING, "without it release=best refuses the method"))
    return lines


# ---- on shares ----


def shares_lines(method: Appraiser, result: Result, sets: SmallSets) -> list[ConformanceLine]:
    """Compare the values of a run on shares with the plaintext ones, which stand beside them in the records."""
    bad = sets.wrong if method.uses_labels else sets.turned
    good, wrong = (result[method.name, each.name] for each in (sets.good, bad))
    size = max(abs(good.plaintext_value), abs(wrong.plaintext_value))
    within = TOLERANCE[good.engine] * size

    def agrees() -> str:
        for each in (good, wrong):
            text = f"{each.value:.6g} on shares, {each.plaintext_value:.6g} in the clear ({each.candidate})"
            _require(abs(each.value - each.plaintext_value) <= within, f"{text}; expected within {within:.2g}")
        worst = max(abs(each.value - each.plaintext_value) for each in (good, wrong))
        return f"values differ by {worst:.2g} at most, {within:.2g} are allowed"

    def in_order() -> str:
        same = (good.value > wrong.value) == (good.plaintext_value > wrong.plaintext_value)
        _require(same, "two candidates change places; expected the order of the plaintext values")
        return "the candidates' order is that of the plaintext values"

    lines = [_line("shares against plaintext", method, agrees)]
    # The tolerance must not cover the difference that the method is there to find.
    if not abs(good.plaintext_value - wrong.plaintext_value) > 2 * within:
        found = f"{bad.name} and rows as they are have values so alike that the comparison says little"
        return [*lines, ConformanceLine("candidates differ", MISSING, found)]
    return [*lines, _line("candidates differ", method, in_order)]


def cost_line(method: Appraiser, result: Result) -> ConformanceLine:
    """Compare the rounds and bytes that were measured with those of the dry run, which are to be exact."""

    def exact() -> str:
        records: Sequence = [record for record in result if record.method == method.name]
        for record in records:
            if record.estimate is None:
                raise InputError("session.engine", record.engine, "an engine that can be run dry")
            measured = {"rounds": record.rounds} | {f"bytes_sent.{k}": v for k, v in record.bytes_sent.items()}
            for key, value in measured.items():
                foretold = record.estimate[key]
                _require(value == foretold, f"{key}: measured {value}, foretold {foretold}; expected the same")
        return f"rounds and bytes of {len(records)} candidates are those of the dry run"

    return _line("cost", method, exact)
