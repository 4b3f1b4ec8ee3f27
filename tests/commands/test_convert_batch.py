"""``image_data convert --resume``: what an earlier run has done is not done again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from imagedata_xr.cli import main

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


def test_a_cluster(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        command = ["convert", str(tmp_path / "out"), str(patient), "--scheduler", cluster.scheduler_address, "--json"]
        assert main(command) == 0
    assert results(capsys) == ["written"] * 5
