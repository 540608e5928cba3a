"""What a stranger's data set is worth to your model, computed together on secret shares."""

import os
from importlib import import_module

# torch prints stacks of C++ frames when a peer is gone; what happened is in our own error. Set before torch's import.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

__version__ = "0.1.0"

# The public names by the module that has them. A name may be added; none may be removed, because users import them.
PUBLIC = {
    "appraisal.api": ("appraise",),
    "appraisal.plan": ("DisclosureControls",),
    "appraisal.sessions": ("Join", "Plain", "Spawn"),
    "common.errors": ("AppraisalError", "InputError"),
    "data": ("BreastCancer", "Cifar10", "Dataset", "Diabetes", "Digits", "Mnist", "Recipe", "Wine"),
    "data.scenarios": ("Clean", "DistributionMismatch", "LabelNoise", "MissingData", "TargetNoise", "TargetShift"),
    "methods": (
        *("Diversity", "Finetuning", "GradientNorm", "Influence", "InfluenceError", "MlpFinetuning", "Relevance"),
        *("LeaveOneOut", "Shapley"),
    ),
    "methods.preflight.check": ("preflight",),
    "release": ("Best", "Bit", "NoisedRelease", "Value"),
    "reporting.load": ("load",),
    "reporting.record": ("Record",),
    "reporting.result": ("Result",),
}
_MODULES = {name: module for module, names in PUBLIC.items() for name in names}
__all__ = sorted([*_MODULES, "mend_crypten"])


def mend_crypten():
    """Mend CrypTen in this process, and return the module crypten.

    A program that imports CrypTen afterwards runs over this package's engine; `mpc_appraisal.mpc.crypten_programs` says
    what is replaced. Raises AppraisalError: CrypTen cannot be imported.
    """
    return import_module("mpc_appraisal.crypten")


def __getattr__(name: str):
    """Import the public names on first use: `import mpc_appraisal` alone stays cheap and imports no CrypTen."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mpc_appraisal' has no attribute {name!r}")
    return getattr(import_module(f"mpc_appraisal.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
