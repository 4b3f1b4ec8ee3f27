"""An element's value goes to plain Python and back; what its bytes say is what pydicom says."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException
from pydicom.tag import Tag
from pydicom.valuerep import DS

from imagedata_xr.elements import Raw, decimal_string, decode, decode_all, keyword, tag, to_element, to_value

# One element of each value representation.
OF_VR = {
    "AE": "StationAETitle",
    "AS": "PatientAge",
    "AT": "FrameIncrementPointer",
    "CS": "ImageType",
    "DA": "StudyDate",
    "DS": "PixelSpacing",
    "DT": "AcquisitionDateTime",
    "FL": "DiffusionBValue",
    "FD": "DiffusionGradientOrientation",
    "IS": "EchoNumbers",
    "LO": "SeriesDescription",
    "LT": "ImageComments",
    "PN": "OtherPatientNames",
    "SH": "StationName",
    "SL": "ReferencePixelX0",
    "SS": "TagAngleSecondAxis",
    "ST": "InstitutionAddress",
    "TM": "StudyTime",
    "UC": "LongCodeValue",
    "UI": "SOPInstanceUID",
    "UL": "SimpleFrameList",
    "UR": "RetrieveURL",
    "US": "Rows",
    "UT": "TextValue",
    "UV": "SelectorUVValue",
    "SV": "SelectorSVValue",
}
NUMBERS = {"AT", "FL", "FD", "SL", "SS", "UL", "US", "UV", "SV"}


def by_pydicom(number: int, vr: str, value: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = RawDataElement(Tag(number), vr, len(value), value, 0, False, True)
        return to_value(convert_raw_data_element(raw, encoding=["iso8859"]))


@pytest.mark.parametrize("vr", sorted(OF_VR))
@given(data=st.data())
@settings(max_examples=40)
@pytest.mark.filterwarnings("ignore")
def test_bytes_say_what_pydicom_says(vr: str, data: st.DataObject) -> None:
    text = st.text("0123456789.+-eE\\ \0ABCab^=", max_size=24).map(str.encode)
    value = data.draw(st.binary(max_size=24) if vr in NUMBERS else text | st.binary(max_size=24).map(printable))
    value = value.lstrip(b"\0") if vr in ("DS", "IS") else value  # a pad before a number is none to us
    number = tag(OF_VR[vr])
    if vr == "AT" and len(value) % 4:
        assert decode(number, Raw(vr, value)) is None  # where pydicom leaves out the end
        return
    try:
        theirs = by_pydicom(number, vr, value)
    except BytesLengthException:
        with pytest.raises(ValueError, match=f"{OF_VR[vr]} .{vr}. cannot be {len(value)} bytes long"):
            decode(number, Raw(vr, value))
        return
    except (ValueError, TypeError, OverflowError):
        assert isinstance(decode(number, Raw(vr, value)), str)
        return
    assert repr(decode(number, Raw(vr, value))) == repr(theirs)


@pytest.mark.parametrize("vr", sorted(OF_VR))
@given(data=st.data())
@settings(max_examples=60)
@pytest.mark.filterwarnings("ignore")
def test_many_values_are_decoded_as_one_by_one(vr: str, data: st.DataObject) -> None:
    number, pad = tag(OF_VR[vr]), st.sampled_from([b"", b" ", b"\0", b"\n"])
    alike = st.tuples(pad, st.sampled_from([b"1", b"-2.5\\3", b"4\\5", b"6\\7\\8", b"A", b"A^B=C", b"1.2.3"]), pad).map(
        b"".join
    )
    numbers = st.sampled_from([b"\1\0", b"\2\0\3\0", b"\4\0\0\0", bytes(8), b"\1\2\3\4\5\6\7\x08"])
    anything = st.binary(max_size=9)
    one_of = data.draw(st.sampled_from([numbers, numbers, anything] if vr in NUMBERS else [alike, alike, anything]))
    values = data.draw(st.lists(one_of, min_size=1, max_size=5))
    try:
        one_by_one = [decode(number, Raw(vr, value)) for value in values]
    except ValueError:
        with pytest.raises(ValueError, match="cannot be"):
            decode_all(number, vr, values)
        return
    assert repr(decode_all(number, vr, values)) == repr(one_by_one)


def printable(data: bytes) -> bytes:
    return bytes(b for b in data if b >= 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientName", "Müller^Jörg"),
        ("SeriesDescription", "a b"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"]),
        ("EchoTime", 4.5),
        ("PixelSpacing", [0.1, 1 / 3]),
        ("SeriesNumber", 12),
        ("Rows", 256),
        ("DiffusionBValue", 1000.0),
        ("DiffusionGradientOrientation", [0.6, 0.8, 0.0]),
        ("FrameIncrementPointer", "00181063"),
        ("StudyDate", "20260102"),
        ("ReferringPhysicianName", ""),
        ("EchoTime", ""),
        ("Rows", ""),
        ("ImageComments", "a\\b is text"),
        ("SelectorSVValue", -(2**62)),
    ],
)
def test_there_and_back(name: str, value: Any) -> None:
    element = to_element(name, value)
    assert element.keyword == name
    back = to_value(element)
    assert (
        back == pytest.approx(value, rel=1e-13)
        if isinstance(value, list | float) and name != "ImageType"
        else back == value
    )


def test_joined_values_are_several() -> None:
    assert to_value(to_element("ImageType", "DERIVED\\SECONDARY")) == ["DERIVED", "SECONDARY"]
    assert to_value(to_element("PixelSpacing", "0.5\\0.25")) == [0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NotAKeyword", 1, "neither a DICOM keyword"),
        ("Rows", 70000, "Rows"),
        ("Rows", 1.5, "not a whole number"),
        ("SeriesNumber", "x", "SeriesNumber"),
        ("EchoTime", float("nan"), "EchoTime"),
        ("EchoTime", float("inf"), "EchoTime"),
        ("AnatomicRegionSequence", "head", "cannot be set"),
        ("PixelData", "bytes", "cannot be set"),
    ],
)
def test_values_that_an_element_cannot_hold(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_element(name, value)


@given(st.floats(-1e300, 1e300))
def test_decimal_strings_are_as_close_as_sixteen_characters_can_be(value: float) -> None:
    text = decimal_string(value)
    assert len(text) <= 16
    DS(text, validation_mode=2)
    assert float(text) == pytest.approx(value, rel=1e-8, abs=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_decimal_string_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not a decimal number"):
        decimal_string(value)


@pytest.mark.parametrize("name", ["EchoTime", "0018,0081", "(0018,0081)", "(0018, 0081)", "00180081", 0x00180081])
def test_names_of_a_tag(name: str | int) -> None:
    assert tag(name) == 0x00180081
    assert keyword(tag(name)) == "EchoTime"


@pytest.mark.parametrize("name", ["echotime", "Echo Time", "0018", "001800811", "(zz18,0081)", ""])
def test_no_tag(name: str) -> None:
    with pytest.raises(ValueError, match="neither a DICOM keyword"):
        tag(name)


def test_sequences_and_bulk_data_have_no_plain_value() -> None:
    assert to_value(DataElement("AnatomicRegionSequence", "SQ", [])) is None
    assert to_value(DataElement("PixelData", "OW", b"\0\0")) is None
    assert decode(tag("PixelData"), Raw("OW", b"\0\0")) is None
