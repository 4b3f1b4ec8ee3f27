"""What an order may be, and which labels it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import imagedata_xr as ixr
from imagedata_xr.dicom.tags import parse_order
from imagedata_xr.errors import OrderError
from tests.generate import clock, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset


def by_serial(ds: Dataset) -> int:
    return int(ds.InstanceNumber)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("none", []),
        ("", []),
        ("time", ["time"]),
        (" time , te ", ["time", "te"]),
        (["time", "te"], ["time", "te"]),
        (("fa",), ["fa"]),
        ("EchoTime,b", ["EchoTime", "b"]),
        ("te,(0018,9087)", ["te", "(0018,9087)"]),
        ("0018,9087", ["0018,9087"]),
        (0x00189087, ["DiffusionBValue"]),
        ({"x": "b", "y": by_serial}, ["x", "y"]),
        (["time", {"ti": "InversionTime"}], ["time", "ti"]),
        ("time, ti = InversionTime", ["time", "ti"]),
        ("ti=0018,0082,phase=triggertime,te", ["ti", "phase", "te"]),
        (by_serial, ["by_serial"]),
        ([by_serial, "te"], ["by_serial", "te"]),
    ],
)
def test_orders(order: Any, names: list[str]) -> None:
    dims = parse_order(order)
    assert dims is not None
    assert [dim.name for dim in dims] == names


def test_auto_is_left_open() -> None:
    assert parse_order("auto") is None


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("tim", "'tim' is neither a DICOM keyword .*; 'time' may be meant"),
        ("tiem,te", "'time' may be meant"),
        ("EchoTimes", "'EchoTime' may be meant"),
        ("echo_time", "'EchoTime' may be meant"),
        ("b-value", "'b' may be meant"),
        ("TI", "'InversionTime' may be meant"),
        ("nonsense", r"\(0018,0081\)\. Known orders"),
        ("time,te,time", "time more than once"),
        ("slice", "cannot be a tag dim"),
        ({"col": "b"}, "cannot be a tag dim"),
        (None, "order is a name.*, not NoneType: 'auto' finds"),
        (1.5, "order is a name"),
        (["time", None], "order is a name"),
        ({"x": "nonsense"}, "neither a DICOM keyword"),
        ("x=nonsense", "neither a DICOM keyword"),
        ("ti=", "order 'ti=': a name and what tells it"),
        ("te,=InversionTime", "order '=InversionTime': a name and what tells it"),
        ("slice=b", "cannot be a tag dim"),
        ("a=b=te", "neither a DICOM keyword"),
    ],
)
def test_no_orders(order: Any, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        parse_order(order)


@pytest.mark.parametrize(
    ("element", "values", "labels"),
    [
        ("AcquisitionDateTime", ["20260102100000.5", "20260102100003.25"], [0, 2.75]),
        ("AcquisitionDateTime", ["20260102235959+0100", "20260103000001+0100"], [0, 2]),
        ("TriggerTime", ["100", "350.5"], [0, 0.2505]),
        ("TemporalPositionIdentifier", [1, 3], [0, 2]),
    ],
)
def test_what_tells_time(tmp_path: Path, element: str, values: list[Any], labels: list[float]) -> None:
    write_series(tmp_path, per_time={element: values}, slices=2)
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == pytest.approx(labels)
    assert image.values[:, 0, 0, 0].tolist() == [0, 1]


def test_trigger_times_are_seconds(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"TriggerTime": [600, 0, 300]}, slices=2)
    image = ixr.open_series(tmp_path, "triggertime")
    assert image.triggertime.values.tolist() == [0, 0.3, 0.6]
    assert image.triggertime.attrs["units"] == "s"
    assert image.values[:, 0, 0, 0].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("order", "element", "values", "units"),
    [
        ("te", "EchoTime", [9.84, 2.05], "ms"),
        ("fa", "FlipAngle", [15, 2], "degree"),
        ("b", "DiffusionBValue", [1000.0, 0.0], "s/mm2"),
    ],
)
def test_units(tmp_path: Path, order: str, element: str, values: list[float], units: str) -> None:
    write_series(tmp_path, per_time={element: values}, slices=2)
    image = ixr.open_series(tmp_path, order)
    assert image[order].values.tolist() == sorted(values)
    assert image[order].attrs["units"] == units
    assert image.values[:, 0, 0, 0].tolist() == [1, 0]


def test_image_types(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "P", "ND"], ["DERIVED", "PRIMARY", "M", "ND"]]
    write_series(tmp_path, per_time={"ImageType": kinds}, slices=2)
    assert ixr.open_series(tmp_path, "image_type").image_type.values.tolist() == [
        "DERIVED_M",
        "ORIGINAL_M",
        "ORIGINAL_P",
    ]


def test_day_that_is_absent(tmp_path: Path) -> None:
    """Without a date midnight is still told: no series lasts half a day."""

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.AcquisitionTime = clock(86398 + 2 * t)

    write_series(tmp_path, times=3, slices=2, tags={"AcquisitionDate": None}, mutate=mutate)
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 2, 4]
    assert "AcquisitionDateTime" not in image.coords


def test_time_that_is_no_time(tmp_path: Path) -> None:
    """AcquisitionTime says nothing in one frame, so ContentTime tells."""
    write_series(
        tmp_path, times=3, slices=2, mutate=lambda ds, t, z: setattr(ds, "AcquisitionTime", "") if t == z == 1 else None
    )
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 2.5, 5]
    assert "Content" in image.time.attrs["element"]


def test_function_that_raises(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=1)
    with pytest.raises(AttributeError, match="DiffusionBValue"):
        ixr.open_series(tmp_path, {"b": lambda ds: ds.DiffusionBValue})
