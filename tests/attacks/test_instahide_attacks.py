"""Attacks on InstaHide succeed where the design says so, by statistical bounds, and fail where they must.

Images are random fields with the spectrum of photographs: amplitude falls as one over frequency.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from smooth_images import SIDE, smooth_images
from torch.nn import functional

from mpc_appraisal.attacks.instahide import challenge as challenges
from mpc_appraisal.attacks.instahide import cluster, rank
from mpc_appraisal.attacks.instahide import seed as seeds
from mpc_appraisal.attacks.instahide.challenge import ChallengeScore
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import Encoding, InstaHide, apply

OWN, CANDIDATES = 10, 130
HIDE = InstaHide()


@pytest.fixture(scope="module")
def pool():
    """Private images, candidates (private ones not among them) and public ones."""
    x = smooth_images(2200)
    return x[:OWN], x[OWN : OWN + CANDIDATES], x[OWN + CANDIDATES :]


@pytest.fixture(scope="module")
def squares(pool):
    return rank.learn(HIDE, pool[2])


@pytest.fixture(scope="module")
def challenge(pool):
    return challenges.make(HIDE, pool[0], labels(OWN), pool[2], 40)


def labels(rows: int) -> torch.Tensor:
    return functional.one_hot(torch.arange(rows) % 2, 2).to(torch.float32)


def binomial(trials: int, chance: float) -> float:
    """More successes than that have a chance below 10^-6 (Chernoff's bound), for small chances."""
    count = trials * chance
    while trials * _divergence(count / trials, chance) < math.log(1e6):
        count += 1
    return count


def _divergence(found: float, chance: float) -> float:
    rest = 0.0 if found >= 1 else (1 - found) * math.log((1 - found) / (1 - chance))
    return found * math.log(found / chance) + rest


def test_one_encoding_names_its_image_among_candidates(pool, squares):
    _, candidates, public = pool
    z = HIDE.infer(candidates, public, 1)[0]
    first = int((rank.places(rank.scores(squares, z, candidates), torch.arange(CANDIDATES)) == 1).sum())
    assert first > 0.8 * CANDIDATES > binomial(CANDIDATES, 1 / CANDIDATES)


def test_an_encoding_of_other_images_names_nobody(pool, squares):
    """The same score, of encodings without any of the candidates: no better than chance."""
    _, candidates, public = pool
    z = HIDE.infer(smooth_images(CANDIDATES, seed=9), public, 1)[0]
    first = int((rank.places(rank.scores(squares, z, candidates), torch.arange(CANDIDATES)) == 1).sum())
    assert first <= binomial(CANDIDATES, 1 / CANDIDATES) < 0.2 * CANDIDATES


def test_places_count_from_one():
    found = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert rank.places(found, torch.tensor([0, 0])).tolist() == [1, 3]


def test_squares_do_not_depend_on_the_signs(pool, squares):
    z = pool[0]
    flipped = z * (torch.randint(2, z.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    assert torch.equal(squares.of_encodings(z), squares.of_encodings(flipped))


def test_whitened_squares_have_unit_covariance(pool, squares):
    """Of encodings that they were not learned of, along the average direction."""
    z = HIDE.encrypt(pool[2], pool[2].new_zeros(len(pool[2]), 1), pool[1]).z
    assert squares.of_encodings(z).var(dim=0).mean() == pytest.approx(1.0, abs=0.25)


def test_forty_encodings_of_each_image_give_the_images(pool, squares, challenge):
    given, answer = challenge
    found = cluster.recover(given.encoding, given.counts, squares)
    decoys = pool[2][:1000]
    score = challenges.score(given, answer, found.images, decoys)
    assert score.identified >= 0.8 and score.correlation > 0.75
    chance = challenges.compare(pool[1][:OWN], answer.images, decoys)
    assert chance.correlation < 0.4 and score.correlation > chance.correlation + 0.35
    assert OWN * chance.identified <= binomial(OWN, OWN / 1000)
    # signs of pixels are common to all images and not found: half agree
    table = (torch.sign(found.images)[:, None] == torch.sign(answer.images)).float().mean(dim=2)
    best = (found.images.abs() @ answer.images.abs().T).argmax(dim=1)
    assert (table[range(OWN), best] - 0.5).abs().max() < 3 / SIDE  # six standard deviations of SIDE^2 fair coins


def test_grouping_names_two_images_of_each_encoding_and_betters_its_start(squares, challenge):
    given, _ = challenge
    start, end = (cluster.recover(given.encoding, given.counts, squares, restarts=1, rounds=r) for r in (1, 12))
    assert end.misfit < start.misfit - 0.01 * abs(start.misfit)  # rounding alone is 10^-6 of it
    assert ((end.weights > 0).sum(dim=1) == 2).all()
    torch.testing.assert_close(end.weights.sum(dim=1), given.encoding.labels.sum(dim=1), atol=1e-5, rtol=0)


def test_one_encoding_of_each_image_does_not(pool, squares):
    given, answer = challenges.make(HIDE, pool[0], labels(OWN), pool[2], 1)
    found = cluster.recover(given.encoding, given.counts, squares)
    assert challenges.score(given, answer, found.images).correlation < 0.55


def test_every_class_gets_its_images_from_few_encodings(pool, squares):
    """Ten classes of one image each, one epoch: some class is the heavier one of no label."""
    for _ in range(5):
        given, _ = challenges.make(HIDE, pool[0], torch.eye(OWN), pool[2], 1)
        found = cluster.recover(given.encoding, given.counts, squares, restarts=2)
        assert found.classes.sort().values.tolist() == list(range(OWN)) and torch.isfinite(found.images).all()
    with pytest.raises(InputError, match="counts"):
        cluster.recover(given.encoding, (0, 2, *(1,) * 8), squares)


def test_recovery_needs_the_right_pixels(pool, squares, challenge):
    """Pixels of each encoding in an order of its own: as many numbers as before, nothing to group."""
    given, answer = challenge
    generator = torch.Generator().manual_seed(0)
    z = given.encoding.z
    mixed = z.gather(1, torch.rand(z.shape, generator=generator).argsort(dim=1))
    found = cluster.recover(Encoding(mixed, given.encoding.labels), given.counts, squares, restarts=2)
    assert challenges.score(given, answer, found.images).correlation < 0.4


def test_retrieval_finds_pixels_where_groups_and_coefficients_are_known(squares):
    """All of the mixture private: least squares of absolute values, from signs that nobody told."""
    x, generator = smooth_images(4, seed=3), torch.Generator().manual_seed(0)
    weights = torch.zeros(400, 4)
    for row in weights:
        share = 0.9 * float(torch.rand((), generator=generator)) + 0.05
        row[torch.randperm(4, generator=generator)[:2]] = torch.tensor([share, 1 - share])
    found = cluster.retrieve(weights @ x, torch.ones(400, 1), weights, squares, 50, generator)
    assert challenges.compare(found, x).correlation > 0.9  # not 1: some pixels stop in a minimum nearby
    assert (found.abs() - x.abs()).abs().median() < 0.1
    wrong = cluster.retrieve(weights @ x, torch.ones(400, 1), weights.flip(0), squares, 50, generator)
    assert challenges.compare(wrong, x).correlation < 0.7


def test_recovery_refuses_what_it_cannot_read(squares, challenge):
    given, _ = challenge
    z, named = given.encoding.z, given.encoding.labels
    for wrong in (Encoding(z, None), Encoding(z[:5], named[:5]), Encoding(z, torch.zeros_like(named))):
        with pytest.raises(InputError):
            cluster.recover(wrong, given.counts, squares)
    with pytest.raises(InputError):
        rank.scores(squares, z[:, 1:], z)
    with pytest.raises(InputError):
        rank.learn(HIDE, z[:7])


@pytest.mark.parametrize("skip", [0, 8, 216])
def test_words_of_all_seeds_at_once_are_numpys(skip):
    tried = np.array([0, 5, 77, 2**31, 2**32 - 1], dtype=np.uint32)
    found = seeds._uniform(tried, skip, 4)
    for column, seed in enumerate(tried):
        stream = np.random.RandomState(int(seed)).random_sample(skip // 2 + 4)
        np.testing.assert_array_equal(found[:, column], stream[skip // 2 :])


@pytest.mark.parametrize("seed", [70_001, 81_111, 99_999])
def test_a_planted_seed_is_found_and_opens_every_image(pool, seed):
    x, _, public = pool
    key = seeds.insecure_key(HIDE, x.shape, len(public), seed)
    given = apply(key, x, labels(OWN), public)
    found = seeds.search(HIDE, given, len(public), range(70_000, 100_000))
    assert found.seed == seed
    key = seeds.insecure_key(HIDE, x.shape, len(public), found.seed)
    torch.testing.assert_close(seeds.reconstruct(key, given, public).to(x.dtype), x, atol=1e-3, rtol=0)
    assert seeds.search(HIDE, given, len(public), range(0, 20_000)).seed is None


def test_no_seed_explains_the_protocols_own_encodings(pool):
    x, _, public = pool
    given = HIDE.encrypt(x, labels(OWN), public)
    found = seeds.search(HIDE, given, len(public), range(0, 2**16), rows=1)
    assert found.seed is None and found.tried == 2**16


def test_the_insecure_key_keeps_the_rules_of_the_protocol():
    key = seeds.insecure_key(HIDE, (500, 6), 50, 1)
    assert key.coefficients.max() <= HIDE.bound and key.coefficients[:, :2].sum(dim=1).min() >= HIDE.least
    assert (key.private[:, 0] != key.private[:, 1]).all()


def test_searches_outside_the_seeds_are_refused(pool):
    given = HIDE.encrypt(pool[0], labels(OWN), pool[2])
    for wrong in (range(0, 2**32 + 1), range(-1, 5), range(0, 10, 2)):
        with pytest.raises(InputError, match="seeds"):
            seeds.search(HIDE, given, len(pool[2]), wrong)
    with pytest.raises(InputError, match="labels"):
        seeds.search(HIDE, replace(given, labels=labels(OWN)), len(pool[2]), range(10))


def test_images_that_equations_do_not_determine_are_refused(pool):
    x, _, public = pool
    key = seeds.insecure_key(HIDE, x.shape, len(public), 1)
    given = apply(key, x, labels(OWN), public)
    half = replace(key, coefficients=key.coefficients[:5], private=key.private[:5], public=key.public[:5],
                   signs=key.signs[:5])  # fmt: skip
    with pytest.raises(InputError, match="determine"):
        seeds.reconstruct(half, Encoding(given.z[:5], given.labels[:5]), public)


def test_the_score_is_one_for_the_answer_in_any_order_and_sign(pool, challenge):
    given, answer = challenge
    flipped = (answer.images * (torch.randint(2, (144,), generator=torch.Generator().manual_seed(0)) * 2 - 1)).flip(0)
    found = challenges.score(given, answer, 3 * flipped)
    assert found.correlation == pytest.approx(1.0) and found.identified == 1.0
    half = challenges.score(given, answer, flipped[:5])
    assert half.correlation == pytest.approx(0.5) and half.identified == 0.5
    assert challenges.score(given, answer, torch.zeros(OWN, 144)).correlation == 0.0


def test_the_score_counts_by_hand():
    """|pixels| of three images, centred: correlations 1, -1/2 and -1/2 by hand."""
    private = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    assert challenges.compare(private[:1], private) == ChallengeScore(pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert challenges.compare(torch.tensor([[1.0, 1.0, 0]]), private).correlation == pytest.approx(0.5 / 3)


def test_decoys_take_what_is_nearer_to_them():
    private, other = smooth_images(6, seed=4), smooth_images(6, seed=5)
    assert challenges.compare(private, private, other).identified == 1.0
    assert challenges.compare(private + 0.01 * other, private, other).identified == 1.0
    assert challenges.compare(other, private, other).identified == 0.0
    assert challenges.compare(other, private).identified > 0.0  # none but private ones to be nearest to


def test_the_commitment_binds_the_answer(pool, challenge):
    given, answer = challenge
    changed = answer.images.clone()
    changed[0, 0] += 1e-3
    for wrong in (replace(answer, images=changed), replace(answer, salt=bytes(32)),
                  replace(answer, images=answer.images.flip(0))):  # fmt: skip
        with pytest.raises(InputError, match="answer"):
            challenges.score(given, wrong, answer.images)
    again, _ = challenges.make(HIDE, answer.images, labels(OWN), pool[2], 1)
    assert again.commitment != given.commitment  # the salt
    with pytest.raises(InputError, match="recovered"):
        challenges.score(given, answer, answer.images[:, 1:])
    with pytest.raises(InputError, match="epochs"):
        challenges.make(HIDE, answer.images, labels(OWN), pool[2], 0)
    assert repr(answer) == "Answer(10 images)"


def test_a_challenge_lists_every_epoch_and_class(challenge):
    given, answer = challenge
    assert given.encoding.z.shape == (40 * OWN, SIDE**2) and given.counts == (5, 5) and given.epochs == 40
    assert not any(torch.equal(a, b) for a, b in zip(given.encoding.z[:OWN], answer.images, strict=True))
