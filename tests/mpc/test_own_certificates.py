"""Certificates without an authority: what each party makes, what is trusted, and who is let in by that."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES

from mpc_appraisal.cli.commands.certificates import main
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, certified_role, private_bytes, sign
from mpc_appraisal.mpc.net.own_certificates import make_own, trust
from mpc_appraisal.mpc.net.relay.greeting import session_token

SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def others_of(folder: Path, role: str) -> list[Path]:
    return [folder / other / f"{other}.pem" for other in ROLES if other != role]


def named(role: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Folders of three parties that have exchanged certificates, one in the order of the roles and two in the other."""
    folder = tmp_path_factory.mktemp("own")
    for role in ROLES:
        make_own(folder / role, role)
    for role in ROLES:
        found = others_of(folder, role)
        trust(folder / role, found if role == DEALER else found[::-1])
    return folder


def meet(server: CertificateFiles, client: CertificateFiles, expected: str) -> dict[str, object]:
    """The role that each side reads from the other's certificate, or the error that it ends with."""
    ends, found = socket.socketpair(), {}

    def side(name: str, sock: socket.socket, **options) -> None:
        files = server if name == "server" else client
        try:
            with files.context(server=name == "server").wrap_socket(sock, **options) as wrapped:
                found[name] = certified_role(wrapped)
                wrapped.sendall(b".")
                wrapped.recv(1)
        except (OSError, PermissionError) as error:
            found[name] = error
        finally:
            sock.close()

    listening = threading.Thread(target=side, args=("server", ends[0]), kwargs={"server_side": True})
    listening.start()
    side("client", ends[1], server_hostname=expected)
    listening.join(60)
    return found


def test_parties_meet_by_the_certificates_that_they_have_made(three):
    files = {role: CertificateFiles.of(three / role, role) for role in ROLES}
    for server, client in ((MODEL_OWNER, DATA_OWNER), (DATA_OWNER, DEALER), (MODEL_OWNER, DEALER)):
        assert meet(files[server], files[client], server) == {"server": client, "client": server}


def test_the_key_is_private_and_in_no_file_that_is_sent(three):
    for role in ROLES:
        assert (three / role / f"{role}.key").stat().st_mode & 0o777 == 0o600
        for name in (f"{role}.pem", "ca.pem"):
            assert "PRIVATE" not in (three / role / name).read_text()


def stranger(place: Path, three: Path, chain: bytes, key: ec.EllipticCurvePrivateKey) -> CertificateFiles:
    """The files of one that shows `chain` as the dealer's."""
    shutil.copy(three / DEALER / "ca.pem", place / "ca.pem")
    (place / "dealer.pem").write_bytes(chain)
    (place / "dealer.key").write_bytes(private_bytes(key))
    return CertificateFiles(place / "ca.pem", place / "dealer.pem", place / "dealer.key")


def test_an_owner_cannot_sign_a_certificate_for_the_dealer(three, tmp_path):
    signing = serialization.load_pem_private_key((three / DATA_OWNER / "data_owner.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = pem(sign(named(DEALER), key, named(DATA_OWNER), signing, 30, DEALER))
    chain = forged + (three / DATA_OWNER / "data_owner.pem").read_bytes()
    files = stranger(tmp_path, three, chain, key)
    found = meet(files, CertificateFiles.of(three / MODEL_OWNER, MODEL_OWNER), DEALER)
    assert isinstance(found["client"], ssl.SSLCertVerificationError) and "invalid CA" in str(found["client"])


def test_another_key_of_the_same_name_is_not_trusted(three, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    files = stranger(tmp_path, three, pem(sign(named(DEALER), key, named(DEALER), key, 30, DEALER)), key)
    found = meet(files, CertificateFiles.of(three / MODEL_OWNER, MODEL_OWNER), DEALER)
    assert isinstance(found["client"], ssl.SSLCertVerificationError)


def test_all_three_derive_one_token_and_others_with_the_same_buyer_another(three, tmp_path):
    tokens = {session_token(three / role / "ca.pem", "tuesday") for role in ROLES}
    assert len(tokens) == 1
    make_own(tmp_path, DEALER)
    trust(tmp_path, others_of(three, DEALER))  # the same owners with another dealer
    assert session_token(tmp_path / "ca.pem", "tuesday") not in tokens


def test_the_token_does_not_depend_on_the_order_of_the_certificates(three, tmp_path):
    whole = (three / DEALER / "ca.pem").read_text()
    mark = "-----BEGIN CERTIFICATE-----"
    (tmp_path / "ca.pem").write_text("".join(mark + one for one in reversed(whole.split(mark)[1:])))
    assert (tmp_path / "ca.pem").read_text() != whole
    assert session_token(tmp_path / "ca.pem", "") == session_token(three / DEALER / "ca.pem", "")


def test_the_command_says_what_to_send_and_the_fingerprint_of_the_key(three, tmp_path, capsys):
    main([str(tmp_path / "keys"), "--own", DEALER])
    said = capsys.readouterr().out
    certificate = x509.load_pem_x509_certificate((tmp_path / "keys" / "dealer.pem").read_bytes())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificate.public_key().public_bytes(*SPKI))
    assert f"fingerprint: {digest.finalize().hex()} " in said and "keys/dealer.pem (send it" in said
    main([str(tmp_path / "keys"), "--trust", *map(str, others_of(three, DEALER))])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == list(ROLES) and "session.tls=" in lines[3]


def authority(place: Path) -> Path:
    """A certificate for a model owner that may sign others."""
    key, file = ec.generate_private_key(ec.SECP256R1()), place / "authority.pem"
    builder = x509.CertificateBuilder(named(MODEL_OWNER), named(MODEL_OWNER), key.public_key(), 1)
    made = CertificateFiles.of(place.parent / "three" / DEALER, DEALER)
    valid = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    builder = builder.not_valid_before(valid.not_valid_before_utc).not_valid_after(valid.not_valid_after_utc)
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(MODEL_OWNER)]), critical=False)
    file.write_bytes(pem(builder.sign(key, hashes.SHA256())))
    return file


