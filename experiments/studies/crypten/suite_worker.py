"""One file of CrypTen's own tests on one side, in a process of its own: one JSON line a test on standard output.

    python -m experiments.studies.crypten.suite_worker SIDE FOLDER FILE CUT [TEST ...]

SIDE is a name in SIDES, FOLDER holds CrypTen's `test/`, FILE is one of its files without `.py`, and the tests that are
named, as Class.test, are left out. With CUT above 0 the loops of the tests over sizes and variants take so many
elements at most, from the first to the last, and one more of the combinations of several; 0 cuts nothing. CrypTen's
code is run from FOLDER and never copied; what has to differ for the runner is replaced from outside: the parties of a
test are forked and not spawned, since a spawned party would import CrypTen unmended; and a test whose party is killed,
or which does not end in time, fails, where CrypTen counts a party that says nothing as one that passed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import json
import logging
import multiprocessing
import os
import re
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

INSTALLED, COMPATIBLE, ENGINE = "installed", "compatible", "engine"
CUT = "some_of_these"  # the name by which a cut loop finds `some_of`
LONGEST_REASON = 160
LIMIT_SECONDS = 1200.0  # a test of stock CrypTen may take minutes on a loaded machine
# Classes of tests that need more than two parties, or that repeat those of another class: with another provider of
# triples (the engine has one dealer for both), or without encryption.
OUTSIDE = ("Test3PC", "TestRSS", "TestTFP", "TestPTT")


def _installed() -> ModuleType:
    return importlib.import_module("crypten")


def _compatible() -> ModuleType:
    from mpc_appraisal.mpc.protocols.crypten_compat import load

    crypten = load()
    crypten.cfg.mpc.provider = "TFP"  # CrypTen's own default
    return crypten


def _engine() -> ModuleType:
    import mpc_appraisal

    crypten = mpc_appraisal.mend_crypten()
    crypten.cfg.mpc.provider = "TTP"  # CrypTen's test case then starts the dealer itself
    return crypten


SIDES: dict[str, Callable[[], ModuleType]] = {INSTALLED: _installed, COMPATIBLE: _compatible, ENGINE: _engine}


class Lines(unittest.TestResult):
    """A result that prints one JSON line for each test. cut: to how many elements loops were cut, or 0."""

    cut = 0

    def startTest(self, test):
        super().startTest(test)
        self.began, self.told = time.monotonic(), False

    def _tell(self, test: unittest.TestCase, outcome: str, reason: str = "") -> None:
        if self.told:
            return
        self.told = True
        row = {"test": name_of(test), "outcome": outcome, "seconds": round(time.monotonic() - self.began, 2)}
        print(json.dumps(row | {"reason": reason, "cut": self.cut}), flush=True)

    def addSuccess(self, test):
        self._tell(test, "passed")

    def addSkip(self, test, reason):
        self._tell(test, "skipped", reason)

    def addFailure(self, test, err):
        self._tell(test, "failed", cause(str(err[1])))

    def addError(self, test, err):
        self._tell(test, "failed", cause(f"{err[0].__name__}: {err[1]}"))


def name_of(test: unittest.TestCase) -> str:
    return f"{type(test).__name__}.{test._testMethodName}"


def cause(text: str) -> str:
    """Return the first line of a party's traceback that names an error, or the last line of the text.

    CrypTen joins the tracebacks of all parties. A party that lost another one says less than the other does.
    """
    named = [line for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception|Interrupt|Warning|Exit)\b", line)]
    own = [line for line in named if "PeerError" not in line]
    lines = own or named or text.strip().splitlines() or [""]
    line = re.sub(r"\x1b\[[0-9;]*m", "", lines[0] if own or named else lines[-1])
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + " ..."


def tests_of(module: ModuleType) -> Iterator[unittest.TestCase]:
    """Yield the tests of a file that fit two parties."""
    for name in sorted(vars(module)):
        found = vars(module)[name]
        own = isinstance(found, type) and found.__module__ == module.__name__ and name not in OUTSIDE
        if own and issubclass(found, unittest.TestCase):
            for method in unittest.defaultTestLoader.getTestCaseNames(found):
                yield found(method)


class CutLoops(ast.NodeTransformer):
    """Lets loops over public sizes and variants (a name, a list, a product of several) take a few elements alone."""

    def __init__(self, most: int):
        self.most = most

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        product = isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func) == "itertools.product"
        if product or isinstance(node.iter, (ast.List, ast.Tuple, ast.Name)):
            most = ast.Constant(self.most + product)
            node.iter = ast.Call(ast.Name(CUT, ast.Load()), [node.iter, most], [])
        return ast.fix_missing_locations(node)


def some_of(values: Iterable, most: int) -> Iterable:
    """Return at most so many of the values, the first and the last among them; a mapping stays whole."""
    if isinstance(values, dict):
        return values
    found = list(values)
    return found if len(found) <= most else [found[k * (len(found) - 1) // (most - 1)] for k in range(most)]


def load_tests(folder: str, file: str, most: int) -> ModuleType:
    """Import a file of CrypTen's tests, with its loops cut where `most` is above 0."""
    if most == 0:
        return importlib.import_module(f"test.{file}")

    class Loader(importlib.machinery.SourceFileLoader):
        def source_to_code(self, data, path, **options):
            return compile(CutLoops(most).visit(ast.parse(data)), path, "exec")

        def get_code(self, fullname):  # what is compiled already was not cut
            return self.source_to_code(self.get_data(self.path), self.path)

    name, path = f"test.{file}", str(Path(folder, "test", f"{file}.py"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, Loader(name, path)))
    vars(module)[CUT], sys.modules[name] = some_of, module
    module.__loader__.exec_module(module)
    return module


def patch(case: type[unittest.TestCase]) -> None:
    """Let CrypTen's MultiProcessTestCase fork its parties, end them in time, and fail where one was killed."""
    begin, join = case.__init__, case._join_processes

    def __init__(self, methodName):
        begin(self, methodName)
        self.mp_context = multiprocessing.get_context("fork")

    def _join_processes(self, fn):
        timer = threading.Timer(LIMIT_SECONDS, lambda: [process.kill() for process in self.processes])
        timer.daemon = True
        timer.start()
        try:
            join(self, fn)
        finally:
            timer.cancel()
        codes = [process.exitcode for process in self.processes[: self.world_size]]
        self.assertEqual(codes, [0] * self.world_size, f"ended by a signal, or after {LIMIT_SECONDS:g} s")

    case.__init__, case._join_processes = __init__, _join_processes


def main(side: str, folder: str, file: str, cut: str, *done: str) -> None:
    """Run the tests of a file but those that are done."""
    try:
        SIDES[side]()  # before the folder is on the path, because it has another copy of CrypTen
    except Exception as error:
        print(json.dumps({"imported": False, "reason": cause(f"{type(error).__name__}: {error}")}), flush=True)
        return
    logging.disable(logging.INFO)  # CrypTen logs each request to the dealer
    sys.path.insert(0, folder)
    os.chdir(folder)
    patch(importlib.import_module("test.multiprocess_test_case").MultiProcessTestCase)
    module = load_tests(folder, file, int(cut))
    left = [test for test in tests_of(module) if name_of(test) not in done]
    result = Lines()
    result.cut = int(cut)
    unittest.TestSuite(left).run(result)


if __name__ == "__main__":
    # CrypTen's tests print, and so may libraries: only this process writes lines of results to the first output.
    main(*sys.argv[1:])
