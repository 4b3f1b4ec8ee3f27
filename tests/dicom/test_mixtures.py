"""Volumes whose slices are of several: the grid is full, and every frame is at its place, but not with its like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import MissingSlicesWarning, OrderError
from tests.generate import clock, write_series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset


@pytest.mark.parametrize(
    ("name", "values", "order"),
    [
        ("EchoTime", (5, 10), "te"),
        ("FlipAngle", (10, 15), "fa"),
        ("DiffusionBValue", (0.0, 1000.0), "b"),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]), "image_type"),
        ("InversionTime", (200, 800), "InversionTime"),
    ],
)
def test_slices_of_several_volumes_are_told(tmp_path: Path, name: str, values: tuple[Any, Any], order: str) -> None:
    """Of two volumes half of the slices each are there: every place has one frame, and nothing seems to be missing."""

    def half(ds: Dataset, _t: int, z: int) -> None:
        setattr(ds, name, values[z // 2])

    write_series(tmp_path / "half", mutate=half)
    with pytest.warns(UserWarning, match=rf"slices of one volume differ in {name} \(.*InstanceNumber 1 and 3:"):
        ixr.open_series(tmp_path / "half")
    assert ixr.open_series(tmp_path / "half", order, missing="fill").present.values.sum(axis=1).tolist() == [2, 2]

    def both(ds: Dataset, t: int, z: int) -> None:
        setattr(ds, name, values[(t + z) % 2])

    write_series(tmp_path / "both", times=2, mutate=both)
    assert ixr.open_series(tmp_path / "both").dims[0] == order
    with pytest.warns(UserWarning, match="slices of one volume differ"):
        ixr.open_series(tmp_path / "both", "time")


@pytest.mark.parametrize(
    ("name", "values"), [("Units", ("BQML", "CNTS")), ("RescaleType", ("HU", "US")), ("DoseUnits", ("GY", "RELATIVE"))]
)
def test_slices_of_several_units_are_told(tmp_path: Path, name: str, values: tuple[str, str]) -> None:
    """Numbers of two units make one picture, of which neither half can be compared with the other."""

    def half(ds: Dataset, _t: int, z: int) -> None:
        setattr(ds, name, values[z // 2])

    write_series(tmp_path, mutate=half, rescale=(1, 0))
    with pytest.warns(UserWarning, match=rf"slices of one volume differ in {name} \({values[0]}, {values[1]}\)"):
        ixr.open_series(tmp_path)
    assert ixr.open_series(tmp_path, name, missing="fill").sizes[name] == 2


@pytest.mark.parametrize("together", [1, 2])
def test_slices_that_follow_one_inversion_are_no_mixture(tmp_path: Path, together: int) -> None:
    """Each slice, or as many as are read together, has a time of its own after the inversion."""

    def each(ds: Dataset, _t: int, z: int) -> None:
        ds.InversionTime = 500 + 40 * (z // together)

    write_series(tmp_path, slices=6, mutate=each)
    assert ixr.open_series(tmp_path).sizes["slice"] == 6


def write_in_turn(path: Path, told: dict[str, float], **own: tuple[Any, Any]) -> None:
    """Write slices 1.5 mm apart, of which every second one has other values of elements."""

    def each(ds: Dataset, _t: int, z: int) -> None:
        del ds.SpacingBetweenSlices
        for name, value in told.items():
            setattr(ds, name, value)
        for name, values in own.items():
            setattr(ds, name, values[z % 2])

    write_series(path, slices=8, gap=1.5, mutate=each)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("AcquisitionNumber", (1, 2)),
        ("SeriesTime", ("100000", "101500")),
        ("AcquisitionTime", (clock(36_000), clock(36_900))),
    ],
)
@pytest.mark.parametrize("told", [{"SpacingBetweenSlices": 3, "SliceThickness": 2}, {"SliceThickness": 3}])
def test_a_scan_between_the_slices_of_another_is_told(
    tmp_path: Path, name: str, values: tuple[Any, Any], told: dict[str, float]
) -> None:
    write_in_turn(tmp_path, told, **{name: values})
    with pytest.warns(UserWarning, match=rf"slices are 1\.5 mm apart.* says 3 mm; .* differs .* in {name} \("):
        ixr.open_series(tmp_path)
    one = ixr.open_series(tmp_path, where=lambda header: header.get(name) == values[0])
    assert (one.sizes["slice"], one.dicom.spacing[0]) == (4, pytest.approx(3))


@pytest.mark.parametrize("thickness", [0.75, 1.5, 5])
def test_a_ct_scan_between_the_slices_of_another_is_told_by_its_number(tmp_path: Path, thickness: float) -> None:
    """A CT need not tell the distance of its slices, which may be thinner, or lie one over the other."""
    told = {"SliceThickness": thickness, "SOPClassUID": CTImageStorage}
    write_in_turn(tmp_path / "two", told, AcquisitionNumber=(1, 2))
    with pytest.warns(UserWarning, match=r"slices are 1\.5 mm apart; every second .* AcquisitionNumber \(1, 2\)"):
        ixr.open_series(tmp_path / "two")


def write_overlapping(path: Path, places: Sequence[float], numbers: Sequence[int], spacing: float | None) -> None:
    """Write slices at places [mm] with numbers of acquisition."""

    def each(ds: Dataset, _t: int, z: int) -> None:
        ds.AcquisitionNumber, ds.SpacingBetweenSlices = numbers[z], spacing
        ds.ImagePositionPatient = [-10, -20, places[z]]

    write_series(path, slices=len(places), sop_class=CTImageStorage, mutate=each)


@pytest.mark.parametrize("offset", [1.5, 1, 0.7])
@pytest.mark.parametrize("spacing", [None, 3])
def test_scans_that_overlap_in_part_are_told(tmp_path: Path, offset: float, spacing: float | None) -> None:
    """Half a step apart slices seem to be missing where there is one scan only; but they are not."""
    first = [3.0 * z for z in range(8)]
    second = [15 + offset + 3 * z for z in range(8)]
    write_overlapping(tmp_path, first + second, [1] * 8 + [2] * 8, spacing)
    said = rf"AcquisitionNumber 1 \(0 to 21 mm, 3 mm apart\) lie between those of 2 \({15 + offset:g} to .*two scans"
    with pytest.warns(UserWarning, match=said) as told:
        ixr.open_series(tmp_path)
    assert len(told) == 1
    one = ixr.open_series(tmp_path, where=lambda header: header.AcquisitionNumber == 2)
    assert one.slice.values.tolist() == pytest.approx(second)


def test_a_slice_missing_of_two_concatenations_is_no_overlap(tmp_path: Path) -> None:
    """Without the second slice both halves are evenly spaced; the header tells which distance is the right one."""
    write_overlapping(tmp_path, [0, 2, 3, 4, 5, 6, 7], [1, 1, 2, 1, 2, 1, 2], 1)
    with pytest.warns(MissingSlicesWarning, match="1 slice seems to be missing"):
        ixr.open_series(tmp_path)


def test_scans_one_after_the_other_do_not_overlap(tmp_path: Path) -> None:
    places = [0, 3, 6, 9, 14, 19, 24, 29]
    write_overlapping(tmp_path, places, [1] * 4 + [2] * 4, None)
    assert ixr.open_series(tmp_path).slice.values.tolist() == places


@pytest.mark.parametrize("numbers", [range(8), (1, 1, 2, 2, 1, 1, 2, 2), (1, 1, 1, 1, 2, 2, 2, 2)])
def test_ct_slices_of_one_scan_may_have_numbers_of_acquisition(tmp_path: Path, numbers: Sequence[int]) -> None:
    """A scanner that moves the table step by step counts its turns."""

    def each(ds: Dataset, _t: int, z: int) -> None:
        ds.AcquisitionNumber, ds.SliceThickness = numbers[z], 5

    write_series(tmp_path, slices=8, gap=1.5, sop_class=CTImageStorage, mutate=each)
    assert ixr.open_series(tmp_path).sizes["slice"] == 8


def test_ct_slices_whose_distance_is_told_are_of_one_scan(tmp_path: Path) -> None:
    told = {"SpacingBetweenSlices": 1.5, "SliceThickness": 3, "SOPClassUID": CTImageStorage}
    write_in_turn(tmp_path, told, AcquisitionNumber=(1, 2))
    assert ixr.open_series(tmp_path).sizes["slice"] == 8


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ({"SpacingBetweenSlices": 1.5, "SliceThickness": 3}, (36_000, 36_900)),
        ({"SliceThickness": 1.5}, (36_000, 36_900)),
        ({"SliceThickness": 3}, (36_000, 36_000)),
    ],
    ids=["interleaved", "interleaved, distance not told", "overlapping reconstruction"],
)
def test_slices_of_one_scan_are_taken_in_any_order(
    tmp_path: Path, told: dict[str, float], values: tuple[float, float]
) -> None:
    """First every second slice is acquired, then the others; or thick slices are computed at small steps."""
    write_in_turn(tmp_path, told, AcquisitionTime=(clock(values[0]), clock(values[1])))
    assert ixr.open_series(tmp_path).sizes["slice"] == 8


def test_noise_in_an_echo_time_makes_no_other_volume(tmp_path: Path) -> None:
    def noise(ds: Dataset, _t: int, z: int) -> None:
        ds.EchoTime = 5 + 0.01 * z

    write_series(tmp_path, mutate=noise)
    assert ixr.open_series(tmp_path).sizes["slice"] == 4


def write_lacking(path: Path, lower: int, upper: int) -> None:
    """Write volumes of which the lower slices lack one and the upper slices another; each slice has its own time."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(36_000 + 2.5 * t + 0.6 * z)
        ds.skip = t == (upper if z > 1 else lower)

    write_series(path, times=6, mutate=each)


