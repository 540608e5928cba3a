"""The validation of CrypTen's debug mode is asked for in another way, and means the same."""

from __future__ import annotations

import subprocess
import sys

from processes import ROOT, stretched

PROGRAM = """
import torch
from mpc_appraisal.mpc.crypten_programs import configuration
from mpc_appraisal.mpc.protocols.crypten_compat import load
crypten = load()
crypten.cfg.mpc.provider = "TFP"
stock = vars(crypten.CrypTensor)["__getattribute__"]
configuration.install(crypten)
mended = vars(crypten.CrypTensor)["__getattribute__"]
configuration.install(crypten)
assert vars(crypten.CrypTensor)["__getattribute__"] is mended is not stock
crypten.init()
asked = []
cfg, read = crypten.cfg, configuration._validates
configuration._validates = lambda cfg: asked.append(read(cfg)) or read(cfg)
x = crypten.cryptensor(torch.tensor([1.0, 2.0]))
def modes():
    asked.clear()
    x.shape
    return asked[0], bool(cfg.debug.validation_mode)
assert modes() == (False, False)
with cfg.temp_override({"debug.validation_mode": True}):
    assert modes() == (True, True)
assert modes() == (False, False)
cfg.debug.validation_mode = True
assert modes() == (True, True)
y = x.add(x)  # it is validated against the same in the clear
cfg.debug.validation_mode = False
cfg["debug.validation_mode"] = True
assert modes() == (True, True)
cfg.load_config(None)
assert modes() == (False, False)
cfg.debug.validation_mode = "${oc.env:MODE,yes}"
assert read(cfg) is True
print("done")
"""


def test_validation_is_on_when_the_configuration_says_so():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=stretched(60), cwd=ROOT
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-2000:]
