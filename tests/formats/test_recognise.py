"""What is read of a source, and when a user has to say it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import MixedSeriesError, NoDicomError
from imagedata_xr.formats.recognise import recognised
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_of_several_formats_is_read_when_one_is_named(patient: Path, tmp_path: Path) -> None:
    ct = ixr.open_series(patient / "ct")
    ixr.write(ct, tmp_path / "a.nii.gz")
    ixr.write(ct, tmp_path / "b.mha")
    with pytest.raises(MixedSeriesError, match=r"itk \(1\), nifti \(1\); say which with format="):
        ixr.open_series(tmp_path)
    assert recognised(tmp_path, "itk") == ("itk", [str(tmp_path / "b.mha")])
    assert ixr.open_series(tmp_path, format="itk").sizes == ct.sizes


def test_dicom_goes_before_other_formats_in_a_folder(patient: Path, tmp_path: Path) -> None:
    ct = ixr.open_series(patient / "ct")
    shutil.copytree(patient / "ct", tmp_path / "ct")
    ixr.write(ct, tmp_path / "ct" / "a.nii.gz")
    assert recognised(tmp_path, None)[0] == "dicom"
    assert ixr.open_series(tmp_path).dicom.is_original
    assert ixr.open_series(tmp_path / "ct" / "a.nii.gz").encoding["source"].endswith("a.nii.gz")


def test_what_is_not_there_is_said(patient: Path, tmp_path: Path) -> None:
    ixr.write(ixr.open_series(patient / "ct"), tmp_path / "a.nii.gz")
    with pytest.raises(FileNotFoundError, match=f"no mat file at {tmp_path}"):
        ixr.open_series(tmp_path, format="mat")
    with pytest.raises(FileNotFoundError, match=r"no nifti file at .*ct"):  # files of DICOM, without a suffix
        ixr.open_series(patient / "ct", format="nifti")
    with pytest.raises(NoDicomError, match=r"a\.json is no image: open_virtual opens a virtual store"):
        ixr.open_series(tmp_path / "a.json")


_READ = """
import sys
import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.formats.registry import format_of
for path in sys.argv[1:]:
    for format in (None, format_of(path)):
        try:
            ixr.open_series(path, format=format)
        except UnreadableFileError as err:
            print(err)
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes among the files")
def test_a_pipe_is_not_waited_for_in_any_format(tmp_path: Path) -> None:
    """By a process of its own: what waits for a pipe cannot be stopped from within."""
    pipes = [str(tmp_path / f"pipe{end}") for end in (".nii", ".nii.gz", ".mat", ".png", ".mha", ".nc")]
    for pipe in pipes:
        os.mkfifo(pipe)
    command = [sys.executable, "-c", _READ, *pipes]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert [line.partition(" is no file, but a pipe or device")[0] for line in told] == [
        pipe for pipe in pipes for _ in range(2)
    ]


def test_what_macos_keeps_beside_a_file_is_no_image(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    ixr.write(image, tmp_path / "a" / "x.nii")
    (tmp_path / "a" / "._x.nii").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100))
    assert np.array_equal(ixr.open_series(tmp_path / "a").values, ixr.open_series(tmp_path / "a" / "x.nii").values)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(tmp_path / "a" / "x.nii", "a/x.nii")
        packed.write(tmp_path / "a" / "._x.nii", "__MACOSX/a/._x.nii")
    assert np.array_equal(ixr.open_series(tmp_path / "a.zip").values, image.values)


def test_what_is_named_and_not_read_is_told(tmp_path: Path) -> None:
    """In a folder it lies beside; who names a file wants it to be read."""
    write_series(tmp_path / "in", slices=2)
    ixr.open_series(tmp_path / "in").dicom.write(tmp_path / "a.nii.gz")
    with pytest.warns(UserWarning, match=r"a\.nii\.gz is nifti, and passed over, since there is DICOM") as told:
        ixr.open_series([tmp_path / "in", tmp_path / "a.nii.gz"])
    assert len(told) == 1
    assert ixr.open_series(tmp_path).attrs["PatientID"] == "P1", "without a warning"