def test_slices_that_each_lack_another_volume_are_told(tmp_path: Path) -> None:
    """A part of the transfer failed, and each slice has as many frames as the others."""
    write_lacking(tmp_path / "in", lower=3, upper=2)
    with pytest.warns(UserWarning, match=r"slices of volume 2 \(time 5 s\).* may be made of two volumes"):
        image = ixr.open_series(tmp_path / "in")
    assert image.values[2, :, 0, 0].tolist() == [2, 2, 3, 3]
    write_lacking(tmp_path / "other", lower=2, upper=3)
    with pytest.raises(OrderError, match="no order sorts"):
        ixr.open_series(tmp_path / "other")
    write_lacking(tmp_path / "same", lower=2, upper=2)
    assert ixr.open_series(tmp_path / "same").sizes["time"] == 5


def test_slices_that_a_slow_scan_takes_are_no_mixture(tmp_path: Path) -> None:
    """Passes over several beds of a PET last longer and longer, and each slice is as much later."""
    steps = np.cumsum([0, 60, 60, 60, 120, 120, 240, 240])

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(
            36_000 + steps[t] + 0.2 * z * [60, 60, 60, 120, 120, 240, 240, 240][t]
        )

    write_series(tmp_path, times=8, mutate=each)
    assert ixr.open_series(tmp_path).time.values.tolist() == steps.tolist()


