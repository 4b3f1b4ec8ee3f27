"""The header of one frame of a file of many says nothing of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.frame_headers import grouped_elements, keep_frame, own_groups
from tests.dicom.multi import write_enhanced

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_enhanced(tmp_path / "a.dcm", times=2, slices=3)
    return tmp_path / "a.dcm"


def test_one_frame_keeps_its_own_groups(file: Path) -> None:
    whole = pydicom.dcmread(file)
    groups = own_groups(whole)
    assert len(groups) == whole.NumberOfFrames == 6
    keep_frame(whole, groups, 5)
    assert own_groups(whole) == [groups[4]]
    assert whole.NumberOfFrames == 1
    holder, name = grouped_elements(whole)["ImagePositionPatient"]
    assert holder[name].value == groups[4].PlanePositionSequence[0].ImagePositionPatient
    assert own_groups(pydicom.Dataset()) == []


def test_a_header_is_that_of_its_frame_or_an_error(file: Path) -> None:
    image = ixr.open_series(file, "time")
    for time in range(2):
        for number in range(3):
            header = image.dicom.header(time=time, slice=number)
            (group,) = header.PerFrameFunctionalGroupsSequence
            place = [float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient]
            assert place == pytest.approx(image[0, number:].dicom.position.tolist())
    beyond = image.assign_coords(source_frame=image.source_frame + 6)
    with pytest.raises(UnreadableFileError, match="has no frame 7 with groups of its own; open the series again"):
        beyond.dicom.header(time=0, slice=0)
