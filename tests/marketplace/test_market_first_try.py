"""The marketplace's first try: files and plan by commands, certificates by everybody's own name, and refusals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cryptography import x509
from processes import DATA_OWNER, MODEL_OWNER, ROLES, free_port
from small_market import problem
from tls_sessions import listening

from mpc_appraisal.appraisal.sessions import Spawn
from mpc_appraisal.cli.commands.certificates import main as certificates
from mpc_appraisal.cli.commands.market import main
from mpc_appraisal.cli.commands.market.example import SELLERS
from mpc_appraisal.cli.commands.market.join import by_own_names
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import MARKET_NAMES
from mpc_appraisal.marketplace import api
from mpc_appraisal.marketplace.cap import check_cap, first_layer_rank
from mpc_appraisal.marketplace.plan_file import architecture_of, market_of, read_plan
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.party import take_part
from mpc_appraisal.marketplace.uploads.enrolment import read_keys, registry
from mpc_appraisal.models.networks import ARCHITECTURES, Network, first_matrix, initial
from mpc_appraisal.mpc.net.certificates import CertificateFiles, certified_role, make_trial, names_of
from mpc_appraisal.mpc.net.tls import TlsLink


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market") / "try"
    main(["example", str(folder)])
    return folder


def test_the_example_has_all_files_and_no_row_twice(example):
    rows = [np.load(example / f"{name}.npz")["x"] for name in ("own", "validation", *SELLERS)]
    together = np.concatenate(rows)
    assert [len(x) for x in rows] == [100, 300, 60, 60, 60] and together.dtype == np.uint8
    assert len(np.unique(together, axis=0)) == len(together)
    plan = read_plan(example / "plan.json")
    assert Network.load(example / "network.npz").architecture == plan.architecture
    with pytest.raises(InputError, match="^DIR: .*plan.json"):
        main(["example", str(example)])


def test_each_certificate_has_its_holder_s_own_name(example):
    for name in (*MARKET_NAMES.values(), *SELLERS):
        found = x509.load_pem_x509_certificate((example / "certificates" / name / f"{name}.pem").read_bytes())
        assert names_of(found) == {name}
    for role, name in MARKET_NAMES.items():
        for folder in (example / "certificates", example / "certificates" / name):
            assert CertificateFiles.of(folder, role).certificate.name == f"{name}.pem"
    with pytest.raises(InputError, match="model_owner.pem"):
        CertificateFiles.of(example / "certificates" / "cloud", MODEL_OWNER)


@pytest.mark.parametrize("server", [True, False])
def test_a_party_takes_the_names_of_its_own_kind_alone(tmp_path, server):
    make_trial(tmp_path, names=(*ROLES, *MARKET_NAMES.values()), sellers=("ann",))

    def role_of(own: str, seat: str, *shown: str) -> str:
        context = CertificateFiles.of(tmp_path / own, seat).context(server)
        named = {"subjectAltName": tuple(("DNS", name) for name in shown)}
        return certified_role(SimpleNamespace(context=context, getpeercert=lambda: named))

    for seat, name in MARKET_NAMES.items():
        assert role_of("authority", AUTHORITY, name) == seat and role_of(AUTHORITY, AUTHORITY, seat) == seat
        for own, shown in (("authority", seat), (AUTHORITY, name)):
            with pytest.raises(PermissionError, match=f"a certificate for '{shown}'"):
                role_of(own, AUTHORITY, shown)
    for shown in (("ann",), ("cloud", "shopper"), ()):
        with pytest.raises(PermissionError, match="expected one for one role alone"):
            role_of("authority", AUTHORITY, *shown)


@pytest.mark.parametrize(("listens", "dials"), [("shopper", DATA_OWNER), (MODEL_OWNER, "cloud")])
def test_a_certificate_of_the_marketplace_counts_in_no_appraisal(tmp_path, listens, dials):
    """One authority has signed all of them, and each is for the right seat."""
    make_trial(tmp_path, names=(*ROLES, *MARKET_NAMES.values()), sellers=("ann",))
    link, where = listening(tmp_path / listens, 20.0)
    try:
        with pytest.raises(PeerError, match="is not model_owner"):
            TlsLink(DATA_OWNER, where, 3.0, str(tmp_path / dials))
        with pytest.raises(InputError, match="^session.tls: "):  # a seller takes no seat
            CertificateFiles.of(tmp_path / "ann", DATA_OWNER)
    finally:
        link.close()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--sellers", "ann"], "^--sellers: got ann; expected --market"),
        (["--market", "--sellers", "cloud"], "^--sellers: got cloud; expected a name that is neither a role's"),
        (["--market", "--sellers", "dealer"], "^--sellers: got dealer"),
        (["--market", "--sellers", "ann", "ann"], "^--sellers: got ann"),
        (["--market", "--sellers", "../ann"], "^seller: got '../ann'"),
    ],
)
def test_a_certificate_for_a_name_that_will_not_do_is_refused(tmp_path, words, named):
    with pytest.raises(InputError, match=named):
        certificates([str(tmp_path / "made"), *words])
    assert not (tmp_path / "made").exists()


def test_errors_call_the_roles_by_their_own_names():
    assert by_own_names("data_owner died; session.tls: got None, without dealer.pem; session.rendezvous: got x") == (
        "cloud died; --tls: got None, without authority.pem; ADDRESS: got x"
    )


def test_the_cloud_takes_no_uploads_that_only_the_shopper_may_have(tmp_path):
    plan = market_of({"protocol": "ife_shares", "selection": "margin", "budget": 2})
    with pytest.raises(InputError, match="^inbox: got inbox; expected none: with ife_shares .* data_owner"):
        take_part(CLOUD, f"tcp://127.0.0.1:{free_port()}", plan, lambda: CloudInput("inbox"))


def test_the_plan_that_is_printed_is_the_plan_that_was_stated(capsys):
    words = ["plan", "--image", "1", "8", "8", "--budget", "6", "--granularity", "3", "--momentum", "0.5", "--deliver"]
    main([*words, "--seed", "7", "--seller-rows", "9"])
    stated = json.loads(capsys.readouterr().out)
    plan = market_of(stated)
    assert (plan.budget, plan.seed, plan.seller_rows, plan.architecture.image) == (6, 7, 9, (1, 8, 8))
    assert (plan.validation.granularity, plan.validation.momentum, plan.validation.deliver) == (3, 0.5, True)
    main(["plan", "--protocol", "ife_shares", "--no-validation", "--opens", "logits"])
    plan = market_of(json.loads(capsys.readouterr().out))
    assert plan.validation is None and plan.protocol.opens == "logits"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--network", "cnn6"], "^network: got cnn6, whose first layer has 784 .* at most 705, the cap"),
        (["--image", "1", "8", "8", "--cap-share", "0.5"], "^network: got cnn, whose first layer has 36 .* at most 32"),
        (["--protocol", "ife_shares", "--momentum", "0.5"], "^validation momentum"),
        (["--protocol", "ife_shares", "--update", "exact"], "^plan: got update"),
        (["--budget", "10"], "^validation granularity: got 50"),
        (["--no-validation", "--deliver"], "^--deliver"),
    ],
)
def test_a_plan_that_cannot_be_run_is_not_printed(capsys, words, named):
    with pytest.raises(InputError, match=named):
        main(["plan", *words])
    assert not capsys.readouterr().out


def test_the_rank_of_a_first_layer_is_that_of_its_matrix():
    for name, image in (("cnn", [1, 8, 8]), ("mlp", [1, 8, 8]), ("mlp", None)):
        architecture = architecture_of(name, image)
        other = first_matrix(initial(architecture, 1)).double().numpy()  # other weights than those of the function
        assert first_layer_rank(architecture) == np.linalg.matrix_rank(other)


def test_the_cap_refuses_before_anything_is_uploaded(tmp_path, monkeypatch):
    stated = {"network": "mlp", "image": [1, 8, 8], "protocol": "ife_transform", "selection": "margin", "budget": 2}
    (tmp_path / "plan.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match="^network: got mlp, whose first layer has 64 independent .* at most 57"):
        main(["enrol", str(tmp_path / "state"), "ann", "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path)])
    assert not list(tmp_path.glob("*.enrolment")) and not registry(tmp_path / "state")
    plan = market_of(stated)
    with pytest.raises(InputError, match="^network: got mlp"):  # at once, although nobody else comes
        take_part(AUTHORITY, f"tcp://127.0.0.1:{free_port()}", plan, lambda: AuthorityInput(tmp_path / "state"))
    check_cap(ARCHITECTURES["mlp"], 0.9)
    shopper, sellers = problem(plan.architecture)
    monkeypatch.setattr(api, "launch", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(InputError, match="^network: got mlp"):  # before a seller encrypts anything
        api.run_market(plan, shopper, sellers, Spawn())


def test_a_network_is_trained_or_imported_by_a_command(example, tmp_path, capsys):
    plan, own, asked = (str(example / name) for name in ("plan.json", "own.npz", "validation.npz"))
    main(["network", plan, "--own", own, "--validation", asked, "--epochs", "3", "--out", str(tmp_path / "a.npz")])
    assert "own rows" in capsys.readouterr().out
    found = Network.load(tmp_path / "a.npz")
    state = {}
    for place, (weight, bias) in enumerate(zip(found.weights, found.biases, strict=True)):
        state |= {f"{place}.weight": weight, f"{place}.bias": bias}
    torch.save(state, tmp_path / "state.pt")
    main(["network", plan, "--state", str(tmp_path / "state.pt"), "--out", str(tmp_path / "b.npz")])
    again = Network.load(tmp_path / "b.npz")
    assert all(
        torch.equal(p, q) for p, q in zip(found.weights + found.biases, again.weights + again.biases, strict=True)
    )
    del state["0.bias"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(InputError, match="^state: got .* with 5 tensors; expected .*: 6 for 3 layers"):
        main(["network", plan, "--state", str(tmp_path / "state.pt")])
    with pytest.raises(InputError, match="^--own: got None"):
        main(["network", plan])
    (tmp_path / "state.pt").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="^state: got .*expected a PyTorch state_dict"):
        main(["network", plan, "--state", str(tmp_path / "state.pt")])


def enrolled(example, folder, seller="seller-a", place=None):
    """Enrol a seller by its certificate, and return the path of the enrolment."""
    own = (place or example / "certificates") / seller / f"{seller}.pem"
    main([
        "enrol", str(folder / "state"), "seller-a", "--plan", str(example / "plan.json"), "--out", str(folder),
        "--certificate", str(own), "--ca", str(example / "certificates" / "authority" / "ca.pem"),
    ])  # fmt: skip
    return folder / "seller-a.enrolment"


def test_a_seller_with_a_certificate_signs_with_its_own_key(example, tmp_path):
    file = enrolled(example, tmp_path)
    keys = read_keys(file)
    assert keys.signing_key == b"" and registry(tmp_path / "state")["seller-a"]["verify_key"] == keys.verify_key.hex()
    words = ["upload", str(example / "seller-a.npz"), str(file), "--out", str(tmp_path / "inbox")]
    with pytest.raises(InputError, match="^key: got None; expected the key of the certificate"):
        main(words)
    with pytest.raises(InputError, match="^key: got another key"):
        main([*words, "--key", str(example / "certificates" / "seller-b" / "seller-b.key")])
    with pytest.raises(InputError, match="^key: got .* with a key of another kind; expected a key of Ed25519"):
        main([*words, "--key", str(example / "certificates" / "cloud" / "cloud.key")])
    assert not list(tmp_path.rglob("*.upload"))
    own = example / "certificates" / "seller-a" / "seller-a.key"
    main([*words, "--key", str(own), "--plan", str(example / "plan.json")])
    assert len(list(tmp_path.rglob("*.upload"))) == 1


def test_a_certificate_that_is_not_the_seller_s_enrols_nobody(example, tmp_path):
    make_trial(tmp_path / "other", names=("cloud",), sellers=("seller-a",))
    for seller, place, said in (
        ("seller-b", None, "seller-b alone|for seller-b; expected one for seller-a alone"),
        ("seller-a", tmp_path / "other", "did not sign"),
        ("nobody", None, "FileNotFoundError"),
    ):
        with pytest.raises(InputError, match=f"^certificate: got .*({said})"):
            enrolled(example, tmp_path, seller, place)
    with pytest.raises(InputError, match="^--certificate: got None; expected --certificate and --ca, or neither"):
        main(["enrol", str(tmp_path / "state"), "ann", "--ca", str(example / "certificates" / "authority" / "ca.pem")])
    with pytest.raises(InputError, match="^--network: got cnn; expected --plan alone"):
        main(["enrol", str(tmp_path / "state"), "ann", "--plan", str(example / "plan.json"), "--network", "cnn"])
    assert not registry(tmp_path / "state")


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.full(60, 10), r"got 10 in row 0, and 59 more; expected a whole number 0\.\.9 for each of 60 rows"),
        (np.r_[np.zeros(59, int), -1], r"got -1 in row 59; expected a whole number 0\.\.9"),
        (np.zeros(60), r"got float64 \(60,\); expected integers"),
        (np.zeros(60, bool), r"got bool \(60,\); expected integers"),
        (np.zeros(59, int), r"got int64 \(59,\); expected integers \(60,\)"),
        (np.zeros((60, 1), int), r"got int64 \(60, 1\); expected integers \(60,\)"),
    ],
)
def test_labels_that_are_none_are_refused_at_the_seller(example, tmp_path, y, said):
    file = enrolled(example, tmp_path)
    np.savez(tmp_path / "data.npz", x=np.load(example / "seller-a.npz")["x"], y=y)
    key = str(example / "certificates" / "seller-a" / "seller-a.key")
    with pytest.raises(InputError, match=f"^labels of seller-a: {said}"):
        main(["upload", str(tmp_path / "data.npz"), str(file), "--key", key, "--out", str(tmp_path / "inbox")])
    assert not (tmp_path / "inbox").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classes": 12}, "enrolment of seller-a: got classes 10; expected 12, as the plan states"),
        ({"image": [1, 10, 10]}, r"enrolment of seller-a: got image \(1, 8, 8\); expected \(1, 10, 10\)"),
        ({"seller_rows": 59}, "images of seller-a: got 60 rows; expected at most 59, the plan's cap"),
    ],
)
def test_an_upload_that_the_plan_would_refuse_is_not_written(example, tmp_path, changed, said):
    file = enrolled(example, tmp_path)
    plan = json.loads((example / "plan.json").read_text()) | changed
    (tmp_path / "other.json").write_text(json.dumps(plan))
    key = str(example / "certificates" / "seller-a" / "seller-a.key")
    with pytest.raises(InputError, match=f"^{said}"):
        main([
            "upload", str(example / "seller-a.npz"), str(file), "--key", key, "--plan", str(tmp_path / "other.json"),
            "--out", str(tmp_path / "inbox"),
        ])  # fmt: skip
    assert not (tmp_path / "inbox").exists()
