"""Keys of a group whose option is swept: plain words serve, and what some of the options lack is refused."""

from __future__ import annotations

import pytest

from mpc_appraisal.cli.swept_keys import stated
from mpc_appraisal.common.errors import InputError

SWEEP = ["--multirun", "protocol=rtas_training,float_shares"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*SWEEP, "protocol.rows=96"], "++protocol.rows=96"),
        ([*SWEEP, "protocol.rows=96,128"], "protocol.rows=96,128"),  # Hydra takes what is swept as it is
        ([*SWEEP, "++protocol.rows=96"], "++protocol.rows=96"),
        ([*SWEEP, "model.l2=1e-2"], "model.l2=1e-2"),
        ([*SWEEP, "protocol.size=3"], "protocol.size=3"),  # no key at all, which Hydra refuses
        (["--multirun", "protocol=ife_shares,ife_transform", "market.sellers=3"], "++market.sellers=3"),
        (["--multirun", "scenario=label_noise,clean", "scenario.candidates=3"], "++scenario.candidates=3"),
        (["protocol=rtas_training", "protocol.rows=96"], "protocol.rows=96"),
    ],
)
def test_a_key_of_swept_options_is_stated_so_that_hydra_takes_it(words, expected):
    assert stated(words) == [*words[:-1], expected]


@pytest.mark.parametrize("value", ["96", "96,128"])
def test_a_key_that_a_swept_option_lacks_is_refused_with_those_that_have_it(value):
    with pytest.raises(InputError) as caught:
        stated(["--multirun", "protocol=shares,rtas_training", f"protocol.rows={value}"])
    assert (caught.value.name, caught.value.value) == ("protocol.rows", value)
    assert "shares lacks it" in caught.value.expected and "sweep rtas_training apart" in caught.value.expected
