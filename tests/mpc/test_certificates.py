"""Certificate files: what a trial makes, and which folders are refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from processes import DATA_OWNER, DEALER, ROLES

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial
from mpc_appraisal.mpc.net.transport import Transport


def test_a_trial_is_for_a_month_and_its_keys_are_private(trial):
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate((trial / role / f"{role}.pem").read_bytes())
        left = certificate.not_valid_after_utc - datetime.now(timezone.utc)
        assert timedelta(days=29) < left < timedelta(days=31)
        assert (trial / role / f"{role}.key").stat().st_mode & 0o777 == 0o600
        assert CertificateFiles.of(trial, role) == CertificateFiles.of(trial / role, role)
    assert not [path for path in trial.rglob("*") if "ca" in path.stem and path.suffix == ".key"]


def test_a_folder_that_will_not_do_is_named(tmp_path):
    make_trial(tmp_path)
    with pytest.raises(InputError, match="session.tls: got None"):
        CertificateFiles.of(None, DEALER)
    with pytest.raises(InputError, match="without ca.pem"):
        CertificateFiles.of(tmp_path / "nowhere", DEALER)
    (tmp_path / DEALER / "dealer.key").chmod(0o644)
    with pytest.raises(InputError, match="mode 644"):
        CertificateFiles.of(tmp_path, DEALER)
    pretend(tmp_path, DATA_OWNER, DEALER)
    with pytest.raises(InputError, match="a certificate for 'dealer'; expected one for data_owner alone"):
        CertificateFiles.of(tmp_path, DATA_OWNER)
    with pytest.raises(InputError, match="^transport: got 'udp'"):
        Transport("udp")


def pretend(folder: Path, role: str, certified: str) -> CertificateFiles:
    """Replace the certificate and key of `role` by those of another role."""
    place = folder / role
    for end in ("pem", "key"):
        (place / f"{role}.{end}").write_bytes((folder / certified / f"{certified}.{end}").read_bytes())
    return CertificateFiles(place / "ca.pem", place / f"{role}.pem", place / f"{role}.key")
