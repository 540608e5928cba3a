"""Two attacks on what the matrix transformation shows the cloud, and the settings in which each stops."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mpc_appraisal.attacks.equivalent_model import clusters, fit_output, labels_of, predict, purity, zero_patterns
from mpc_appraisal.attacks.pixel_recovery import blank_share, recover
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import ENVIRONMENT, Mnist
from mpc_appraisal.marketplace.protocols.masked_layers import Masks, ShopperSide, mask
from mpc_appraisal.marketplace.protocols.quantised import pixels, quantise
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, first_matrix, initial, train
from mpc_appraisal.mpc.ring.prg import Stream

ROOT = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / "shared" / "data")
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def mnist():
    if not (ROOT / "mnist").is_dir():
        pytest.skip(f"no folder mnist under {ROOT}: set {ENVIRONMENT} to a folder with mnist/")
    return Mnist(str(ROOT / "mnist")).load()


@pytest.fixture(scope="module")
def market(mnist):
    """A shopper's network, masked, and the cloud's public images."""
    own, test = mnist
    network = train(initial(ARCHITECTURES["cnn"], 0), own.x[:5500], own.y[:5500])
    return network, mask(network, Masks.draw(network.architecture, KEY)), own.subset(range(6000, 6200)), test


def outputs(layer: Conv | Dense, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The masked first layer in integers, and what the scheme tells the cloud of integer images x (n, 784)."""
    architecture = Architecture("attacked", (1, 28, 28), (layer, Dense(10)))
    masked = mask(initial(architecture, 0), Masks.draw(architecture, KEY))
    w = quantise(first_matrix(masked)).w
    return w, x @ w.T


def images(mnist, rows: int) -> np.ndarray:
    return pixels(mnist[1].x[:rows])


@pytest.mark.parametrize(
    ("layer", "equations", "rank"),
    [(Conv(4, 5, stride=2, padding=1), 676, 676), (Conv(4, 5, stride=2), 576, 576), (Conv(4, 5, pool=2), 2304, 784)],
    ids=["5x5 stride 2 padded", "5x5 stride 2", "5x5 stride 1"],
)
def test_every_pixel_behind_a_5x5_convolution_is_recovered(mnist, layer, equations, rank):
    x = images(mnist, 8)
    found = recover(*outputs(layer, x))
    assert (found.equations, found.rank) == (equations, rank)
    assert np.array_equal(found.pixels, x) and found.image_share(x) == found.pixel_share(x) == found.ink_share(x) == 1


def test_a_coarse_convolution_protects_images_with_much_ink_alone(mnist):
    """4 x 7 x 7 stride 3: 256 equations. Thin digits are recovered whole, of others less than a guess of all 0 has."""
    x = images(mnist, 12)
    found = recover(*outputs(Conv(4, 7, stride=3), x))
    whole = (found.pixels == x).all(axis=1)
    assert found.rank == 256 and 0 < whole.mean() < 1 and found.image_share(x) == whole.mean()
    ink = (x > 0).sum(axis=1)
    assert ink[whole].max() < ink[~whole].min()
    rest = recover(*outputs(Conv(4, 7, stride=3), x[~whole]))
    assert rest.pixel_share(x[~whole]) < blank_share(x[~whole]) and rest.ink_share(x[~whole]) < 0.05


def test_a_dense_layer_of_few_units_has_too_few_equations(mnist):
    x = images(mnist, 4)
    found = recover(*outputs(Dense(100), x))
    assert found.rank == 100 and found.image_share(x) == 0
    assert found.pixel_share(x) < blank_share(x) and found.ink_share(x) < 0.05


def test_it_stops_where_outputs_are_shares(mnist):
    """No equation, so the answer is a blank; and a share taken for an output is no equation of any image."""
    x = images(mnist, 2)
    w, z = outputs(Conv(4, 5, stride=2, padding=1), x)
    nothing = recover(w[:0], z[:, :0])
    assert nothing.rank == 0 and nothing.ink_share(x) == 0 and nothing.pixel_share(x) == blank_share(x)
    share = Stream(KEY, "a share of an output").ring(z.shape).numpy()
    assert recover(w, share).ink_share(x) == 0


