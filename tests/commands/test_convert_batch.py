"""``image_data convert --resume``: what an earlier run has done is not done again."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import dask
import pytest

from image_data.parsers import parser_of
from imagedata_xr.cli import main
from imagedata_xr.lock import locked

if TYPE_CHECKING:
    from pathlib import Path


def results(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return sorted(result["status"] for result in json.loads(capsys.readouterr().out)["results"])


def test_resume(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["convert", str(out), str(patient), "--of", "nifti", "--resume", "--json"]
    assert main(command) == 0
    assert results(capsys) == ["written"] * 5
    assert main([*command, "--jobs", "2"]) == 0
    assert results(capsys) == ["kept"] * 5
    next(out.rglob("*.nii.gz")).unlink()
    assert main(command) == 0
    assert results(capsys) == ["kept"] * 4 + ["written"]


def test_what_fails_is_told(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out"), str(patient), "--order", "te", "--resume"]) == 5
    told = capsys.readouterr()
    assert "not converted" in told.err
    assert "written" not in told.err


def test_with_settings_of_one_series(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out"), str(patient), "--resume", "--serdes", "x"]) == 2
    assert "not with --serdes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("action", parser_of("convert")._actions, ids=lambda action: action.dest)
def test_every_option_is_followed_or_refused(
    action: argparse.Action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    followed = {"order", "of", "jobs", "resume", "scheduler", "json", "verbose", "quiet"}
    if not action.option_strings or action.dest in {*followed, "help", argparse.SUPPRESS}:
        return
    words = [] if action.nargs == 0 else [next(iter(action.choices)) if action.choices else "1"]
    for name in action.option_strings:
        assert main(["convert", "out", "in", "--resume", name, *words]) == 2
        told = capsys.readouterr().err
        assert "--resume and --scheduler convert all series alike: not with --" in told
        assert told.split()[-1] in action.option_strings


def test_jobs_are_not_of_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out"), str(tmp_path), "--scheduler", "tcp://x:1", "--jobs", "2"]) == 2
    assert "--jobs goes with --resume" in capsys.readouterr().err


def test_where_outputs_cannot_go(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out.zip"), str(patient), "--resume"]) == 2
    assert "out.zip is no folder" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        assert main(["convert", str(tmp_path / "out"), str(patient), "--resume"]) == 6
    assert "error: another conversion is writing to" in capsys.readouterr().err


def test_no_scheduler(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert main(["convert", str(tmp_path / "out"), str(patient), "--scheduler", "tcp://127.0.0.1:1"]) == 7
    assert "error: no scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cluster(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        command = ["convert", str(tmp_path / "out"), str(patient), "--scheduler", cluster.scheduler_address, "--json"]
        assert main(command) == 0
    assert results(capsys) == ["written"] * 5
