"""The commands, run as users type them."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import image_data
import imagedata_xr as ixr
from image_data.dispatch import ALIASES
from image_data.parsers import COMMANDS, parser_of
from imagedata_xr.cli import main
from imagedata_xr.commands.report import guarded
from imagedata_xr.commands.stats import statistics
from imagedata_xr.montage import montage
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    """Return a heap of three series of two patients."""
    write_series(tmp_path / "heap" / "a", times=3, slices=2, series="a", number=1)
    write_series(tmp_path / "heap" / "b", slices=3, series="b", number=2)
    write_series(tmp_path / "heap" / "c", slices=2, patient="P2", study="other", series="c", number=3)
    return tmp_path / "heap"


def interruptible() -> None:
    """Let Ctrl-C and hangups in, also where the tests themselves run in the background, or below nohup."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    found: dict[str, object] = document
    return found


def test_the_round_trip_of_the_manual(patient: Path, tmp_path: Path) -> None:
    source, nifti, back = patient / "dynamic_1", tmp_path / "niftiDir", tmp_path / "dicomResult"
    assert main(["--of", "nifti", "--order", "time", str(nifti), str(source)]) == 0
    assert main(["--of", "dicom", "--template", str(source), "--order", "time", str(back), str(nifti)]) == 0
    settings = ["--sernum", "1004", "--serdes", "Processed data", "--imagetype", "DERIVED,SECONDARY,MAP"]
    assert main([*settings, "--order", "time", str(tmp_path / "third"), str(back)]) == 0
    a, c = ixr.open_series(source, "time"), ixr.open_series(tmp_path / "third", "time")
    assert np.array_equal(a.values, c.values)
    assert c.dicom.geometry_equal(a, tolerance=0.01)
    assert c.attrs["PatientID"] == a.attrs["PatientID"]
    assert c.attrs["SeriesDescription"] == "Processed data"
    assert c.attrs["ImageType"][:3] == ["DERIVED", "SECONDARY", "MAP"]


def test_order_is_obeyed(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=3)
    assert main(["--order", "b", str(tmp_path / "out"), str(tmp_path / "in")]) == 4
    assert not (tmp_path / "out").exists()


def test_order_names_the_dim_of_an_element(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.nii")
    order = "repetition=TemporalPositionIdentifier"
    assert main(["--order", order, "--of", "nifti", "--json", out, str(patient / "dynamic_1")]) == 0
    assert told(capsys)["written"][0]["dims"]["repetition"] == 6  # type: ignore[index]
    assert main(["--order", order, str(tmp_path / "again"), out]) == 4
    assert "name its dims" in capsys.readouterr().err


def test_whole_cohorts_and_several_formats(heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "dry"), str(heap), "--of", "nifti", "--dry-run", "--json"]) == 0
    assert [entry["files"] for entry in told(capsys)["written"]] == [None] * 3  # type: ignore[attr-defined]
    assert not (tmp_path / "dry").exists()
    assert main([str(tmp_path / "all" / "%p"), str(heap), "--of", "nifti", "--of", "dicom", "--jobs", "2"]) == 0
    assert len(list((tmp_path / "all" / "nifti").rglob("*.nii.gz"))) == 3
    assert len(list((tmp_path / "all" / "dicom").rglob("*.dcm"))) == 11
    assert len(ixr.scan(tmp_path / "all" / "dicom")) == 3
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["dicom", "nifti"]
    capsys.readouterr()
    assert main([str(tmp_path / "all" / "%p"), str(heap), "--of", "nifti", "--of", "dicom", "--jobs", "2"]) == 6
    error = capsys.readouterr().err
    assert error.count("not converted") == error.count("with --force") == 6


