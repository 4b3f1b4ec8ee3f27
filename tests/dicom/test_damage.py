"""Headers that are read once more by pydicom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagedata_xr.dicom.damage import read_elements
from imagedata_xr.errors import UnreadableFileError


@pytest.fixture
def file(patient: Path, tmp_path: Path) -> Path:
    source = next(path for path in sorted((patient / "ct").rglob("*")) if path.is_file())
    return Path(shutil.copy(source, tmp_path / "a.dcm"))


def test_elements_are_read_without_pixels_or_those_wanted_alone(file: Path) -> None:
    assert "PixelData" not in read_elements(str(file))
    some = read_elements(str(file), [0x00080060])
    assert some.Modality == "CT"
    assert "PatientID" not in some


def test_a_file_that_is_damaged_or_gone_is_named(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:152])
    with pytest.raises(UnreadableFileError, match=f"{file} is a damaged DICOM file: .* in its header"):
        read_elements(str(file))
    file.unlink()
    with pytest.raises(UnreadableFileError, match=f"{file} cannot be read: No such file"):
        read_elements(str(file))
