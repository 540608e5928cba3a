"""The attacks on InstaHide as choices of the app succeed far beyond a guess, stop where they say, and refuse misfits.

Images are random fields with the spectrum of photographs, which are drawn from a seed. Keys come from the operating
system, so that successes vary; their bounds are far from what repeated runs give, and chance is binomial.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from smooth_images import SIDE, smooth_images

from mpc_appraisal.attacks.instahide import challenge, challenge_files
from mpc_appraisal.attacks.measures import (
    EVERY,
    EveryAttack,
    ImageRanking,
    ImageRecovery,
    InstaHideChallenge,
    Membership,
    NoAttack,
    SeedSearch,
    attacks_on,
)
from mpc_appraisal.attacks.measures.image_ranking import first
from mpc_appraisal.attacks.measures.image_recovery import apart
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations import InstaHideCross, InstaHideInside
from mpc_appraisal.transformations.instahide import InstaHide
from mpc_appraisal.transformations.instahide_images import EncodingsView, Images

OWN, LAST = 150, 2**32 - 1
ON_INSTAHIDE = {"image_ranking", "image_recovery", "seed_search", "challenge"}


@pytest.fixture(scope="module")
def view():
    images = Images(
        smooth_images(OWN, 0),
        torch.arange(OWN) % 2,
        smooth_images(2000, 1),
        smooth_images(800, 2),
        smooth_images(200, 3),
        torch.arange(200) % 2,
        2,
    )
    return EncodingsView(InstaHide(), images, 40, 10)


def test_ranking_finds_most_images_and_nobody_in_other_images(view):
    inference, training = ImageRanking(candidates=130).measure(view, 0)
    assert inference.chance == training.chance == pytest.approx(1 / 130)
    assert inference.recovered > 0.8 and training.recovered > 0.25
    assert inference.stopped < 0.2  # 26 hits of 130 at a chance of 1/130 each
    assert [point["encodings"] for point in inference.points] == [1, 3, 10]
    assert inference.points[-1]["recovered"] == inference.recovered and inference.assumed
    single = ImageRanking(candidates=130, encodings=1).measure(view, 0)[0]
    assert single.recovered > 0.5 and [point["encodings"] for point in single.points] == [1]


def test_ranking_fits_mixtures_of_private_images_alone(view):
    inference, training = ImageRanking().measure(replace(view, hide=InstaHide(mixing="inside")), 0)
    assert inference.recovered > 0.8 and training.recovered > 0.25


def test_the_first_place_counts_by_hand():
    scores = torch.tensor([[3.0, 1.0], [0.0, 5.0], [2.0, 1.0], [4.0, 0.0]])
    assert first(scores, torch.tensor([0, 1, 1, 1])) == 0.5


def test_recovery_identifies_images_and_finds_less_in_one_encoding(view):
    (found,) = ImageRecovery(images=10, decoys=500).measure(view, 0)
    assert found.recovered > 0.5 > 0.3 > found.chance and found.stopped == found.points[0]["recovered"]
    assert [point["epochs"] for point in found.points] == [1, 8, 40]
    one, last = found.points[0], found.points[-1]
    assert one["correlation"] < 0.65 < 0.75 < last["correlation"] and last["chance_correlation"] < 0.5
    assert "10 images, 40 encodings of each, told from 500 decoys" in found.setting


def test_guesses_and_decoys_are_neither_private_nor_public(view):
    guesses, decoys = apart(view.images, 10, 5000)
    assert torch.equal(torch.cat([guesses, decoys]), torch.cat([view.images.others, view.images.tested]))
    assert len(guesses) == 10 and len(apart(view.images, 10, 30)[1]) == 30


@pytest.mark.parametrize("planted", [0, 3_141_592_653, LAST])
def test_a_planted_seed_gives_all_images_and_the_protocols_keys_none(view, planted):
    (found,) = SeedSearch(images=10, planted=planted, searched=20_000).measure(view, 0)
    assert (found.recovered, found.chance, found.stopped) == (1.0, 0.0, 0.0) and not found.assumed
    point = found.points[0]
    assert point["found"] and point["minutes_for_all"] == pytest.approx(2**32 / point["seeds_a_second"] / 60)


def test_a_challenge_scores_the_right_answer_as_one_and_a_wrong_one_as_a_guess(view, tmp_path):
    settings = {"images": 10, "decoys": 500, "restarts": 1, "folder": str(tmp_path / "C")}
    (made,) = InstaHideChallenge(**settings).measure(view, 0)
    secret = challenge_files.read(tmp_path / "C").secret
    flipped = (-2 * secret.images).flip(0)  # in any order, and up to signs and scale
    answers = {"right": flipped, "wrong": smooth_images(10, 77), "half": flipped[:5]}
    found = {}
    for name, images in answers.items():
        np.savez(tmp_path / f"{name}.npz", images=images.numpy())
        attack = InstaHideChallenge(**settings, answer=str(tmp_path / f"{name}.npz"))
        attack.check()
        other, own = attack.measure(view, 0)
        assert "from a file" in other.setting and "the app's" in own.setting
        assert other.points[0]["commitment"] == made.points[0]["commitment"]
        found[name] = other
    assert found["right"].recovered == 1.0 and found["right"].points[0]["correlation"] == pytest.approx(1.0)
    assert found["half"].recovered == 0.5
    assert found["wrong"].recovered < 0.3 and found["wrong"].points[0]["correlation"] < 0.5
    assert made.chance == found["wrong"].chance < 0.3


def test_a_challenge_is_read_as_it_was_written(view, tmp_path):
    private, labels = view.images.few(6)
    given, secret = challenge.make(view.hide, private, labels, view.images.public, 2)
    stored = challenge_files.StoredChallenge(given, view.images.public, secret, view.images.others[:5])
    challenge_files.write(tmp_path, stored)
    found = challenge_files.read(tmp_path)
    assert torch.equal(found.given.encoding.z, given.encoding.z) and found.given.hide == given.hide
    assert torch.equal(found.given.encoding.labels, given.encoding.labels) and found.given.counts == given.counts
    assert (found.given.epochs, found.given.commitment) == (2, given.commitment)
    assert found.secret.salt == secret.salt and torch.equal(found.secret.images, secret.images)
    assert torch.equal(found.public, stored.public) and torch.equal(found.decoys, stored.decoys)
    with np.load(tmp_path / "challenge.npz") as told:
        assert set(told.files) == {"z", "labels", "public", "counts", "k", "bound", "least", "epochs", "commitment"}
    with pytest.raises(InputError, match=r"^folder: .*a folder without a challenge"):
        challenge_files.write(tmp_path, stored)


def test_another_secret_than_the_committed_one_is_refused(view, tmp_path):
    attack = InstaHideChallenge(images=10, restarts=1, epochs=2, folder=str(tmp_path))
    attack.measure(view, 0)
    with np.load(tmp_path / "secret.npz") as kept:
        arrays = dict(kept)
    np.savez(tmp_path / "secret.npz", **arrays | {"images": arrays["images"][::-1]})
    with pytest.raises(InputError, match="commits to"):
        attack.measure(view, 0)


def test_files_that_do_not_fit_are_refused_before_anything_is_computed(view, tmp_path):
    folder, answer = tmp_path / "C", tmp_path / "answer.npz"
    np.savez(answer, images=np.zeros((3, SIDE**2)))
    with pytest.raises(InputError, match=r"^folder: "):
        InstaHideChallenge(folder=str(folder), answer=str(answer)).check()  # no challenge there
    with pytest.raises(InputError, match=r"^folder: got None"):
        InstaHideChallenge(answer=str(answer))
    InstaHideChallenge(images=10, restarts=1, epochs=1, folder=str(folder)).measure(view, 0)
    InstaHideChallenge(folder=str(folder), answer=str(answer)).check()
    for wrong in ({"images": np.zeros((3, 5))}, {"images": np.full((3, SIDE**2), np.nan)}, {"other": np.zeros(3)},
                  {"images": np.zeros((3, SIDE**2), dtype=int)}):  # fmt: skip
        np.savez(answer, **wrong)
        with pytest.raises(InputError, match=r"^answer: "):
            InstaHideChallenge(folder=str(folder), answer=str(answer)).check()
    answer.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"^answer: "):
        InstaHideChallenge(folder=str(folder), answer=str(answer)).check()
    (folder / "challenge.npz").write_bytes((folder / "secret.npz").read_bytes())
    with pytest.raises(InputError, match=r"^folder: "):
        challenge_files.read(folder)


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (ImageRanking, {"candidates": 7}, "candidates"),
        (ImageRanking, {"encodings": 0}, "encodings"),
        (ImageRanking, {"learned": 0}, "learned"),
        (ImageRecovery, {"images": 0}, "images"),
        (ImageRecovery, {"epochs": 0}, "epochs"),
        (ImageRecovery, {"restarts": 1.5}, "restarts"),
        (ImageRecovery, {"decoys": 0}, "decoys"),
        (SeedSearch, {"images": 1}, "images"),
        (SeedSearch, {"planted": 2**32}, "planted"),
        (SeedSearch, {"searched": 1}, "searched"),
        (InstaHideChallenge, {"epochs": True}, "epochs"),
        (InstaHideChallenge, {"folder": 3}, "folder"),
        (InstaHideChallenge, {"folder": "C", "answer": ""}, "answer"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(kind, settings, name):
    with pytest.raises(InputError) as caught:
        kind(**settings)
    assert caught.value.name == name


def test_attacks_that_begin_from_another_view_are_refused_by_name():
    cross, inside = InstaHideCross(), InstaHideInside()
    assert {each.name for each in attacks_on(EveryAttack(), cross.name, cross.shows, EVERY)} == ON_INSTAHIDE
    assert [each.name for each in attacks_on(EveryAttack(), inside.name, inside.shows, EVERY)] == ["image_ranking"]
    assert attacks_on(NoAttack(), inside.name, inside.shows, EVERY) == []
    for wrong in (ImageRecovery(), SeedSearch(), InstaHideChallenge(), Membership()):
        with pytest.raises(InputError, match=r"protocol=instahide_inside: none, all, image_ranking; this one fits"):
            attacks_on(wrong, inside.name, inside.shows, EVERY)