def test_the_dense_layer_as_wide_as_the_image_is_inverted():
    generator = np.random.default_rng(0)
    w, x = generator.integers(-80, 81, (40, 36)), generator.integers(0, 256, (3, 36))
    assert np.array_equal(recover(w, x @ w.T).pixels, x)


def test_recovery_refuses_shapes_that_do_not_fit():
    for w, z in ((np.ones((3, 4)), np.ones((2, 4))), (np.ones(3), np.ones((2, 3))), (np.ones((3, 0)), np.ones((1, 3)))):
        with pytest.raises(InputError):
            recover(w, z)


def accuracy(labels: torch.Tensor, y: torch.Tensor) -> float:
    return float((labels == y).double().mean())


def test_labelled_records_give_the_cloud_the_shoppers_classifier(market):
    """200 labels undo C, where they would train a far worse model; without the fit the cloud guesses."""
    network, masked, public, test = market
    own = accuracy(network.logits(test.x).argmax(1), test.y)
    z, known = masked.logits(test.x), masked.logits(public.x)
    assert own > 0.93 and accuracy(z.argmax(1), test.y) < 0.5
    by_labels = [accuracy(predict(z, fit_output(known[:k], public.y[:k])), test.y) for k in (10, 50, 200)]
    assert by_labels == sorted(by_labels) and by_labels[-1] > own - 0.03
    assert accuracy(predict(z, fit_output(known, public.y, orthogonal=False)), test.y) > own - 0.04
    trained = train(initial(network.architecture, 1), public.x, public.y)
    assert accuracy(trained.logits(test.x).argmax(1), test.y) < by_labels[-1] - 0.05


def test_labels_are_read_off_the_gradients(market):
    """Labels drawn at random, so that nothing but the gradient tells them; the order of classes alone does not."""
    network, masked, public, test = market
    masks, z = Masks.draw(network.architecture, KEY), masked.logits(test.x)
    y = torch.randint(10, (len(z),), generator=torch.Generator().manual_seed(0))
    sent = ShopperSide(masks).gradient(z, y)
    found = labels_of(sent, fit_output(masked.logits(public.x), public.y))
    assert accuracy(found, y) > 0.95
    assert accuracy((-sent).argmax(1), y) < 0.5


def test_the_fit_stops_where_outputs_are_shares(market):
    _, masked, public, test = market
    drawn = Stream(KEY, "shares of logits")
    share, known = (drawn.ring((len(part.y), 10)).double() for part in (test, public))
    # 10,000 guesses at one in ten have deviation 0.003; the largest class is 11.4%
    assert accuracy(predict(share, fit_output(known, public.y)), test.y) < 0.13


def test_zeros_of_a_masked_layer_are_the_plain_ones_and_cluster_by_class(market):
    network, masked, _, test = market
    x, y = test.x[:1500], test.y[:1500]
    order = Masks.draw(network.architecture, KEY).orders[-1]
    plain, seen = zero_patterns(network, x), zero_patterns(masked, x)
    assert (seen == plain[:, order]).double().mean() > 0.9999  # float32's rounding may move a value across 0
    few, many = (purity(clusters(seen, count), y) for count in (10, 40))
    largest = float(torch.bincount(y).max() / len(y))
    assert few > largest + 0.4 and many > largest + 0.6
    assert purity(clusters(torch.rand(1500, 100) > 0.5, 10), y) < largest + 0.1


def test_purity_counts_the_commonest_label_of_each_cluster():
    assert purity(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([2, 2, 1, 0, 1])) == pytest.approx(3 / 5)


def test_the_fit_refuses_labels_that_do_not_fit():
    z = torch.randn(4, 3)
    for y in (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2, 3]), torch.tensor([-1, 1, 2, 0])):
        with pytest.raises(InputError):
            fit_output(z, y)
    with pytest.raises(InputError):
        clusters(z > 0, 5)