def test_partly_done(heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in list((heap / "b").iterdir())[1:2]:
        file.unlink()
    ds = pydicom.dcmread(next((heap / "a").iterdir()))
    ds.save_as(heap / "a" / "again", enforce_file_format=True)
    next(f for f in (heap / "a").iterdir() if f.name != "again" and pydicom.dcmread(f).InstanceNumber == 4).unlink()
    status = main([str(tmp_path / "out"), str(heap), "--json"])
    captured = capsys.readouterr()
    assert status == 5
    assert "not converted" in captured.err
    document = json.loads(captured.out)
    assert len(document["written"]) == 2
    assert len(document["failed"]) == 1
    assert main([str(tmp_path / "out2"), str(heap), "--on-error", "raise"]) in (1, 4)
    assert not (tmp_path / "out2").exists()


def test_a_series_whose_values_the_type_does_not_hold_stops_no_other(
    heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = ixr.open_series(heap / "b").astype("int32") + 40000
    large.assign_attrs(SeriesNumber=4).dicom.write(heap / "large")
    options = ["--of", "nifti", "--dtype", "int16", "--json"]
    for jobs in ("1", "2"):
        assert main([str(tmp_path / jobs), str(heap), *options, "--jobs", jobs]) == 5
        shown = capsys.readouterr()
        document = json.loads(shown.out)
        assert len(document["written"]) == len(list((tmp_path / jobs).rglob("*.nii.gz"))) == 3
        assert "int16 holds -32768 to 32767" in document["failed"][0]["reason"]
        assert "not converted: " in shown.err
    assert main([str(tmp_path / "dry"), str(heap), *options, "--dry-run"]) == 5
    assert len(told(capsys)["failed"]) == 1  # type: ignore[arg-type]
    assert main([str(tmp_path / "none"), str(heap), *options, "--on-error", "raise"]) == 6
    assert main([str(tmp_path / "none"), str(heap), "--dtype", "text"]) == 2, "wrong of all series alike"
    assert not (tmp_path / "none" / "4").exists()


def test_stats_with_a_mask_that_is_not_at_the_place_of_every_series(
    heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ixr.open_series(heap / "b") > 0).astype("uint8").dicom.write(tmp_path / "mask")
    assert main(["stats", str(heap), "--mask", str(tmp_path / "mask"), "--json"]) == 5
    shown = capsys.readouterr()
    assert [row["SeriesNumber"] for row in json.loads(shown.out)["series"]] == [2]
    assert shown.err.count("the mask is not at the place of the image") == 2
    shutil.rmtree(heap / "b")
    assert main(["stats", str(heap), "--mask", str(tmp_path / "mask")]) == 4, "of none"


def test_info_and_list(heap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(heap), "--json"]) == 0
    series = told(capsys)["series"]
    assert [entry["frames"] for entry in series] == [6, 3, 2]  # type: ignore[attr-defined]
    assert main(["info", str(heap)]) == 0
    shown = capsys.readouterr().out
    assert "time" in shown
    assert "P1" not in shown, "who it is was not asked"
    assert main(["list", "-r", str(heap)]) == 0
    assert capsys.readouterr().out.count(str(heap)) == 11
    assert main(["info", "./info"]) == 3


def test_stats_of_every_series(heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(heap), "--json"]) == 0
    rows = told(capsys)["series"]
    assert len(rows) == 3  # type: ignore[arg-type]
    a = ixr.open_series(heap / "a", "time")
    assert main(["stats", str(heap / "a"), "--json"]) == 0
    (row,) = told(capsys)["series"]  # type: ignore[misc]
    assert (row["min"], row["max"], row["count"]) == (a.min(), a.max(), a.size)
    assert row["mean"] == pytest.approx(float(a.mean(dtype=float)))
    assert row["median"] == np.median(a.values)
    ixr.write((a[0] > 20), tmp_path / "mask.nii")
    assert main(["stats", str(heap / "a"), "--mask", str(tmp_path / "mask.nii"), "--json"]) == 0
    (row,) = told(capsys)["series"]  # type: ignore[misc]
    inside = a.values[:, a[0].values > 20]
    assert row["count"] == inside.size
    assert row["std"] == pytest.approx(inside.std())
    ixr.write(a[0].astype("f4").where(a[0] > 20), tmp_path / "nan.nii")
    assert main(["stats", str(heap / "a"), "--mask", str(tmp_path / "nan.nii"), "--json"]) == 0
    assert told(capsys)["series"] == [row], "NaN is outside"
    assert main(["stats", str(heap / "b"), "--mask", str(tmp_path / "mask.nii")]) == 4
    assert main(["stats", str(heap / "a"), "--bash"]) == 0
    assert f"max={int(a.max())}" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("largest", [90, 3e4, 3e6])
def test_statistics_are_those_of_numpy(dtype: str, largest: float) -> None:
    limits = (0, 255) if dtype == "u1" else (-32768, 32767) if dtype == "i2" else (0, 65535) if dtype == "u2" else None
    values = np.random.default_rng(1).normal(size=(2, 7, 5)) * largest
    values = np.abs(values) if dtype[0] == "u" else values
    values = (values if limits is None else values.clip(*limits)).astype(dtype)
    for part in (values, values[:1, :3, :2], values[:1, :1, :3]):
        found = statistics(xr.DataArray(part, dims=("slice", "row", "col")))
        wanted = part.min(), part.max(), part.mean(dtype=float), part.std(dtype=float), np.median(part), part.size
        assert list(found.values()) == pytest.approx([float(value) for value in wanted])


