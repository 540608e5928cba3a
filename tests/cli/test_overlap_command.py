"""Bad arguments of `mpc-appraisal overlap` are named before anything is read, sent or charged."""

from __future__ import annotations

import pytest

from mpc_appraisal.cli.commands.overlap import main
from mpc_appraisal.common.errors import InputError

GOOD = {"role": "data_owner", "address": "tcp://127.0.0.1:1", "file": "a.csv", "tls": "certificates"}


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"role": "dealer"}, "role", "one of model_owner, data_owner"),
        ({"role": ""}, "role", "a value, as in role=model_owner"),
        ({"file": None}, "file", "a value, as in file="),
        ({"colour": "red"}, "overlap", "KEY=VALUE, each key once"),
        ({"key": ""}, "key", "a value, or no such key"),
        ({"minimum": "0"}, "minimum", "a whole number, 1 or more"),
        ({"minimum": "1.5"}, "minimum", "a whole number"),
        ({"minimum": "nan"}, "minimum", "a whole number"),
        ({"address": "127.0.0.1:80"}, "address", "tcp://HOST:PORT"),
        ({"transport": "tcp"}, "transport", "in_the_clear=true"),
        ({"transport": "gloo", "in_the_clear": "yes"}, "transport", "one of tls, tcp"),
        ({"in_the_clear": "perhaps", "transport": "tcp"}, "in_the_clear", "true"),
        ({"timeout": "0"}, "timeout", "seconds above 0"),
        ({"timeout": "soon"}, "timeout", "a finite number"),
        ({"role": "model_owner", "approval": "yes"}, "approval", "the data_owner states it"),
        ({"recipe": "nowhere.yaml"}, "recipe", "an existing .yaml file"),
        ({"recipe": "nowhere.yaml", "label": "bought"}, "label", "no label= beside recipe="),
        ({"record": "missing/overlap.jsonl"}, "record", "a folder that is there"),
    ],
)
def test_a_bad_argument_is_named(tmp_path, monkeypatch, changes, name, words):
    monkeypatch.chdir(tmp_path)
    stated = {key: value for key, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(InputError, match=words) as caught:
        main([f"{key}={value}" for key, value in stated.items()])
    assert caught.value.name == name
    assert not list(tmp_path.iterdir())


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(InputError, match="each key once"):
        main([*(f"{key}={value}" for key, value in GOOD.items()), "file=b.csv"])


def test_help_says_what_each_side_is_shown(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    assert "the model owner is shown the count, or that there are fewer than the minimum" in " ".join(out.split())
