"""Two runs in one folder: the second is refused or kept apart, and the records of one question are those of one run."""

from __future__ import annotations

import json

import pytest
from filelock import FileLock
from processes import APP, Processes, problem, stretched, write_npz

from mpc_appraisal.cli import finished, sweep
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_key, job_settings
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.reporting.record import read

RECORD = '{"method": "influence", "candidate": "a", "value": 1.0}\n'


def job(root, name: str, key: str, settings: str | None = None):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(RECORD)
    finished.finish(folder, key, settings)
    return folder


def test_a_run_at_work_keeps_the_others_out_or_apart_or_waiting(tmp_path):
    folder = tmp_path / "run"
    with finished.alone(folder) as held:
        assert held == folder
        with (
            pytest.raises(InputError, match="hydra.run.dir: got .*run; expected a folder that no other run is at work"),
            finished.alone(folder, wait=False, name="hydra.run.dir"),
        ):
            pass
        with finished.alone(folder, wait=False, apart=True) as second:
            assert second == tmp_path / "run-2"
            with finished.alone(folder, wait=False, apart=True) as third:
                assert third == tmp_path / "run-3"
    with finished.alone(folder, wait=False) as again:
        assert again == folder


def test_records_of_an_earlier_run_are_refused_or_left_where_they_are(tmp_path):
    folder = job(tmp_path, "run", "a" * 16)
    with pytest.raises(InputError, match="hydra.run.dir: got .*run; expected .*overwrite=true, which replaces it"):
        finished.fresh(folder, "hydra.run.dir")
    with finished.alone(folder, wait=False, apart=True) as place:
        assert place == tmp_path / "run-2"
    assert (folder / "records.jsonl").read_text() == RECORD


def test_a_sweep_holds_its_folder_to_the_end(tmp_path):
    other = FileLock(tmp_path / sweep.SWEEP_LOCK)
    with other:
        with pytest.raises(InputError, match="hydra.sweep.dir: got .*; expected a folder that no other sweep"):
            sweep.claim(tmp_path, resume=False, overwrite=False)
        sweep.claim(tmp_path, resume=True, overwrite=False)  # The jobs of a resumed sweep wait for their folders.
    job(tmp_path, "deep/0", "a" * 16)
    with pytest.raises(InputError, match="with records in .*deep/0; expected no records; or resume=true"):
        sweep.claim(tmp_path, resume=False, overwrite=False)
    for switches in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        sweep.claim(tmp_path, **switches)
        with pytest.raises(InputError, match="no other sweep"):
            sweep.claim(tmp_path, resume=False, overwrite=True)
        sweep.end()


def test_the_new_keys_change_no_digest(tmp_path):
    base = ["session=join", "party.data=none.csv"]
    own = [
        f"party.{one}" for one in ("yes_expires=1", f"counterparty_key='{'a' * 64}'", "offer=a", "offers=a", "agreed=a")
    ]
    for more in ("overwrite=true", "quiet=true", *own):
        one, two = compose(base), compose([*base, more])
        assert config_hash(public_part(one)) == config_hash(public_part(two)) and job_key(one) == job_key(two)
    assert not {key for key in public_part(one) if key.startswith(("overwrite", "quiet"))}


def test_a_changed_file_is_the_same_settings_and_another_job(tmp_path):
    path, found = tmp_path / "a.csv", []
    for text in ("1", "2"):
        path.write_text(text)
        cfg = compose([f"party.data={path}"])
        found.append((job_key(cfg), job_settings(cfg)))
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1]
    assert job_settings(compose([f"party.data={path}", "seed=1"])) != found[0][1]


def test_what_a_changed_file_made_untrue_is_replaced_in_its_place_or_put_aside(tmp_path):
    job(tmp_path, "0", "a" * 16, "s" * 16), job(tmp_path, "1", "b" * 16, "t" * 16)
    assert finished.folder_of(tmp_path, 5, "c" * 16, "s" * 16) == "0"  # the same settings, other contents
    assert finished.folder_of(tmp_path, 0, "c" * 16, "u" * 16) == "0-cccccccc"  # other settings go elsewhere
    finished.supersede(tmp_path, "c" * 16, "s" * 16)
    assert [path.parent.name for path in tmp_path.rglob("records.jsonl")] == ["1"]
    assert (tmp_path / "0" / finished.SUPERSEDED).read_text() == RECORD and not (
        tmp_path / "0" / "finished.json"
    ).exists()


def test_real_sweeps_and_runs_in_one_folder(tmp_path):
    """Two sweeps at once; then a single run twice; then a resumed sweep whose file has changed."""
    files = {"train": problem(60, seed=1), "test": problem(40, seed=2), "data": problem(50, seed=3)}
    paths = {key: write_npz(tmp_path / f"{key}.npz", *xy) for key, xy in files.items()}
    common = ["session=plain", "appraisal=influence", "baselines.true_utility=false", "party.preflight=no"]
    common += [f"party.{key}={path}" for key, path in paths.items()]
    several = ["--multirun", f"hydra.sweep.dir={tmp_path / 'S'}", *common, "model.l2=1e-2,2e-2"]
    with Processes(tmp_path) as processes:
        both = [processes.start(name, [*APP, *several], {"HYDRA_FULL_ERROR": "0"}) for name in ("one", "two")]
        single = processes.app("run", *common)
        ended = sorted((each.wait(stretched(120)) for each in both), key=lambda each: each.code)
        assert [each.code for each in ended] == [0, 2], [each.err for each in ended]
        assert "error: hydra.sweep.dir: got " in ended[1].err and "Traceback" not in ended[1].err
        assert "2 of 2 jobs finished" in ended[0].err and single.wait(stretched(120)).code == 0
        kept = (tmp_path / "run" / "run" / "records.jsonl").read_bytes()
        before = {path.parent.name: read(path)[0] for path in (tmp_path / "S").rglob("records.jsonl")}
        write_npz(paths["data"], *problem(50, seed=4))
        again = processes.app("run", *common)
        resumed = processes.start("three", [*APP, *several, "resume=true"], {"HYDRA_FULL_ERROR": "0"})
        refused = again.wait(stretched(120))
        assert refused.code == 2 and "error: hydra.run.dir: got " in refused.err and "overwrite=true" in refused.err
        assert (tmp_path / "run" / "run" / "records.jsonl").read_bytes() == kept
        assert resumed.wait(stretched(120)).code == 0
    after = {path.parent.name: read(path)[0] for path in (tmp_path / "S").rglob("records.jsonl")}
    assert set(after) == set(before) == {"0", "1"}
    for name, record in after.items():
        assert record.config_hash == before[name].config_hash and record.value != before[name].value
        assert json.loads((tmp_path / "S" / name / "finished.json").read_text())["settings"]
