"""The policy of a ledger, as a file states it."""

from __future__ import annotations

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.release import Policy

# --- a policy from a file


@pytest.mark.parametrize(
    ("content", "policy"),
    [
        ("epsilon: 2\n", Policy(epsilon=2.0)),
        ("epsilon: 0.5  # each\ndelta: 1e-7\nminimum_rows: 50\nplain_values: 0\n", Policy(0.5, 1e-7, 50, 0)),
        ('{"plain_values": 3, "delta": 1.0e-5}', Policy(delta=1e-5, plain_values=3)),
    ],
)
def test_a_policy_from_a_file(tmp_path, content, policy):
    file = tmp_path / "policy.yaml"
    file.write_text(content)
    assert Policy.read(file) == Policy.read(str(file)) == policy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "policy: got policy.yaml with nothing; expected lines `key: number`, of epsilon, delta, minimum_rows"),
        ("# none\n---\n", "policy: got policy.yaml with nothing"),
        ("{}", "policy: got policy.yaml with nothing"),
        ("5", "policy: got policy.yaml with no keys"),
        ("- epsilon\n", "policy: got policy.yaml with no keys"),
        ("epsilon: 1\nsigma: 5\n", "policy: got 'sigma'; expected one of epsilon, delta, minimum_rows, plain_values"),
        ("epsilon: 1\nepsilon: 2\n", "policy.epsilon: got 2, after 1; expected one value"),
        ("epsilon:\n", "policy.epsilon: got nothing; expected a number"),
        ("epsilon: much\n", "policy.epsilon: got much; expected a number"),
        ("epsilon: '2'\n", "policy.epsilon: got '2'; expected a number"),
        ("epsilon: true\n", "policy.epsilon: got true; expected a number"),
        ("epsilon: [1]\n", "policy.epsilon: got a list; expected a number"),
        ("epsilon: {a: 1}\n", "policy.epsilon: got keys; expected a number"),
        ("epsilon: -1\n", "policy.epsilon: got -1.0; expected a number above 0"),
        ("epsilon: .inf\n", "policy.epsilon: got .inf; expected a number"),
        ("epsilon: inf\n", "policy.epsilon: got inf; expected a number above 0 and below inf"),
        ("delta: 1\n", "policy.delta: got 1.0; expected a number above 1e-300 and below 1"),
        ("minimum_rows: 10.5\n", "policy.minimum_rows: got 10.5; expected a whole number"),
        ("plain_values: -1\n", "policy.plain_values: got -1; expected a whole number, 0 or more"),
        ("plain_values: yes\n", "policy.plain_values: got yes; expected a whole number"),
        ("a: b: c\n", "policy: got policy.yaml: .*; expected a YAML file"),
        ("epsilon: 1\n---\nepsilon: 2\n", "policy: got policy.yaml: .*; expected a YAML file"),
        ("[" * 5000, "policy: got policy.yaml: .*; expected a YAML file"),
        ("? [a, b]\n: 1\n", "policy: got .*; expected one of epsilon"),
        (b"\x00\xff\xfe", "policy: got policy.yaml: .*; expected a YAML file"),
        (None, "policy: got policy.yaml: No such file or directory; expected a YAML file that can be read"),
    ],
)
def test_what_is_no_policy_file(tmp_path, content, message):
    file = tmp_path / "policy.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"^{message}"):
        Policy.read(file)


def test_a_folder_is_no_policy_file(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        Policy.read(tmp_path)