def test_repetitions_that_another_element_tells_apart_are_not_mixed(tmp_path: Path) -> None:
    """Numbers of instances go to and fro, and repetitions of a b-value were counted by these."""
    position = ("END_DIASTOLE", "END_SYSTOLE")

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.DiffusionBValue = [0.0, 1000.0][t // 2]
        ds.CardiacCyclePosition = position[t % 2]
        ds.InstanceNumber = 10 * (t + (z % 2) * (1 - 2 * (t % 2))) + z

    write_series(tmp_path, times=4, per_time={"EchoTime": [5] * 4}, mutate=each)
    image = ixr.open_series(tmp_path)
    assert dict(image.sizes) == {"b": 2, "CardiacCyclePosition": 2, "slice": 4, "row": 8, "col": 6}
    assert image.values[..., 0, 0].tolist() == [[[0] * 4, [1] * 4], [[2] * 4, [3] * 4]]


def test_slices_of_exchanged_volumes_are_told(tmp_path: Path) -> None:
    """All slices have both values of the element, which the order does not look at."""

    def each(ds: Dataset, t: int, z: int) -> None:
        ds.KVP = ["80", "140"][(t + z) % 2]

    write_series(tmp_path, times=2, mutate=each)
    with pytest.warns(UserWarning, match="slices of one volume differ in KVP"):
        ixr.open_series(tmp_path, "time")


@pytest.mark.parametrize("kind", ["ADC", "TRACEW"])
def test_maps_along_time_are_told(tmp_path: Path, kind: str) -> None:
    """Where an ADC map has no b-value no order of both fills the grid, and they have times of their own."""

    def mixed(ds: Dataset, t: int, _z: int) -> None:
        ds.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", ["TRACEW", "TRACEW", kind][t]]
        if t < 2 or kind == "TRACEW":
            ds.DiffusionBValue = [50.0, 800.0, 800.0][t]

    write_series(tmp_path, times=3, mutate=mixed)
    if kind == "TRACEW":
        assert ixr.open_series(tmp_path, "time").sizes["time"] == 3
        return
    named = ixr.open_series(tmp_path, {"time": lambda header: header.AcquisitionTime})
    assert named.sizes["time"] == 3, "labels of the user's own may be text, and are what the user knows"
    with pytest.warns(UserWarning, match=r"several kinds: ImageType is .*TRACEW at 0 s and .*ADC at 5 s"):
        ixr.open_series(tmp_path)


@pytest.mark.parametrize("names", [("C:HE1", "C:HE2", "C:HE3"), ("C:HE1-4", "C:HE1-4", "C:HE1-4")])
def test_coils_along_time_are_told(tmp_path: Path, names: Sequence[str]) -> None:
    """Images of single coils are of one moment, and each was reconstructed at another."""

    def coil(ds: Dataset, t: int, z: int) -> None:
        ds.Manufacturer = "SIEMENS"
        ds.private_block(0x0051, "SIEMENS MR HEADER", create=True).add_new(0x0F, "LO", names[t])
        ds.AcquisitionTime, ds.ContentTime = clock(36_000 + z), clock(36_100 + t)

    write_series(tmp_path, times=3, mutate=coil)
    if len(set(names)) == 1:
        assert ixr.open_series(tmp_path).sizes["time"] == 3
        return
    with pytest.warns(UserWarning, match=r"one coil each.*\(C:HE1, C:HE2, C:HE3\).*order=\{'coil': '\(0051,100F\)'\}"):
        ixr.open_series(tmp_path)
    assert ixr.open_series(tmp_path, {"coil": "(0051,100F)"}).coil.values.tolist() == list(names)
