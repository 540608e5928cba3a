"""Which appraisals the check of messages covers, where session.integrity=on asks for it.

In go the plan, and the public facts of the candidates once they are known. Out comes nothing, or an InputError that
names session.integrity, before anything is shared; every party makes the check alike. `COVERED` may be enlarged where
tests show that each altered message of a covered appraisal is found (`mpc.integrity`); the error's words and the
documentation's list are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpc_appraisal.appraisal.plan import HELD_ROWS, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, ON
from mpc_appraisal.methods import (
    Appraiser,
    Diversity,
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    MlpFinetuning,
    Relevance,
)


@dataclass(frozen=True)
class Coverage:
    """What the check of messages covers.

    Attributes:
        engines: The names of engines.
        methods: The classes of methods; a class that derives from one of them is another method.
        releases: The kinds of releases.
        rows: The most rows of a candidate.
    """

    engines: tuple[str, ...]
    methods: tuple[type[Appraiser], ...]
    releases: tuple[str, ...]
    rows: int

    @property
    def words(self) -> str:
        """What has to be stated for an appraisal that is covered."""
        methods = _either([each.name for each in self.methods])
        engines, releases = _either(self.engines), _either(self.releases)
        sizes = f"candidates of {self.rows} rows at most"
        return f"session.engine={engines}, appraisal={methods}, release={releases}, and {sizes}"


COVERED = Coverage(
    ("fast",),
    (Influence, InfluenceError, GradientNorm, Finetuning, MlpFinetuning, Relevance, Diversity),
    ("value", "bit", "best", "dp"),
    HELD_ROWS,
)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def check_covered(plan: Plan, facts: Mapping[str, Facts] | None = None) -> None:
    """Raise InputError where the plan asks for a check of messages that does not cover it.

    facts: The public facts by candidate's name; None where they are not known yet.
    """
    if not plan.integrity:
        return
    if plan.engine not in COVERED.engines:
        raise _refused(f"session.engine={plan.engine}")
    for method in plan.methods:
        if type(method) not in COVERED.methods:
            raise _refused(f"appraisal={method.name}")
    if (kind := plan.release.description.kind) not in COVERED.releases:
        raise _refused(f"release={kind}")
    for name, f in (facts or {}).items():
        if f.rows > COVERED.rows:
            raise _refused(f"the {f.rows} rows of {name!r}")


def _refused(what: str) -> InputError:
    return InputError(INTEGRITY, f"{ON} with {what}", f"off, or what the check of messages covers: {COVERED.words}")