def test_calc_does_not_wrap(tmp_path: Path) -> None:
    def values(t: int, z: int) -> np.ndarray:
        return np.full((8, 6), 900 + z)

    write_series(tmp_path / "in", slices=2, values=values)
    given = str(tmp_path / "in")
    for name, text, wanted in [
        ("a", "a * 100", 90_000),
        ("b", "a - 1000", -100),
        ("c", "a + 40000", 40_900),
        ("d", "a ** 3", 900**3),
        ("e", "2 ** (a - 880)", 2**20),
        ("f", "a * a * a * a * a * a * a", 900**7),
        ("g", "-(a>0)", -1),
        ("j", " -a", -900),
        ("h", "where(a>0,0,a)+(a>1)+(a>2)", 2),
        ("i", "where(a, 7, a)", 7),
    ]:
        for suffix in ("", ".nii"):
            assert main(["calc", str(tmp_path / (name + suffix)), text, given]) == 0
            image = ixr.open_series(tmp_path / (name + suffix))
            assert float(image[0].mean()) == pytest.approx(wanted, rel=1e-5)
    assert ixr.open_series(tmp_path / "b.nii").dtype == np.int16
    assert main(["calc", str(tmp_path / "same"), "a", given, "--keep-uid"]) == 0


def test_calc_of_colours(shared_data: Path, tmp_path: Path) -> None:
    given = str(shared_data / "rgb_volume_j2k" / "dicom")
    image = ixr.open_series(given)
    for name, text, wanted in [("a", "a", image), ("b", "255 - a", 255 - image), ("c", "a // 2", image // 2)]:
        assert main(["calc", str(tmp_path / name), text, given]) == 0
        np.testing.assert_array_equal(ixr.open_series(tmp_path / name), wanted)


def test_calc(tmp_path: Path, patient: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(patient / "dynamic_1"), str(patient / "dynamic_2")
    assert main(["calc", str(tmp_path / "mean"), "(a + b) / 2", a, b, "--order", "time"]) == 0
    found = ixr.open_series(tmp_path / "mean", "time")
    wanted = (ixr.open_series(a, "time") + ixr.open_series(b, "time")) / 2
    assert np.abs(found.values - wanted.values).max() <= 0.51 * 0.02
    assert main(["calc", str(tmp_path / "mean"), "a", a]) == 6, "it is there already"
    for expression in ("__import__('os').system('id')", "a.values", "c + 1", "a +", "2 + 2", "a&1.5"):
        assert main(["calc", str(tmp_path / "bad"), expression, a, "--order", "time"]) == 2
    capsys.readouterr()
    assert main(["calc", str(tmp_path / "bad"), "(a + a) / 2", a, b, "--order", "time"]) == 2
    assert f"does not use b ({b})" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()
    assert main(["calc", str(tmp_path / "m.nii"), 'mean(a, "time") > 100', a, "--order", "time"]) == 0
    assert set(np.unique(ixr.open_series(tmp_path / "m.nii").values)) <= {0, 1}
    capsys.readouterr()


def test_tags_shows_control_characters_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", slices=2, mutate=lambda ds, *_: setattr(ds, "ImageComments", "\x1b[2Jevil"))
    assert main(["tags", str(tmp_path / "in")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "Modality" in shown
    assert main(["tags", "-k", "InstanceNumber,Modality", str(tmp_path / "in")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["tags", "--json", "-k", "InstanceNumber", str(tmp_path / "in")]) == 0
    assert sorted(entry["InstanceNumber"] for entry in told(capsys)["files"]) == ["1", "2"]  # type: ignore[attr-defined]
    assert main(["tags", "-k", "NoSuchThing", str(tmp_path / "in")]) == 2
    assert "may be meant" not in capsys.readouterr().err
    assert main(["tags", "-k", "Modality,EchoTimes", str(tmp_path / "in")]) == 2
    assert "'EchoTime' may be meant" in capsys.readouterr().err


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_tags_shows_private_values_that_are_not_of_their_vr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], syntax: pydicom.uid.UID
) -> None:
    def mutate(ds: pydicom.Dataset, *_: int) -> None:
        ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        ds.add_new(0x00191028, "UN", b"abcde ")  # of eight bytes, as pydicom knows

    write_series(tmp_path / "in", slices=1, mutate=mutate, transfer_syntax=syntax)
    assert main(["tags", str(tmp_path / "in")]) == 0
    assert "b'abcde '" in capsys.readouterr().out
    assert main(["tags", "--json", str(tmp_path / "in")]) == 0
    [file] = told(capsys)["files"]  # type: ignore[misc]
    assert file["elements"]["00191028"] == {"vr": "UN", "InlineBinary": "YWJjZGUg"}
    assert main(["tags", "-k", "00191028", "--json", str(tmp_path / "in")]) == 0


def test_tags_shows_public_values_of_a_wrong_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They ended in pages of pydicom's errors; of a sequence that is cut short nothing was seen."""

    def mutate(ds: pydicom.Dataset, *_: int) -> None:
        item = pydicom.Dataset()
        item.add_new("DiffusionBValue", "OB", b"abcde ")
        item.add_new("ReferencedSeriesSequence", "OB", b"\xfe\xff\x00\xe0\x20\0\0\0fghi")
        ds.ReferencedImageSequence = [item]

    write_series(tmp_path / "in", slices=1, mutate=mutate, transfer_syntax=ImplicitVRLittleEndian)
    assert main(["tags", str(tmp_path / "in")]) == 0
    out = capsys.readouterr().out
    assert "b'abcde '" in out
    assert "fghi" in out
    assert main(["tags", "--json", str(tmp_path / "in")]) == 0
    [file] = told(capsys)["files"]  # type: ignore[misc]
    [item] = file["elements"]["00081140"]["Value"]
    assert item["00189087"] == {"vr": "UN", "InlineBinary": "YWJjZGUg"}


def test_tags_of_objects_without_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def report(dataset: pydicom.Dataset, *_: int) -> pydicom.Dataset:
        for name in ("PixelData", "Rows", "Columns"):
            delattr(dataset, name)
        item = pydicom.Dataset()
        item.TextValue = "all is well"
        dataset.ContentSequence = [item]
        dataset.Modality = "SR"
        return dataset

    write_series(tmp_path / "in" / "images", slices=2)
    write_series(tmp_path / "in" / "sr", slices=2, series="sr", sop_class=BasicTextSRStorage, mutate=report)
    (tmp_path / "in" / "note.txt").write_text("no DICOM")
    for source, options, count in (("in", [], 2), ("in", ["--all"], 4), ("in/sr", [], 1)):
        assert main(["tags", str(tmp_path / source), *options]) == 0
        shown = capsys.readouterr().out
        assert shown.count("# /") == count
        assert "all is well" in shown
        assert main(["tags", str(tmp_path / source), *options, "--json"]) == 0
        files = told(capsys)["files"]
        assert len(files) == count  # type: ignore[arg-type]
        assert files[-1]["elements"]["0040A730"]["Value"][0]["0040A160"]["Value"] == ["all is well"]  # type: ignore[index]
    assert main(["tags", "-k", "Modality", "--json", str(tmp_path / "in")]) == 0
    assert [file["Modality"] for file in told(capsys)["files"]] == ["MR", "MR", "SR", "SR"]  # type: ignore[attr-defined]
    assert main(["tags", str(tmp_path / "in" / "note.txt")]) == 3


@pytest.fixture
def with_damage(tmp_path: Path) -> Path:
    """Return a folder with a series of two files, and two files that are damaged."""
    files = write_series(tmp_path / "damage", slices=2)
    whole = files[0].read_bytes()
    (tmp_path / "damage" / "short").write_bytes(whole[:-20])
    (tmp_path / "damage" / "head").write_bytes(whole[:700])
    return tmp_path / "damage"


@pytest.mark.parametrize("command", ["info", "list", "list -r", "tags", "tags --all", "tags -k Modality"])
def test_damaged_files_are_named_and_the_others_told(
    with_damage: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = command.split()
    assert main([*words, str(with_damage)]) == 5
    shown = capsys.readouterr()
    assert shown.err.count("not read: ") == 2
    assert "errors=" not in shown.err
    assert len(shown.out.splitlines()) > 1
    assert main([*words, str(with_damage), "--json"]) == 5
    damaged = told(capsys)["damaged"]
    assert sorted(Path(entry["file"]).name for entry in damaged) == ["head", "short"]  # type: ignore[attr-defined]
    assert main([*words, str(with_damage / "short"), "--json"]) == 3
    assert len(told(capsys)["damaged"]) == 1  # type: ignore[arg-type]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def cut_before_its_series(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:400])


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def unreadable(file: Path) -> None:
    file.unlink()
    file.symlink_to("gone")


@pytest.mark.parametrize("damage", [cut_short, cut_before_its_series, zeros, unreadable])
def test_a_series_with_a_damaged_file_is_not_done_and_the_others_are(
    heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    """It is the last slice of its stack: what is left looks whole."""
    file = max((heap / "b").iterdir(), key=lambda file: pydicom.dcmread(file).InstanceNumber)
    damage(file)
    assert main([str(tmp_path / "out"), str(heap), "--json"]) == 5
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert [entry["dims"]["slice"] for entry in document["written"]] == [2, 2]
    assert [entry["file"] for entry in document["damaged"]] == [str(file)]
    assert [entry["series"] for entry in document["failed"]] == ["series '2 b'"]
    assert f"not read: {file}: " in shown.err
    (line,) = [line for line in shown.err.splitlines() if "not read: " in line]
    assert line.count(str(file)) == 1
    assert all(str(file) not in entry["reason"] for entry in document["damaged"])
    assert f"not converted: series '2 b': {file}" in shown.err
    assert len(list(tmp_path.glob("out/*/*"))) == 2
    assert not list(tmp_path.glob("out/**/*2_b"))
    assert main([str(tmp_path / "batch"), str(heap), "--resume", "--json"]) == 5
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "not read: " in line]
    assert line.startswith(f"image_data: not read: {file}")
    assert line.count(str(file)) == 1
    results = json.loads(shown.out)["results"]
    assert [result["status"] for result in results] == ["failed", "written", "failed", "written"]
    assert not (tmp_path / "batch" / "2_b").exists()
    assert main(["stats", str(heap), "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert [row["SeriesNumber"] for row in document["series"]] == [1, 3]
    assert [len(document["failed"]), len(document["damaged"])] == [1, 1]
    assert main([str(tmp_path / "strict"), str(heap), "--on-error", "raise"]) != 0
    assert not (tmp_path / "strict").exists()


def test_series_that_are_chosen_beside_a_damaged_file(
    heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short(max((heap / "b").iterdir()))
    assert main([str(tmp_path / "c"), str(heap), "--series", "3"]) == 5
    assert len(list((tmp_path / "c").iterdir())) == 2
    assert "not read" in capsys.readouterr().err
    for number, options in enumerate((["--series", "2"], ["--merge"], ["--series", "2", "--merge"])):
        assert main([str(tmp_path / str(number)), str(heap), *options]) == 3
        assert "is cut short" in capsys.readouterr().err
        assert not (tmp_path / str(number)).exists()


def test_a_damaged_template_is_named(heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (template,) = write_series(tmp_path / "template", slices=1)
    cut_short(template)
    for source in (heap / "a", heap):
        assert main([str(tmp_path / "out"), str(source), "--template", str(template), "--series", "1"]) == 3
        assert f"error: {template} is cut short" in capsys.readouterr().err
    assert main([str(tmp_path / "out"), str(heap / "a"), "--template", str(template)]) == 3
    assert f"error: {template} is cut short" in capsys.readouterr().err


def test_a_header_that_cannot_be_stops_no_other_series(
    heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skewed = {"ImageOrientationPatient": [1, 0, 0.4, 0, 1, 0]}
    write_series(tmp_path / "heap" / "d", slices=2, series="d", number=4, tags=skewed)
    assert main([str(tmp_path / "alone"), str(heap / "d")]) == 4
    assert "has length 1.077" in capsys.readouterr().err
    assert main([str(tmp_path / "out"), str(heap), "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert [len(document["written"]), len(document["failed"])] == [3, 1]
    with pytest.raises(ixr.errors.MixedSeriesError, match=r"(?s)4 series are there.*has length 1\.077.*series="):
        ixr.open_series(heap)


def test_a_damaged_file_among_all_series_may_be_of_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        files = write_series(tmp_path / "flat", slices=2, series=name)
    zeros(files[0])
    for words in ([str(tmp_path / "out")], ["stats"]):
        assert main([*words, str(tmp_path / "flat")]) == 3
        assert capsys.readouterr().err.count("may be of this series") == 2
    assert not (tmp_path / "out").exists()


def test_stats_of_pixels_that_cannot_be_decoded(heap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Headers of compressed files may be whole where the pixels are not."""
    file = next((heap / "b").iterdir())
    dataset = pydicom.dcmread(file)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.PixelData = dataset.PixelData[:80] + bytes(len(dataset.PixelData) - 88) + dataset.PixelData[-8:]
    dataset.save_as(file)
    assert main(["stats", str(heap), "--json"]) == 5
    shown = capsys.readouterr()
    assert [row["SeriesNumber"] for row in json.loads(shown.out)["series"]] == [1, 3]
    assert str(file) in shown.err


def test_hints_are_of_what_commands_have(with_damage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(with_damage.parent / "out"), str(with_damage)]) == 3
    shown = capsys.readouterr().err
    assert "Get it again, or move it away" in shown
    assert "--on-error" not in shown


def test_json_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mutate(ds: pydicom.Dataset, *_: int) -> None:
        ds.add_new("DiffusionBValue", "FD", [float("nan"), 1.0])
        inner = pydicom.Dataset()
        for some in (ds, inner):
            some[0x00180050] = RawDataElement(Tag(0x00180050), "DS", 4, b"x.0 ", 0, False, True)
        ds.ReferencedImageSequence = [inner]

    def strict(name: str) -> None:
        msg = f"{name} is no JSON"
        raise AssertionError(msg)

    write_series(tmp_path / "in", slices=1, mutate=mutate)
    assert main(["tags", "--json", str(tmp_path / "in")]) == 0
    (file,) = json.loads(capsys.readouterr().out, parse_constant=strict)["files"]
    assert file["elements"]["00189087"] == {"vr": "FD", "Value": [None, 1.0]}
    assert file["elements"]["00180050"] == {"vr": "DS", "Value": ["x.0"]}
    assert file["elements"]["00081140"]["Value"] == [{"00180050": {"vr": "DS", "Value": ["x.0"]}}]
    image = ixr.open_series(tmp_path / "in")
    ixr.write(image.astype("f4") * np.nan, tmp_path / "nan.nii")
    assert main(["stats", "--json", str(tmp_path / "nan.nii")]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=strict)["series"]
    assert (row["mean"], row["count"]) == (None, 0)


def test_tags_as_a_table_for_spreadsheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", slices=2, series='T1, "fast"', times=1)
    assert main(["tags", "-k", "SeriesDescription,ImageType,EchoTime", "--csv", str(tmp_path / "in")]) == 0
    names, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert names == ["file", "SeriesDescription", "ImageType", "EchoTime"]
    for row, path in zip(rows, sorted((tmp_path / "in").iterdir()), strict=True):
        header = pydicom.dcmread(path)
        assert row[:3] == [str(path), 'T1, "fast"', str(header.ImageType)]
    for wrong in (["--csv"], ["--csv", "--json", "-k", "EchoTime"]):
        assert main(["tags", str(tmp_path / "in"), *wrong]) == 2
        assert "name them with -k" in capsys.readouterr().err


def test_tags_of_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", slices=1)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    assert main(["tags", "-k", "Modality", "--json", archive]) == 0
    assert [entry["Modality"] for entry in told(capsys)["files"]] == ["MR"]  # type: ignore[attr-defined]


def test_timeline(heap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timeline", str(heap / "a")]) == 0
    assert capsys.readouterr().out == "0 2.5 5\n"
    assert main(["timeline", "-1", str(heap / "a")]) == 0
    assert capsys.readouterr().out == "0\n2.5\n5\n"
    assert main(["timeline", str(heap / "b"), "--json"]) == 0, "one volume has one time"
    write_series(heap / "long", times=[0, 36398.15], series="long")
    capsys.readouterr()
    assert main(["timeline", str(heap / "long")]) == 0
    assert capsys.readouterr().out == "0 36398.15\n"


def test_orders_are_proposed_as_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell takes them; what takes a function has no option."""

    def private(ds: pydicom.Dataset, t: int, _z: int) -> None:
        ds.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x29, "CS", "ABA"[t])
        ds.ScanOptions = "XXY"[t]

    def some(ds: pydicom.Dataset, t: int, _z: int) -> None:
        if t:
            ds.LossyImageCompression = "01"

    write_series(tmp_path / "private", times=[0] * 3, slices=2, mutate=private)
    write_series(tmp_path / "some", times=[0, 0], slices=2, mutate=some)
    write_series(tmp_path / "nothing", times=[0, 0], slices=2)
    for name, said in (
        ("private", "Use --order 'ScanOptions,(2005,1029)' with --input_options missing=fill, name other"),
        ("some", "\nName the dims with --order, or say what to do with --input_options missing=fill or"),
        (
            "nothing",
            "\n--order time numbers them in the order of InstanceNumber; with --order none and --input_options",
        ),
    ):
        assert main([str(tmp_path / "out"), str(tmp_path / name)]) == 4
        told = capsys.readouterr().err
        assert said in told
        assert "lambda" not in told
        assert "function" not in told
    proposed = ["--order", "ScanOptions,(2005,1029)", "--input_options", "missing=fill"]
    assert main([str(tmp_path / "out"), str(tmp_path / "private"), *proposed]) == 0


def test_timeline_of_several_echoes(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(shared_data / "si_te_time_5d" / "dicom")
    assert main(["timeline", source]) == 4
    assert "Use --order time,te" in capsys.readouterr().err
    assert main(["timeline", "--order", "time,te", source]) == 0
    assert len(capsys.readouterr().out.split()) == 3


def test_a_package_that_is_not_installed_is_not_unexpected(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "h5netcdf", None)  # as Python has it of what is not to be imported
    assert main(["--of", "netcdf", str(tmp_path / "a.nc"), str(patient / "ct")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith('image_data: error: netcdf needs h5netcdf: pip install "imagedata_xr[storage]"')
    assert main(["montage", str(tmp_path / "a.png"), str(patient / "ct"), "--volume", "1"]) == 2
    assert "--volume 1: the image has 1 volumes" in capsys.readouterr().err


def test_montage(patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.png"
    assert main(["montage", str(out), str(patient / "ct"), "--columns", "4", "--window", "40,400"]) == 0
    ct = ixr.open_series(patient / "ct")
    with Image.open(out) as picture:
        drawn = np.asarray(picture)
    height, width = ct.sizes["row"], ct.sizes["col"]
    assert drawn.shape == (3 * height, 4 * width)
    expected = np.clip((ct[5].values - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(drawn[height : 2 * height, width : 2 * width] - expected).max() <= 0.51
    assert main(["montage", str(out), str(patient / "ct")]) == 6
    for given in (["--columns", "-2"], ["--columns", "0"], ["--window", "40,0"], ["--window", "-600,-5"]):
        assert main(["montage", str(tmp_path / "none.png"), str(patient / "ct"), *given]) == 2
    lung = tmp_path / "lung.png"
    assert main(["montage", str(lung), str(patient / "ct"), "--window", "-600,1500"]) == 0
    assert np.array_equal(np.asarray(Image.open(lung)), montage(ct, window=(-600, 1500)))
    last, image = tmp_path / "last.png", ixr.open_series(patient / "dynamic_1", "time")
    given = ["montage", str(last), str(patient / "dynamic_1"), "--order", "time"]
    assert main([*given, "--volume", str(image.sizes["time"])]) == 2
    assert main([*given, "--volume", "-1"]) == 0
    assert np.array_equal(np.asarray(Image.open(last)), montage(image[-1]))
    assert main(["montage", str(tmp_path / "m.txt"), str(patient / "ct")]) == 2


def test_sort_loses_no_file(heap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "twin", times=3, slices=2, series="a", number=1)
    count = sum(1 for f in [*heap.rglob("*"), *(tmp_path / "twin").rglob("*")] if f.is_file())
    assert main(["sort", str(tmp_path / "out"), str(heap), str(tmp_path / "twin"), "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main(["sort", str(tmp_path / "out"), str(heap), str(tmp_path / "twin"), "--json"]) == 0
    document = told(capsys)
    assert document["files"] == count == 17
    assert document["renamed"] == 6
    assert sum(1 for f in (tmp_path / "out").rglob("*") if f.is_file()) == 17
    assert main(["sort", str(tmp_path / "out"), str(heap), str(tmp_path / "twin")]) == 0
    assert "17 were there already" in capsys.readouterr().out
    assert sum(1 for f in (tmp_path / "out").rglob("*") if f.is_file()) == 17
    evil = tmp_path / "evil"
    write_series(evil, mutate=lambda ds, *_: setattr(ds, "PatientID", "../../../escaped"))
    assert main(["sort", str(tmp_path / "out2"), str(evil)]) == 0
    assert not (tmp_path / "escaped").exists()
    assert sum(1 for f in (tmp_path / "out2").rglob("*") if f.is_file()) == 4


@pytest.mark.parametrize(
    ("word", "command"),
    [("inof", "info"), ("Info", "info"), ("lst", "list"), ("tag", "tags"), ("vaildate", "validate"), ("sned", "send")],
)
def test_a_mistyped_command_is_no_output(
    heap: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word, str(heap)]) == 2
    assert f"did you mean {command!r}?" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["heap"], "nothing was copied"


@pytest.mark.parametrize("word", ["./inof", "out", "sorted", "converted", "result", "info2", "stats.nii", "there/tag"])
def test_names_of_outputs_are_no_commands(
    heap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word, str(heap / "b")]) == 0
    assert (tmp_path / word).exists()


def test_a_folder_that_is_there_is_no_command(heap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stat").mkdir()
    assert main(["stat", str(heap / "b")]) == 0
    assert len(list((tmp_path / "stat").iterdir())) == 3


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_help_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "image_data" in shown
    assert "Exit status" in shown


@pytest.mark.parametrize("name", list(ALIASES))
def test_the_names_that_imagedata_had(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        image_data.main(["--help"], program=name)
    shown = capsys.readouterr().out
    assert f"usage: {name}" in shown
    assert f"  {name} " in shown
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    assert f'{name} = "image_data:alias"' in pyproject


def test_options_have_both_spellings() -> None:
    parser = parser_of("convert")
    for spelling in ("--input_echo", "--input-echo"):
        assert parser.parse_args(["out", "in", spelling, "2"]).input_echo == "2"


def test_show_saves_a_page(patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "ct.html"
    assert main(["show", "--save", str(page), "--window", "40,400", str(patient / "ct")]) == 0
    assert page.stat().st_size > 1_000_000
    megabytes = page.stat().st_size / 1e6
    assert capsys.readouterr().out == f"{page}: 1 series, {megabytes:.1f} MB\n"
    assert main(["show", "--save", str(page), str(patient / "ct")]) == 6
    assert main(["show", "--save", str(page), "--window", "wide", "--force", str(patient / "ct")]) == 2


def test_show_serves_until_it_is_interrupted(patient: Path) -> None:
    command = [sys.executable, "-m", "image_data", "show", "--no-browser", str(patient / "ct")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
    assert process.stderr is not None
    url = process.stderr.readline().strip()
    with urllib.request.urlopen(url) as page:
        assert page.status == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, image_data\ntry: image_data.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numpy", "xarray", "pydicom", "imagedata_xr", "dask", "pandas", "SimpleITK", "nibabel"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (signal.SIGINT, "image_data: interrupted\n"),
        (signal.SIGTERM, "image_data: ended by SIGTERM\n"),
        (signal.SIGHUP, "image_data: ended by SIGHUP\n"),
    ],
)
def test_interrupted(tmp_path: Path, sent: signal.Signals, said: str) -> None:
    write_series(tmp_path / "in", times=60, slices=20)
    command = [sys.executable, "-m", "image_data", str(tmp_path / "out"), str(tmp_path / "in"), "--order", "time"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".out*")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + sent, said)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "module"),
    [
        *((signal.SIGINT, name) for name in ("argparse", "image_data.parsers", "imagedata_xr", "xarray")),
        (signal.SIGTERM, "xarray"),
    ],
)
def test_interrupted_while_it_imports(sent: signal.Signals, module: str) -> None:
    code = f"""
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(sent)})
sys.meta_path.insert(0, Interrupting())
sys.argv = ["image_data", "info", "."]
from image_data import main
sys.exit(main())
"""
    # As the installed program begins; without the site, which may have imported some of them.
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=interruptible)
    # From within an import Python ends by the signal itself; a shell tells both as 128 and its number.
    assert done.returncode in (128 + sent, -sent)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("image_data: ")


@pytest.mark.slow
def test_only_the_program_itself_takes_signals(heap: Path) -> None:
    code = """
import signal, sys
from imagedata_xr.cli import main
mine = lambda *_: None
signal.signal(signal.SIGHUP, mine)
main(["info", sys.argv[1], "--quiet"])
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGHUP) is mine)
sys.argv[1:] = ["info", sys.argv[1], "--quiet"]
main()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGHUP) is mine)
"""
    done = subprocess.run([sys.executable, "-c", code, str(heap)], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith(("True", "False"))] == [
        "True True",
        "False True",
    ]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs limits of processes")
def test_disk_full(tmp_path: Path) -> None:
    """A file may not exceed 100 kB in the child, as on a full disk."""
    write_series(tmp_path / "in", slices=2, rows=512, cols=512)
    code = (
        "import resource, signal, sys, image_data; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.exit(image_data.main(sys.argv[1:]))"
    )
    for format, name in (("dicom", "out"), ("mat", "out"), ("nifti", "out.nii")):
        arguments = ["--of", format, str(tmp_path / name), str(tmp_path / "in")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 6, done.stderr
        assert f"{tmp_path / name}" in done.stderr
        assert "Traceback" not in done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_reader_that_has_enough(patient: Path) -> None:
    command = f"{sys.executable} -m image_data tags --all {patient} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("#")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(heap: Path, tmp_path: Path, closed: str) -> None:
    for out, options in (("a", ""), ("b", "--resume"), ("c", "--resume --of nope")):
        command = f"{sys.executable} -m image_data convert {options} {tmp_path / out} {heap} {closed}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == (2 if "nope" in options else 0), done.stderr
        assert (done.stdout == "") == (">&-" in closed.split() or "nope" in options)
        assert done.stderr == "" or "nope" in options
    assert len([path for path in tmp_path.glob("[ab]/**/*.dcm") if path.is_file()]) == 22


def test_an_image_that_simpleitk_wrote(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(tmp_path / "a.mha"))
    assert main([str(tmp_path / "out"), str(tmp_path / "a.mha")]) == 6, "nothing says whose it is"
    assert main([str(tmp_path / "out"), str(tmp_path / "a.mha"), "--template", "phantom"]) == 0
    assert ixr.open_series(tmp_path / "out").attrs["PatientID"] == "PHANTOM"


def test_files_that_a_signal_left_open_are_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> int:
        warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
        warnings.warn("frames are missing", UserWarning, stacklevel=1)
        return 0

    assert guarded(run, argparse.Namespace(), "image_data") == 0
    assert capsys.readouterr().err == "image_data: warning: frames are missing\n"
