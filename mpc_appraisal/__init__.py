"""What a stranger's data set is worth to your model, computed together on secret shares."""

import os

# torch prints stacks of C++ frames when a peer is gone; what happened is in our own error. Set before torch's import.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import the public names on first use: `import mpc_appraisal` alone stays cheap and imports no CrypTen."""
    if name == "appraise":
        from mpc_appraisal.appraisal.api import appraise

        return appraise
    if name == "DisclosureControls":
        from mpc_appraisal.appraisal.plan import DisclosureControls

        return DisclosureControls
    if name in ("Dataset", "Recipe"):
        from mpc_appraisal import data

        return getattr(data, name)
    if name in ("Plain", "Spawn", "Join"):
        from mpc_appraisal.appraisal import sessions

        return getattr(sessions, name)
    if name == "load":
        from mpc_appraisal.reporting.load import load

        return load
    raise AttributeError(f"module 'mpc_appraisal' has no attribute {name!r}")


__all__ = ["Dataset", "DisclosureControls", "Join", "Plain", "Recipe", "Spawn", "appraise", "load"]