def test_certificates_that_may_not_be_trusted_are_refused(three, tmp_path):
    shutil.copytree(three, tmp_path / "three")
    place = tmp_path / "own"
    make_own(place, DATA_OWNER)
    model_owner, dealer = others_of(three, DATA_OWNER)
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "two.pem").write_bytes(model_owner.read_bytes() + dealer.read_bytes())
    key = serialization.load_pem_private_key((place / "data_owner.key").read_bytes(), None)
    (tmp_path / "same.pem").write_bytes(pem(sign(named(DEALER), key, named(DEALER), key, 30, DEALER)))
    (tmp_path / "issued.pem").write_bytes(pem(sign(named(DEALER), key, named(DATA_OWNER), key, 30, DEALER)))
    (tmp_path / "nobody.pem").write_bytes(pem(sign(named("ann"), key, named("ann"), key, 30, "ann")))
    for others, expected in (
        ((model_owner, tmp_path / "text.pem"), "text.pem, which is none"),
        ((model_owner, tmp_path / "missing.pem"), "missing.pem, which is none"),
        ((model_owner, tmp_path / "two.pem"), "two.pem, which is none"),
        ((model_owner, tmp_path / "issued.pem"), "issued.pem, which is none"),
        ((model_owner, tmp_path / "nobody.pem"), "nobody.pem for ann"),
        ((authority(tmp_path / "own"), dealer), "authority.pem, which could sign certificates of others"),
        ((model_owner, tmp_path / "same.pem"), "one key for two roles"),
        ((model_owner, model_owner), "two certificates for model_owner"),
        ((dealer, place / "data_owner.pem"), "two certificates for data_owner"),
    ):
        with pytest.raises(InputError) as refused:
            trust(place, others)
        assert expected in str(refused.value), others
        assert not (place / "ca.pem").exists()
    trust(place, (model_owner, dealer))
    with pytest.raises(InputError, match="to trust anew, remove it"):
        trust(place, (model_owner, dealer))


def test_a_key_is_never_written_over(tmp_path):
    make_own(tmp_path, DEALER)
    kept = (tmp_path / "dealer.key").read_bytes()
    with pytest.raises(InputError, match="which holds dealer.key"):
        make_own(tmp_path, DEALER)
    assert (tmp_path / "dealer.key").read_bytes() == kept
    with pytest.raises(InputError, match="^--own: got 'seller'"):
        make_own(tmp_path / "other", "seller")
    with pytest.raises(InputError, match="^DIR: got .*with 0 keys"):
        trust(tmp_path / "other", ())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("words", [["--own", "dealer", "--market"], ["--own", "dealer", "--trust", "a.pem", "b.pem"]])
def test_words_that_do_not_fit_together_are_refused(tmp_path, words):
    with pytest.raises(InputError, match="^--(market|trust): got '?--own"):
        main([str(tmp_path / "keys"), *words])
    assert not (tmp_path / "keys").exists()
