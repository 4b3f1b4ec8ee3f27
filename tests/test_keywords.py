"""Names that are nearly keywords are not passed over without a word."""

from __future__ import annotations

import warnings

import pytest
from pydicom import dcmread

import imagedata_xr as ixr
from imagedata_xr.errors import UnknownKeywordWarning
from imagedata_xr.keywords import keyword_meant

CF = "units long_name standard_name comment history source title references institution valid_min scale_factor axis"


@pytest.mark.parametrize("name", [*CF.split(), "slice_shear", "timezone", "counted_from", "T2Star", "dBdt", ""])
def test_other_names_mean_no_keyword(name):
    assert keyword_meant(name) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PatientsName", "PatientName"),
        ("seriesDescription", "SeriesDescription"),
        ("PatientId", "PatientID"),
        ("series_number", "SeriesNumber"),
        ("modality", "Modality"),
        ("SeriesDescripton", "SeriesDescription"),
    ],
)
def test_a_slip_means_a_keyword(name, meant):
    assert keyword_meant(name) == meant


def test_a_slip_is_told_when_it_is_written(patient, tmp_path):
    image = ixr.open_series(patient / "ct")
    said = image.assign_attrs(PatientsName="a", seriesDescription="b", long_name="c", units="HU")
    with pytest.warns(UnknownKeywordWarning) as told:
        said.dicom.write(tmp_path / "slip")
    (message,) = (str(warning.message) for warning in told)
    assert "PatientsName (PatientName?), seriesDescription (SeriesDescription?)" in message
    assert "long_name" not in message
    assert "units" not in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image.assign_attrs(SeriesDescription="b", long_name="c", units="HU").dicom.write(tmp_path / "right")


def test_an_element_is_got_by_keyword_and_tag(patient):
    image = ixr.open_series(patient / "multi_echo", "te")
    for name in ("FlipAngle", "0018,1314", "(0018,1314)", 0x00181314):
        assert image.dicom.get(name) == image.attrs["FlipAngle"]
    assert image.dicom.get("0008,0018").dims == ("te", "slice")
    assert image.dicom.get("te").dims == ("te",)
    assert image.dicom.get("slice_shear") == [0.0, 0.0]
    assert image.dicom.get("ContrastBolusAgent") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flipAngle", "FlipAngle is"),
        ("PatientsName", "PatientName is"),
        ("nonsense", "nothing of this name"),
        (-1, "no DICOM element"),
        ("RequestAttributesSequence", "a sequence.*header"),
        (0x0019100C, "0019100C is a private element.*header"),
    ],
)
def test_what_is_no_element_is_told(patient, name, message):
    with pytest.raises(KeyError, match=message):
        ixr.open_series(patient / "ct").dicom.get(name)


def test_the_keyword_with_a_small_letter_is_written(patient, tmp_path):
    image = ixr.open_series(patient / "multi_echo").assign_attrs(dBdt=12.5)
    for name, values in (("original", image), ("computed", image * 2), ("bare", (image * 2).drop_vars("source"))):
        (file, *_) = values.dicom.write(tmp_path / name)
        assert dcmread(file).dBdt == 12.5
