"""What users name as a source: the home folder, patterns, and what is no path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr.cli import main
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder, not the current one, with a series of 4 slices."""
    (tmp_path / "home").mkdir()
    (tmp_path / "current").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "current")
    write_series(tmp_path / "home" / "in", slices=4)
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["out", "out.zip", "out.nii.gz", "out.mat", "out.nc", "out.zarr", "folder/out.mha"])
def test_a_tilde_is_the_home_folder_in_reading_and_writing(home: Path, name: str) -> None:
    image = ixr.open_series("~/in")
    written = image.dicom.write(f"~/{name}")
    assert (home / name).exists()
    assert all(path.is_file() or path.suffix == ".zarr" for path in written)
    assert np.array_equal(ixr.open_series(f"~/{name}").values, image.values)
    assert not list((home.parent / "current").iterdir()), "no folder of the name ~, which nobody dares to remove"


def test_a_tilde_of_what_is_written_besides_images(home: Path) -> None:
    image = ixr.open_series("~/in", index="~/index")
    assert ixr.sample.write_patient("~/phantom") == home / "phantom"
    assert image.dicom.to_png("~/a.png") == home / "a.png"
    assert image.dicom.to_virtual("~/virtual.json") == home / "virtual.json"
    assert ixr.open_virtual("~/virtual.json").identical(ixr.open_virtual(home / "virtual.json"))
    assert [result.status for result in ixr.convert("~/in", "~/all").results] == ["written"]
    assert main(["~/by_command", "~/in"]) == 0
    assert {"index", "phantom", "a.png", "all", "by_command"} <= {path.name for path in home.iterdir()}
    assert not list((home.parent / "current").iterdir())


def test_patterns(home: Path) -> None:
    image = ixr.open_series(home / "in")
    files = sorted((home / "in").iterdir())
    image.isel(slice=slice(1)).dicom.write(home / "other")
    for pattern in ("~/in/*", "~/i?", "~/**/in", str(home / "in" / f"*{files[0].suffix}")):
        assert np.array_equal(ixr.open_series(pattern).values, image.values), pattern
    assert ixr.open_series(f"~/in/*{files[0].name[-6:]}").sizes.get("slice", 1) == 1
    assert len(ixr.scan("~/*")) == 2
    assert len(list(ixr.open_study("~/*").leaves)) == 2
    image.dicom.write(home / "one.zarr")
    assert ixr.open_series("~/*.zarr").shape == image.shape
    with pytest.raises(FileNotFoundError, match=r"no file or folder is found by the pattern '~/in/\*\.nothing'"):
        ixr.scan("~/in/*.nothing")


def test_names_that_look_like_patterns_are_names(home: Path) -> None:
    image = ixr.open_series(home / "in")
    image.isel(slice=slice(2)).dicom.write(home / "i*")
    assert ixr.open_series(home / "i*").sizes["slice"] == 2
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        ixr.open_series(home / "i[n]")
    image.isel(slice=slice(3)).dicom.write(home / "i[n]")
    assert ixr.open_series(home / "i[n]" / "*").sizes["slice"] == 3


@pytest.mark.parametrize("start", ["memory://clinic", "file"])
def test_patterns_of_urls(home: Path, start: str) -> None:
    image = ixr.open_series(home / "in")
    place = (home / "clinic").as_uri() if start == "file" else start
    for number in (1, 2):
        folder = home / "clinic" / f"day {number}" if start == "file" else f"{place}/day {number}"
        image.isel(slice=slice(number)).dicom.write(folder, keep_uid=True)
    assert ixr.open_series(f"{place}/day 2/*.dcm").sizes["slice"] == 2
    assert ixr.open_series(f"{place}/**/00002.dcm").sizes["slice"] == 1
    assert ixr.open_series([f"{place}/*1", f"{place}/* 2/*2.dcm"]).sizes["slice"] == 2
    assert len(ixr.scan(f"{place}/day*2")) == 1
    with pytest.raises(FileNotFoundError, match=r"no file or folder is found by the pattern '.*clinic/\*\.nothing'"):
        ixr.scan(f"{place}/*.nothing")
    image.dicom.write(home / "clinic" / "a[1].nii" if start == "file" else f"{place}/a[1].nii")
    assert ixr.open_series(f"{place}/a[*.nii").shape == image.shape
    with pytest.raises(FileNotFoundError):
        ixr.open_series(f"{place}/a[0-9]*")  # no set of letters
    with pytest.raises(ValueError, match="user or password"):
        ixr.open_series("ftp://me:secret@example.org/*.dcm")


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("", FileNotFoundError, r"'\.' is the current folder"),
        (["in", ""], FileNotFoundError, r"'\.' is the current folder"),
        (None, TypeError, "the source is None"),
        (3, TypeError, "the source is 3"),
        ([None], TypeError, "one in the list, is None"),
        (b"in", TypeError, "is b'in': a path is text"),
        (np.zeros(3), TypeError, "float64.*: a path is text"),
        ([["in"]], TypeError, "of type list: a path is text"),
    ],
)
def test_what_is_no_path_is_told(home: Path, source: Any, kind: type[Exception], told: str) -> None:
    for read in (ixr.open_series, ixr.open_study, ixr.scan, lambda it: ixr.convert(it, "out")):
        with pytest.raises(kind, match=told):
            read(source)


def test_nothing_is_written_to_no_name(home: Path) -> None:
    """The current folder, which is empty, would be replaced."""
    with pytest.raises(ValueError, match=r"'\.' is the current folder"):
        ixr.open_series(home / "in").dicom.write("")
