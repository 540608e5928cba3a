"""PyTorch's layers, functions and networks as CrypTen models, and training, over the engine: against PyTorch itself.

Three real processes measure all cases at once, and each test looks at one of them. PyTorch in float64 is the oracle,
of outputs and of gradients.
"""

from __future__ import annotations

import pytest
from crypten_layers import CASES
from crypten_table import KINDS, both, stated
from crypten_training import EXPRESSIONS

ROUNDING = 5e-4  # sums of a few dozen products, each rounded to 2^-16
FLOAT = 1e-5  # float32 against float64


@pytest.fixture(scope="module")
def layers(module_processes):
    return both(module_processes, "layers")


@pytest.fixture(scope="module")
def programs(module_processes):
    found = both(module_processes, "training")
    assert not [value for value in found.values() if isinstance(value, str)], found
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_converted_model_agrees_with_pytorch(name, layers):
    found, case = layers[name], CASES[name]
    assert isinstance(found, dict), found
    assert found["plaintext"] < FLOAT
    assert found["shares"] < case.forward
    assert found["gradients"] < case.backward


@pytest.mark.parametrize("name", CASES)
def test_the_documentation_states_what_is_measured(name, layers):
    page = stated()[name]
    # Rounding differs from run to run; five times what a number was rounded up to is far outside of that.
    assert all(layers[name][kind] <= 5 * page[kind] for kind in KINDS), (layers[name], page)


def test_the_documentation_lists_every_case_and_no_other():
    assert set(stated()) == set(CASES)


@pytest.mark.parametrize("name", [*EXPRESSIONS, "polynomial with secret coefficients"])
def test_a_gradient_agrees_with_autograd(name, programs):
    assert programs["gradients"][name] < (1e-2 if name in ("norm", "2 / x") else ROUNDING)  # a root, a reciprocal


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"])
def test_the_gradients_of_grouped_and_of_transposed_convolutions_agree_with_autograd(name, programs):
    assert programs["grouped"][name] < ROUNDING


def test_erf_is_right_everywhere_and_rows_of_small_variance_are_standardized(programs):
    assert programs["approximations"]["erf"] < 3e-4  # 1.5e-4 of the series, and rounding
    assert programs["approximations"]["standardized"] < 1e-2


@pytest.mark.parametrize(
    "name", ["plain", "momentum", "dampening", "nesterov", "weight decay", "cross-entropy", "batch normalisation"]
)
def test_three_steps_of_sgd_agree_with_torch(name, programs):
    found = dict(programs["training"][name])
    # The loss that CrypTen shows goes through its logarithm; what it learns by does not.
    assert found.pop("loss") < (0.1 if name == "cross-entropy" else 1e-3)
    # The gradient of a bias before normalisation is zero, and what is left of it is the rounding of many rows.
    assert len(found) >= 4 and max(found.values()) < (1e-2 if name == "batch normalisation" else 1e-3)


def test_running_statistics_are_those_of_torch_and_come_back_to_pytorch(programs):
    found = programs["training"]["batch normalisation"]
    assert found["1.running_mean"] < 1e-3 and found["1.running_var"] < 1e-3


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_losses_agree_with_torch(name, programs):
    assert programs["losses"][f"{name}, plain"] < FLOAT
    assert programs["losses"][name] < (0.1 if "BCE" in name or "Cross" in name else 1e-3)  # CrypTen's logarithm


def test_a_model_of_cryptens_modules_has_the_sources_statistics_when_it_is_encrypted_in_evaluation(programs):
    found = programs["own_modules"]
    assert found["plain"] < FLOAT
    assert found["encrypted"] < ROUNDING and found["after decryption"] < ROUNDING


@pytest.mark.parametrize(
    "name",
    ["Identity", "Tanh", "GELU", "LeakyReLU", "SiLU", "LayerNorm", "GroupNorm", "AvgPool2d", "MaxPool2d", "Conv1d"]
    + ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "ConstantPad2d", "ReLU6"],
)
def test_modules_that_crypten_lacks_agree_with_pytorchs(name, programs):
    assert programs["added_modules"][name] < (1e-2 if name in ("Tanh", "SiLU") else ROUNDING)


def test_dropout_of_a_converted_model_scales_what_it_keeps_and_passes_its_gradient(programs):
    found = programs["dropout"]
    assert found["value"] < 1e-3 and found["gradient"] < 1e-3 and found["evaluation"] < 1e-3
    assert abs(found["kept"] - 0.75) < 6.5 * (0.25 * 0.75 / 2000) ** 0.5


def test_a_model_that_one_party_loads_is_converted_at_both(programs):
    assert programs["received"]["output"] < ROUNDING
