"""What users call is there under the names that were settled; what is not is told, with what to use instead."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import xarray as xr

import imagedata_xr as ixr
from image_data.dispatch import ALIASES
from image_data.parsers import COMMANDS
from imagedata_xr.formats.registry import format_names

REPOSITORY = Path(__file__).parents[1]

FUNCTIONS = {
    "open_series": "source order template geometry series missing duplicates chunks rescale format",
    "open_study": "source order missing duplicates chunks rescale",
    "scan": "source",
    "concat": "dim",
    "write": "path format",
    "convert": "format",
    "view": "",
    "from_simpleitk": "image order",
    "from_nibabel": "image order",
    "set_options": "",
}
ACCESSOR = {
    "affine affine_ras spacing position direction_cosines patient_orientation frame_of_reference_uid": None,
    "is_evenly_spaced is_original timeline bvalues": None,
    "patient_coords map_indices_to_reference map_reference_to_indices geometry_equal": "",
    "assign_geometry copy_headers resample_like": "like",
    "sel_patient": "point",
    "to_patient_orientation": "orientation",
    "header": "indexers",
    "get window to_rgb fuse_mask write to_nibabel to_simpleitk send view roi_mask": "",
}
METHODS = [(name, parameters) for names, parameters in ACCESSOR.items() for name in names.split()]


@pytest.mark.parametrize(("name", "parameters"), FUNCTIONS.items())
def test_a_function_has_its_parameters_and_tells_what_it_does(name: str, parameters: str) -> None:
    function = getattr(ixr, name)
    assert name in ixr.__all__
    assert set(parameters.split()) <= inspect.signature(function).parameters.keys()
    assert (inspect.getdoc(function) or "").strip()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PatientID", r"image\.dicom has no 'PatientID'; the element is image\.dicom\.get\('PatientID'\)"),
        ("patient_id", r"the element is image\.dicom\.get\('PatientID'\)"),
        ("shape", r"the image itself has it, image\.shape"),
        ("show", r"there is image\.dicom\.view\(\)"),
        ("affin", "has no 'affin'$"),
    ],
)
def test_what_the_accessor_has_not_is_told_with_where_it_is(name: str, told: str) -> None:
    image = xr.DataArray([[1]], dims=("row", "col"))
    assert not hasattr(image.dicom, name)
    with pytest.raises(AttributeError, match=told):
        getattr(image.dicom, name)
    assert re.match(r"image\.dicom has affine, affine_ras, .* view, window, write$", repr(image.dicom))


@pytest.mark.parametrize(("name", "parameters"), METHODS)
def test_the_accessor_has_it(name: str, parameters: str | None) -> None:
    member = inspect.getattr_static(ixr.DicomAccessor, name)
    assert (inspect.getdoc(member) or "").strip()
    assert isinstance(member, property) == (parameters is None)
    if parameters:
        assert set(parameters.split()) <= inspect.signature(member).parameters.keys()


def test_the_commands_are_there_and_those_of_imagedata_lead_to_them() -> None:
    wanted = "convert info list show stats calc tags timeline montage sort validate send echo query receive"
    assert set(wanted.split()) <= COMMANDS.keys()
    assert {
        *("image_list", "image_show", "image_statistics", "image_calculator", "dicom_dump", "dicom_sort", "timeline")
    } == ALIASES.keys()
    assert set(ALIASES.values()) <= COMMANDS.keys()


def test_the_formats_and_the_engine_are_there(patient: Path) -> None:
    assert {"nifti", "itk", "mat", "raster"} <= set(format_names())
    assert xr.open_dataarray(patient / "ct", engine="dicom").name == "image"


def test_an_unknown_keyword_is_a_type_error(patient: Path) -> None:
    with pytest.raises(TypeError, match="ordre"):
        ixr.open_series(patient / "ct", ordre="none")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ordre"):
        xr.open_dataset(patient / "ct", engine="dicom", ordre="none")


def test_what_is_not_there_is_told_with_a_way_that_is() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## What is not there")[2].partition("\n## ")[0]
    absent = re.findall(r"^\| `da\.dicom\.(\w+)`", section, flags=re.MULTILINE)
    assert {"sort_by", "stored_values", "anonymize"} <= set(absent)
    assert not [name for name in absent if hasattr(ixr.DicomAccessor, name)]
    assert "anonymize" not in COMMANDS


def test_stored_values_and_another_order_are_had_as_the_documentation_says(patient: Path) -> None:
    ct, stored = ixr.open_series(patient / "ct"), ixr.open_series(patient / "ct", rescale=False)
    part = ct[2:5, ::-1]
    found, wanted = stored.sel(slice=part.slice, row=part.row), stored[2:5, ::-1]
    # The coordinates of the part tell of values in another unit, which stored ones have none of.
    xr.testing.assert_equal(found.drop_vars(set(found.coords) - set(wanted.coords)), wanted)
    assert not (stored == ct).all()
    dynamic = ixr.open_series(patient / "dynamic_1", "time")
    assert dynamic.sortby("time", ascending=False).time.values.tolist() == dynamic.time.values[::-1].tolist()
