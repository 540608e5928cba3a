"""All readers that `fuzz` mutates the inputs of; each imported file has the readers of one room."""

from __future__ import annotations

import fuzz_certificates  # noqa: F401
import fuzz_data  # noqa: F401
import fuzz_governance  # noqa: F401
import fuzz_marketplace  # noqa: F401
import fuzz_messages  # noqa: F401
import fuzz_records  # noqa: F401
from fuzz_registry import READERS, Reader

__all__ = ["READERS", "Reader"]
