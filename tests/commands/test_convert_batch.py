"""``image_data convert --resume``: what an earlier run has done is not done again."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import dask
import pytest

import imagedata_xr as ixr
from image_data.parsers import parser_of
from imagedata_xr.cli import main
from imagedata_xr.lock import locked
from tests.cluster import local_cluster
from tests.generate import write_series


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


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_where_all_fail_the_status_is_that_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resume: list[str]
) -> None:
    """A script that goes on with what was done after a 5 would have nothing."""
    for name in ("a", "b"):
        write_series(tmp_path / "in" / name, series=name, times=2)
    command = [str(tmp_path / "out"), str(tmp_path / "in"), *resume]
    assert main([*command, "--order", "te"]) == 4
    assert "te" in capsys.readouterr().err
    write_series(tmp_path / "in" / "c", series="c", per_time={"EchoTime": [1.0, 2.0]}, times=2)
    assert main([*command, "--order", "te"]) == 5
    capsys.readouterr()


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_an_order_that_is_none_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resume: list[str]
) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / "in" / name, series=name)
    assert main([str(tmp_path / "out"), str(tmp_path / "in"), "--order", "tme", *resume]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("image_data: error: order 'tme'")
    assert not (tmp_path / "out").exists()


def test_what_fails_is_told(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out"), str(patient), "--order", "te", "--resume"]) == 5
    told = capsys.readouterr()
    assert "not converted" in told.err
    assert "written" not in told.err


def test_an_output_that_is_in_the_way_is_named_once(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(out), str(patient), "--resume", "--json"]) == 0
    mine = Path(json.loads(capsys.readouterr().out)["results"][0]["output"])
    assert main(["convert", str(out), str(patient), "--resume", "--of", "nifti"]) == 6
    told = capsys.readouterr().err.splitlines()
    assert [line.count(str(out)) for line in told] == [1] * 5
    assert told[0].startswith(f"image_data: not converted: {mine}, with ")


def test_with_settings_of_one_series(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "out"), str(patient), "--resume", "--serdes", "x"]) == 2
    assert "not with --serdes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("action", parser_of("convert")._actions, ids=lambda action: action.dest)
def test_every_option_is_followed_or_refused(
    action: argparse.Action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    followed = {"order", "input_options", "of", "jobs", "resume", "scheduler", "json", "verbose", "quiet"}
    if not action.option_strings or action.dest in {*followed, "help", argparse.SUPPRESS}:
        return
    words = [] if action.nargs == 0 else [next(iter(action.choices)) if action.choices else "1"]
    for name in action.option_strings:
        assert main(["convert", "out", "in", "--resume", name, *words]) == 2
        told = capsys.readouterr().err
        assert "--resume and --scheduler convert all series alike: not with --" in told
        assert told.split()[-1] in action.option_strings


def test_missing_and_duplicate_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", slices=3, times=2)[-1].unlink()
    shutil.copytree(tmp_path / "in", tmp_path / "in" / "copy")
    command = ["convert", str(tmp_path / "out"), str(tmp_path / "in"), "--of", "nifti", "--order", "time", "--resume"]
    assert main(command) == 4
    assert "Take one of each with --input_options duplicates=first" in capsys.readouterr().err
    command += ["--input-options", "duplicates=first"]
    assert main(command) == 4
    assert "1 of 6 frames are missing" in capsys.readouterr().err
    command += ["--input_options", "missing=fill", "--json"]
    assert main(command) == 0
    assert results(capsys) == ["written"]
    (file,) = (tmp_path / "out").rglob("*.nii.gz")
    assert int(ixr.open_series(file).isnull().all(("row", "col")).sum()) == 1
    assert main(command) == 0
    assert results(capsys) == ["kept"]
    assert main(command[:-3]) == 6
    assert "was made with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("missing=fil", "--input_options missing=fil: it is 'error' or 'fill'"),
        ("duplicates=one", "--input_options duplicates=one: it is 'error', 'first', 'last' or 'stack'"),
        ("duplicates", "NAME=VALUE is wanted"),
        ("rescale=false", "not with --input_options rescale"),
        ("variable=A", "not with --input_options variable"),
    ],
)
def test_options_of_the_reader_that_a_batch_has_not(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    """And before anything is read or made."""
    assert main(["convert", str(tmp_path / "out"), str(patient), "--resume", "--input_options", option]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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
    with local_cluster(n_workers=1, threads_per_worker=2) as cluster:
        command = ["convert", str(tmp_path / "out"), str(patient), "--scheduler", cluster.scheduler_address, "--json"]
        assert main(command) == 0
    assert results(capsys) == ["written"] * 5
