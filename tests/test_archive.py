from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for number, file in enumerate(sorted(folder.rglob("*"))):
            made.write(file, f"../../deep/{number % 3}/IMAGE{number}")
        made.writestr("deep/readme.txt", "no image")
        made.writestr("deep/empty/", "")
    return archive


def test_a_zip_with_folders_opens_as_a_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "series", times=3)
    archive = packed(tmp_path / "series", tmp_path / "export.ZIP")
    before = sorted(p for p in tmp_path.rglob("*"))
    image, folder = ixr.open_series(archive, "time"), ixr.open_series(tmp_path / "series", "time")
    assert (image == folder).all()
    assert image.dicom.geometry_equal(folder)
    assert image.dicom.header(time=1, slice=2).SOPInstanceUID == folder.dicom.header(time=1, slice=2).SOPInstanceUID
    assert sorted(p for p in tmp_path.rglob("*")) == before, "no member left its folder"
    assert len(ixr.scan([archive])) == 1


def test_what_was_unpacked_goes_with_the_process(tmp_path: Path) -> None:
    write_series(tmp_path / "series")
    archive = packed(tmp_path / "series", tmp_path / "a.zip")
    code = f"import imagedata_xr as ixr; print(ixr.open_series({str(archive)!r}).source.values[0])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imagedata_xr-" in run.stdout
    from pathlib import Path

    assert not Path(run.stdout.strip()).exists()


def test_damaged_and_empty_archives(tmp_path: Path) -> None:
    write_series(tmp_path / "series")
    archive = packed(tmp_path / "series", tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    data[200:260] = bytes(60)
    archive.write_bytes(data)
    with pytest.raises(UnreadableFileError, match=r"cannot unpack .*a\.zip"):
        ixr.open_series(archive)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as empty:
        empty.writestr("text", "no image")
    with pytest.raises(NoDicomError, match="none of them a DICOM image"):
        ixr.open_series(tmp_path / "b.zip")
