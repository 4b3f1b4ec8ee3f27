"""Every frame comes to its own place, or an error says which frames stand in the way."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imagedata_xr as ixr
from imagedata_xr.errors import (
    DuplicateFramesError,
    MissingFramesError,
    MissingSlicesWarning,
    NotAStackError,
    OrderError,
)
from tests.generate import CORONAL, OBLIQUE, clock, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import Dataset


def places(image: xr.DataArray) -> np.ndarray:
    """Return (time, slice) of each frame as its first two pixels say, shape (..., slice, 2)."""
    return image.values[..., 0, :2].astype(int)


def assert_sorted(image: xr.DataArray, times: int, slices: int) -> None:
    want = np.stack(np.meshgrid(np.arange(times), np.arange(slices), indexing="ij"), axis=-1)
    assert (places(image) == want.reshape(places(image).shape)).all()


def skip(*which: tuple[int, int]) -> Callable[[Dataset, int, int], None]:
    """Return what leaves out the frames (time, slice)."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.skip = (t, z) in which

    return mutate


def set_time(at: Callable[[int, int], float], date: Callable[[float], str] | None = None) -> Callable[..., None]:
    """Return what sets the time of a frame [s of the day]."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(at(t, z))
        if date is not None:
            ds.AcquisitionDate = ds.ContentDate = date(at(t, z))

    return mutate


def test_time(tmp_path: Path) -> None:
    write_series(tmp_path, times=[0, 2.5, 6], slices=4)
    image = ixr.open_series(tmp_path, "time")
    assert image.dims == ("time", "slice", "row", "col")
    assert image.time.values.tolist() == [0, 2.5, 6]
    assert image.time.attrs["units"] == "s"
    assert image.AcquisitionDateTime.item() == "2026-01-02T10:00:00"
    assert_sorted(image, 3, 4)


@pytest.mark.parametrize("orientation", [CORONAL, OBLIQUE])
def test_slices_ascend_along_the_normal(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    write_series(tmp_path, slices=5, orientation=orientation)
    image = ixr.open_series(tmp_path, "none")
    assert image.dims == ("slice", "row", "col")
    assert_sorted(image, 1, 5)
    assert np.diff(image.slice) == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("date_changes", [True, False])
def test_over_midnight(tmp_path: Path, date_changes: bool) -> None:
    start = 86400 - 4

    def date(seconds: float) -> str:
        return "20260103" if seconds >= 86400 and date_changes else "20260102"

    write_series(tmp_path, times=4, slices=2, mutate=set_time(lambda t, _z: start + 2.5 * t, date))
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 2.5, 5, 7.5]
    assert image.AcquisitionDateTime.item() == "2026-01-02T23:59:56"
    assert_sorted(image, 4, 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_times_of_slices(tmp_path: Path, reverse: bool) -> None:
    """Slices of a volume are acquired one after the other, here also interleaved."""
    turn = [0, 3, 1, 4, 2]
    turn = turn[::-1] if reverse else turn
    write_series(tmp_path, times=3, slices=5, mutate=set_time(lambda t, z: 40000 + 2.5 * t + 0.5 * turn[z]))
    image = ixr.open_series(tmp_path, "time")
    assert_sorted(image, 3, 5)
    assert image.time.values.tolist() == [0, 2.5, 5], "when each volume began"
    assert image.AcquisitionTime.dims == ("time", "slice")


def test_positions_that_jitter(tmp_path: Path) -> None:
    rng = random.Random(1)

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.ImagePositionPatient = [float(x) + rng.uniform(-1e-6, 1e-6) for x in ds.ImagePositionPatient]

    write_series(tmp_path, times=3, slices=4, mutate=mutate)
    image = ixr.open_series(tmp_path, "time")
    assert_sorted(image, 3, 4)
    assert image.sizes["slice"] == 4


@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_of_files_do_not_matter(tmp_path_factory: pytest.TempPathFactory, dynamic: list[Path], seed: int) -> None:
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("shuffled")
    names = [f"{k:03d}" for k in range(len(dynamic))]
    rng.shuffle(names)
    for name, file in zip(names, dynamic, strict=True):
        sub = folder / rng.choice(["", "a", "b/c"])
        sub.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, sub / name)
    xr.testing.assert_identical(
        ixr.open_series(folder, "time").drop_vars("source"), ixr.open_series(dynamic, "time").drop_vars("source")
    )


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_series(tmp_path_factory.mktemp("dynamic"), times=3, slices=3)


# --- missing


def test_missing_frames_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, times=3, slices=4, mutate=skip((1, 2), (2, 0)))
    with pytest.raises(MissingFramesError) as caught:
        ixr.open_series(tmp_path, "time")
    message = str(caught.value)
    assert "2 of 12 frames are missing" in message
    assert "time 2.5 s, slice 2 (36.000 mm)" in message
    assert "time 5 s, slice 0 (30.000 mm)" in message
    assert "missing='fill'" in message
    with pytest.raises((MissingFramesError, OrderError), match="missing"):
        ixr.open_series(tmp_path)


def test_missing_filled(tmp_path: Path) -> None:
    write_series(tmp_path, times=3, slices=4, mutate=skip((1, 2), (2, 0)))
    image = ixr.open_series(tmp_path, "time", missing="fill")
    assert image.present.dims == ("time", "slice")
    assert np.argwhere(~image.present.values).tolist() == [[1, 2], [2, 0]]
    assert np.isnan(image.values[~image.present.values]).all()
    there = image.present.values
    assert image.mean("time")[0, 2, 3].item() == image.values[:2, 0, 2, 3].mean(), "a frame that is missing is not 0"
    want = np.stack(np.meshgrid(np.arange(3), np.arange(4), indexing="ij"), axis=-1)
    assert (image.values[..., 0, :2][there] == want[there]).all()
    assert image.AcquisitionTime.dims == ("time",), "as far as frames are there"
    with pytest.raises(ValueError, match="no frame at time=1, slice=2"):
        image.dicom.header(time=1, slice=2)
    assert image.dicom.header(time=1, slice=1).InstanceNumber == 6


def test_missing_filled_with_nan(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=2, mutate=skip((1, 1)), rescale=(0.5, 0))
    image = ixr.open_series(tmp_path, "time", missing="fill")
    assert np.isnan(image.values[1, 1]).all()
    assert not np.isnan(image.values[image.present.values]).any()


@pytest.mark.parametrize("step", [0.0, 0.8])
def test_volumes_that_each_lack_another_slice_are_not_mixed(tmp_path: Path, step: float) -> None:
    """Each slice has three of four frames, each another three: counting them per slice would mix volumes."""
    write_series(
        tmp_path,
        times=4,
        slices=3,
        mutate=lambda ds, t, z: (
            set_time(lambda t, z: 40000 + 2.5 * t + step * z)(ds, t, z),
            skip((0, 0), (1, 1), (2, 2))(ds, t, z),
        )[1],
    )
    with pytest.raises((OrderError, MissingFramesError)):
        ixr.open_series(tmp_path, "time")
    with pytest.raises((OrderError, MissingFramesError)):
        ixr.open_series(tmp_path)


def test_slices_missing_in_all_volumes_are_an_uneven_stack(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=5, mutate=skip((0, 2), (1, 2)))
    with pytest.warns(MissingSlicesWarning):
        image = ixr.open_series(tmp_path, "time")
    assert np.diff(image.slice).round(6).tolist() == [3, 6, 3]
    assert not image.dicom.is_evenly_spaced


# --- duplicates


def copy_with(file: Path, to: Path, **changes: Any) -> Path:
    ds = pydicom.dcmread(file)
    for name, value in changes.items():
        setattr(ds, name, value)
    if "SOPInstanceUID" in changes:
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(to)
    return to


def test_same_file_twice(tmp_path: Path) -> None:
    files = write_series(tmp_path, times=2, slices=2)
    copy_with(files[1], tmp_path / "copy")
    for order in ("time", "auto"):
        with pytest.raises(DuplicateFramesError) as caught:
            ixr.open_series(tmp_path, order)
        message = str(caught.value)
        assert "same SOPInstanceUID" in message
        assert files[1].name in message
        assert "copy" in message
    assert_sorted(ixr.open_series(tmp_path, "time", duplicates="first"), 2, 2)


@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_one_uid_with_other_pixels_makes_no_copies(tmp_path: Path, duplicates: Any) -> None:
    """Programs write what they have computed under the UIDs of the images that it was computed from."""
    files = write_series(tmp_path / "original", times=2)
    write_series(tmp_path / "packed", times=2, transfer_syntax=pydicom.uid.RLELossless)
    assert_sorted(ixr.open_series(tmp_path, "time", duplicates=duplicates), 2, 4)
    header = pydicom.dcmread(files[6])
    pixels = header.pixel_array.copy()
    pixels[3, 4] += 1
    header.PixelData = pixels.tobytes()
    header.save_as(files[6])
    with pytest.raises(DuplicateFramesError, match="same SOPInstanceUID and other pixels") as caught:
        ixr.open_series(tmp_path, "time", duplicates=duplicates)
    assert str(files[6]) in str(caught.value)
    assert str(tmp_path / "packed" / files[6].name) in str(caught.value)
    both = ixr.open_series(tmp_path, "AcquisitionTime", duplicates="stack")
    assert int((both.isel(duplicate=0) != both.isel(duplicate=1)).sum()) == 1
    assert_sorted(ixr.open_series(tmp_path / "packed", "time"), 2, 4)


def test_frames_of_one_place(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3)
    again = copy_with(
        files[1], tmp_path / "again", SOPInstanceUID=pydicom.uid.generate_uid(), InstanceNumber=9, ImageComments="again"
    )
    with pytest.raises(ValueError, match=r"slice 1 \(33.000 mm\)") as caught:
        ixr.open_series(tmp_path, "none")
    assert isinstance(caught.value, DuplicateFramesError | OrderError)
    assert "ImageComments" in str(caught.value)
    first = ixr.open_series(tmp_path, "none", duplicates="first")
    last = ixr.open_series(tmp_path, "none", duplicates="last")
    assert first.source.values[1] == str(files[1])
    assert last.source.values[1] == str(again)
    assert first.dicom.header(slice=1).InstanceNumber == 2
    assert last.dicom.header(slice=1).InstanceNumber == 9


def test_duplicates_stacked(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3)
    for k, file in enumerate(files):
        copy_with(file, tmp_path / f"again{k}", SOPInstanceUID=pydicom.uid.generate_uid(), InstanceNumber=10 + k)
    image = ixr.open_series(tmp_path, "none", duplicates="stack")
    assert image.dims == ("duplicate", "slice", "row", "col")
    assert image.sizes["duplicate"] == 2
    assert image.InstanceNumber.values.tolist() == [[1, 2, 3], [10, 11, 12]]
    (tmp_path / "again1").unlink()
    with pytest.raises(MissingFramesError, match="duplicate 1, slice 1"):
        ixr.open_series(tmp_path, "none", duplicates="stack")


@pytest.mark.parametrize(("order", "per_time"), [("time", {}), ("te", {"EchoTime": [5, 10, 15]})])
def test_one_uid_of_several_frames_makes_no_copies(tmp_path: Path, order: str, per_time: dict[str, Any]) -> None:
    """Programs that make headers give the slices of each volume the same UIDs."""

    def number(ds: Dataset, _t: int, z: int) -> None:
        ds.SOPInstanceUID = f"1.2.3.{z + 1}"

    write_series(tmp_path, times=3, slices=3, per_time=per_time, mutate=number)
    for duplicates in ("error", "first", "last"):
        with pytest.raises(DuplicateFramesError, match=r"differ in .*, so they are no copies[\s\S]*'stack'"):
            ixr.open_series(tmp_path, order, duplicates=duplicates)
    assert "no copies" in ixr.scan(tmp_path)["problem"].item()
    assert_sorted(ixr.open_series(tmp_path, order, duplicates="stack"), 3, 3)


def test_one_uid_at_several_places_makes_no_copies(tmp_path: Path) -> None:
    write_series(tmp_path, tags={"SOPInstanceUID": "1.2.3", "InstanceNumber": 1})
    with pytest.raises(DuplicateFramesError, match="same SOPInstanceUID differ in ImagePositionPatient"):
        ixr.open_series(tmp_path, "none", duplicates="first")
    assert_sorted(ixr.open_series(tmp_path, "none", duplicates="stack"), 1, 4)


def test_copies_that_an_archive_has_changed(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3)
    changes = {"WindowCenter": 40, "InstitutionName": "archive", "ImageComments": "sent", "SliceLocation": "33.0"}
    changes |= {"StudyID": "9", "SeriesNumber": 77, "ProtocolName": "P", "RescaleSlope": 1, "RescaleIntercept": 0}
    copy_with(files[1], tmp_path / "copy", **changes)
    assert_sorted(ixr.open_series(tmp_path, "none", duplicates="last"), 1, 3)


@pytest.mark.parametrize("uid", [None, "1.2.3"])
def test_what_was_lossily_compressed_is_no_copy(tmp_path: Path, uid: str | None) -> None:
    """An archive may keep both; of which the values are is not a question of InstanceNumber."""
    files = write_series(tmp_path, slices=3)
    changes = {"SOPInstanceUID": uid} if uid else {}
    copy_with(files[1], tmp_path / "copy", LossyImageCompression="00", **changes)
    assert_sorted(ixr.open_series(tmp_path, "none", duplicates="first"), 1, 3)
    copy_with(files[1], tmp_path / "copy", LossyImageCompression="01", LossyImageCompressionRatio=9, **changes)
    for duplicates in ("first", "last"):
        with pytest.raises(ValueError, match=r"differ in LossyImageCompression.* no (copies|duplicates).*where="):
            ixr.open_series(tmp_path, "none", duplicates=duplicates)
    found = ixr.open_series(tmp_path, where=lambda header: header.get("LossyImageCompression") != "01")
    assert_sorted(found, 1, 3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(("ConvolutionKernel", ("B30", "B70")), ("KVP", ("80", "140")), ("ContrastBolusAgent", ("", "Gd"))),
        *(("EchoNumbers", (1, 2)), ("ContentTime", ("100000", "100001")), ("XRayTubeCurrent", (100, 200))),
        *(("ReconstructionDiameter", ("200", "300")), ("RescaleType", ("HU", "MGML"))),
    ],
)
def test_other_reconstructions_are_no_duplicates(tmp_path: Path, name: str, values: tuple[Any, Any]) -> None:
    """InstanceNumbers go to and fro, so that the first of each place would be of both."""

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.InstanceNumber = 10 * z + (t + z) % 2
        setattr(ds, name, values[t])

    write_series(tmp_path, times=[0, 0], sop_class=pydicom.uid.CTImageStorage, mutate=fill)
    for duplicates in ("first", "last"):
        with pytest.raises(OrderError, match=f"differ in {name}: they are no duplicates.*order='{name}'"):
            ixr.open_series(tmp_path, "none", duplicates=duplicates)
    with pytest.raises((OrderError, DuplicateFramesError), match=r"keep all with duplicates='stack'"):
        ixr.open_series(tmp_path, "none")
    assert ixr.open_series(tmp_path, "none", duplicates="stack").sizes["duplicate"] == 2


def test_overlapping_series_are_no_duplicates(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(tmp_path / str(number), series=f"s{number}", number=number, tags={"SliceThickness": 2 + number})
    with pytest.raises(OrderError, match="SliceThickness, SeriesInstanceUID: they are no duplicates"):
        ixr.open_series(tmp_path, "none", merge=True, duplicates="first")
    assert ixr.open_series(tmp_path, "SliceThickness", merge=True).sizes["SliceThickness"] == 2


@pytest.mark.parametrize("keywords", [{"missing": "ignore"}, {"duplicates": "drop"}])
def test_unknown_choice(tmp_path: Path, keywords: dict[str, Any]) -> None:
    write_series(tmp_path, slices=1)
    (name,) = keywords
    with pytest.raises(ValueError, match=f"{name}='{keywords[name]}': it is 'error'"):
        ixr.open_series(tmp_path, "none", **keywords)


# --- orders that do not sort


def test_order_that_leaves_several_frames_at_a_place_proposes_one(tmp_path: Path) -> None:
    write_series(tmp_path, times=3, slices=2)
    with pytest.raises(OrderError) as caught:
        ixr.open_series(tmp_path, "none")
    message = str(caught.value)
    assert "up to 3 frames at one place" in message
    assert "slice 0 (30.000 mm)" in message
    assert "order='time'" in message


@pytest.mark.parametrize(
    ("order", "lacking"),
    [
        ("b", "DiffusionBValue"),
        ("triggertime", "TriggerTime"),
        ("InversionTime", "InversionTime"),
        ("0018,9087", "DiffusionBValue"),
    ],
)
def test_element_that_no_frame_has(tmp_path: Path, order: str, lacking: str) -> None:
    write_series(tmp_path, per_time={"EchoTime": [1, 2, 3]}, slices=2)
    with pytest.raises(OrderError, match=lacking) as caught:
        ixr.open_series(tmp_path, order)
    assert "none of the 6 frames" in str(caught.value)
    assert "EchoTime (3 values)" in str(caught.value)


def test_element_that_some_frames_lack(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, _z: int) -> None:
        if t == 1:
            del ds.EchoTime

    write_series(tmp_path, per_time={"EchoTime": [1, 2, 3]}, slices=2, mutate=mutate)
    with pytest.raises(OrderError, match="2 of the 6 frames lack"):
        ixr.open_series(tmp_path, "te")


def test_no_element_tells_time(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"ImageComments": ["a", "b"]}, slices=2)
    with pytest.warns(UserWarning, match="no element tells time.*InstanceNumber"):
        image = ixr.open_series(tmp_path, "time")
    assert_sorted(image, 2, 2)
    assert "units" not in image.time.attrs, "these are numbers, not seconds"


def test_time_of_one_volume(tmp_path: Path) -> None:
    write_series(tmp_path, slices=3)
    image = ixr.open_series(tmp_path, "time")
    assert image.dims == ("time", "slice", "row", "col")
    assert image.time.values.tolist() == [0]


def test_orders_that_are_typing_errors(tmp_path: Path) -> None:
    write_series(tmp_path, slices=1)
    for order in ("tiem", "TIME", "EchoTimes", "time;te", "time te"):
        with pytest.raises(OrderError, match="Known orders are none, auto, time"):
            ixr.open_series(tmp_path, order)
    with pytest.raises(OrderError, match="time more than once"):
        ixr.open_series(tmp_path, "time,time")
    with pytest.raises(OrderError, match="'row' cannot be a tag dim"):
        ixr.open_series(tmp_path, {"row": "EchoTime"})
    with pytest.raises(OrderError):
        ixr.open_series(tmp_path, 3.5)  # type: ignore[arg-type]


def test_frames_off_the_line(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 2:
            ds.ImagePositionPatient = [5, *ds.ImagePositionPatient[1:]]

    write_series(tmp_path, slices=5, mutate=mutate)
    with pytest.raises((NotAStackError, ValueError), match="stacks"):
        ixr.open_series(tmp_path, "none")


# --- auto


CUBES: dict[str, dict[str, list[Any]]] = {
    "te": {"EchoTime": [5, 10, 15]},
    "fa": {"FlipAngle": [2, 15]},
    "b": {"DiffusionBValue": [0.0, 500.0, 1000.0]},
    "InversionTime": {"InversionTime": [100, 200]},
    "te,fa": {"EchoTime": [5, 5, 10, 10], "FlipAngle": [2, 15, 2, 15]},
    "te,b": {"EchoTime": [5, 10, 5, 10, 5, 10], "DiffusionBValue": [0.0, 0.0, 500.0, 500.0, 1000.0, 1000.0]},
    "image_type": {"ImageType": [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]},
}


@pytest.mark.parametrize("order", CUBES)
def test_auto_finds_what_varies(tmp_path: Path, order: str) -> None:
    write_series(tmp_path, per_time=CUBES[order], slices=3)
    image = ixr.open_series(tmp_path)
    assert image.dims == (*order.split(","), "slice", "row", "col")
    xr.testing.assert_identical(image, ixr.open_series(tmp_path, order))
    values = image.values[..., 0, 0]
    for k in range(len(next(iter(CUBES[order].values())))):
        at = {}
        for dim, column in zip(order.split(","), CUBES[order].values(), strict=True):
            at[dim] = column[k] if dim != "image_type" else column[k][2]
        assert (image.sel(at).values[..., 0, 0] == k).all()
    assert values.size == 3 * len(next(iter(CUBES[order].values())))


def test_auto_with_time(tmp_path: Path) -> None:
    times = [0, 1, 2.5, 3.5, 5, 6]
    write_series(tmp_path, times=times, slices=2, mutate=lambda ds, t, _z: setattr(ds, "EchoTime", [5, 10][t % 2]))
    image = ixr.open_series(tmp_path)
    assert image.dims == ("time", "te", "slice", "row", "col")
    assert image.sizes == {"time": 3, "te": 2, "slice": 2, "row": 8, "col": 6}
    assert image.values[..., 0, 0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert ixr.open_series(tmp_path, "te,time").dims[:2] == ("te", "time")


def test_auto_where_several_orders_fit(tmp_path: Path) -> None:
    """Echo time and flip angle change together: which of them it is, the user has to say."""
    write_series(tmp_path, per_time={"EchoTime": [5, 10], "FlipAngle": [2, 15]}, slices=2)
    with pytest.raises(OrderError, match="several orders"):
        ixr.open_series(tmp_path)
    assert ixr.open_series(tmp_path, "te").te.values.tolist() == [5, 10]
    assert ixr.open_series(tmp_path, "fa").fa.values.tolist() == [2, 15]


def test_auto_where_nothing_fits(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"ImageComments": ["a", "b"]}, slices=2)
    with pytest.raises(OrderError, match=r"ImageComments \(2 values\)"):
        ixr.open_series(tmp_path)


# --- orders of the user


def test_order_by_private_tag(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.private_block(0x0019, "USER", create=True).add_new(1, "IS", [30, 10, 20][t])

    write_series(tmp_path, per_time={"EchoTime": [1, 1, 1]}, slices=2, mutate=mutate)
    image = ixr.open_series(tmp_path, {"mine": "(0019,1001)"})
    assert image.dims == ("mine", "slice", "row", "col")
    assert image.mine.values.tolist() == [10, 20, 30]
    assert image.values[:, 0, 0, 0].tolist() == [1, 2, 0]
    xr.testing.assert_equal(image.rename(mine="x").variable, ixr.open_series(tmp_path, {"x": 0x00191001}).variable)


def test_order_by_function(tmp_path: Path) -> None:
    def half(ds: Dataset) -> float:
        assert "PixelData" not in ds
        return ds.EchoTime / 2

    write_series(tmp_path, per_time={"EchoTime": [7, 5]}, slices=2)
    image = ixr.open_series(tmp_path, half)
    assert image.dims[0] == "half"
    assert image.half.values.tolist() == [2.5, 3.5]
    assert image.values[:, 0, 0, 0].tolist() == [1, 0]
    assert ixr.open_series(tmp_path, {"h": half}).h.values.tolist() == [2.5, 3.5]


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ("EchoTime", "EchoTime"),
        ("0018,0081", "0018,0081"),
        ("(0018,0081)", "(0018,0081)"),
        (0x00180081, "EchoTime"),
        ({"echo": "EchoTime"}, "echo"),
        (["EchoTime"], "EchoTime"),
        ([{"echo": 0x00180081}], "echo"),
        ({"echo": "te"}, "echo"),
    ],
)
def test_orders_by_keyword_and_tag(tmp_path: Path, order: Any, name: str) -> None:
    write_series(tmp_path, per_time={"EchoTime": [7, 5.5, 20]}, slices=2)
    image = ixr.open_series(tmp_path, order)
    assert image.dims[0] == name
    assert image[name].values.tolist() == [5.5, 7, 20], "as numbers, not as text"
    assert image.values[:, 0, 0, 0].tolist() == [1, 0, 2]


def test_order_by_text_and_by_several_values(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"ImageComments": ["b", "a"], "ScanOptions": [["FS", "X"], ["FS", "W"]]}, slices=2)
    assert ixr.open_series(tmp_path, "ImageComments").ImageComments.values.tolist() == ["a", "b"]
    assert ixr.open_series(tmp_path, "ScanOptions").ScanOptions.values.tolist() == ["FS\\W", "FS\\X"]


def test_function_that_knows_nothing(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=1)
    with pytest.raises(OrderError, match="nothing"):
        ixr.open_series(tmp_path, {"nothing": lambda ds: None})
