"""Measures of how well a method's values serve, one file each; they need both sides' data in one process.

| measure | file | asks |
|---|---|---|
| datamodelling | `datamodelling` | Do sums of values predict what random sets of candidates are worth together? |
| removal | `removal` | Does the model lose more if the best candidates are removed first than if the worst are? |
| detection | `detection` | Do corrupted candidates have lower values than clean ones? |
| randomised | `randomised` | Do the values change if the model's weights are replaced by random ones? |

Values of candidates go in, with retrainings, levels of corruption or a second set of values; a `Measured` comes out for
each method. Nothing here is part of a private run. A measure may be added, with an entry in `MEASURES`; the names in
`MEASURES` have to stay, because records hold them. `appraisal.evaluation` runs the measures on a result.
"""

from __future__ import annotations

from mpc_appraisal.reporting.measured import DATAMODELLING, DETECTION, MEASURES, RANDOMISED, REMOVAL, Measured

__all__ = ["DATAMODELLING", "DETECTION", "MEASURES", "RANDOMISED", "REMOVAL", "Measured"]
