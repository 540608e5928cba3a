"""CrypTen over this package's engine, for a program that runs as it stands but for one import.

    import mpc_appraisal.crypten as crypten

The name stands for the module crypten itself, mended: `mpc.crypten_programs` says what is replaced in it. Submodules
are CrypTen's own too, so that `from mpc_appraisal.crypten import mpc` and `import mpc_appraisal.crypten.nn` never make
a second copy, whose classes `isinstance` would tell apart. Importing this module mends CrypTen in the whole process.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mpc_appraisal.mpc.crypten_programs.mending import mend

_PREFIX = f"{__name__}."
_ORIGINAL = "crypten."


class _Submodules(MetaPathFinder, Loader):
    """Finds each submodule of this name as CrypTen's own submodule."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname.startswith(_PREFIX) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_ORIGINAL + spec.name.removeprefix(_PREFIX))
        spec.loader_state = module.__spec__  # the caller is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _Submodules())
sys.modules[__name__] = mend()
