"""Frames of one orientation, size and line are one stack; others are told apart and described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

import imagedata_xr as ixr
from imagedata_xr.dicom.column import column_of
from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.stacks import describe_stacks, split_stacks
from imagedata_xr.dicom.table import FrameTable
from imagedata_xr.elements import Raw, tag
from imagedata_xr.errors import MixedSeriesError
from tests.generate import AXIAL, CORONAL, OBLIQUE, axes, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import Dataset


def stacks(folder: Path) -> list[Any]:
    (table,) = scan(folder).values()
    return split_stacks(table)


def table_of(positions: np.ndarray, orientation: Any = AXIAL) -> FrameTable:
    """Return the table of frames at some positions, without files."""
    n = len(positions)
    common = {
        tag("ImageOrientationPatient"): Raw("DS", "\\".join(map(repr, map(float, orientation))).encode()),
        tag("Rows"): Raw("US", b"\x08\0"),
        tag("Columns"): Raw("US", b"\x08\0"),
        tag("PixelSpacing"): Raw("DS", b"1\\1 "),
    }
    places = ["\\".join(map(repr, map(float, p))).encode() for p in positions]
    varying = {tag("ImagePositionPatient"): column_of("DS", places)}
    zeros = np.zeros(n, np.int64)
    paths, tiles = [f"/{k}" for k in range(n)], np.zeros((n, 4), np.int64)
    return FrameTable(common, varying, paths, zeros, zeros, [""] * n, zeros, zeros, zeros, zeros, tiles)


@given(
    seed=st.integers(0, 10**6),
    slices=st.integers(1, 20),
    volumes=st.integers(1, 4),
    gap=st.floats(0.1, 50),
    shear=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_stack_in_any_order(seed: int, slices: int, volumes: int, gap: float, shear: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    n, down, right = axes(OBLIQUE)
    number = rng.permutation(np.repeat(np.arange(slices), volumes))
    step = gap * (n + shear[0] * down + shear[1] * right)
    positions = rng.uniform(-200, 200, 3) + number[:, None] * step + rng.uniform(-1e-6, 1e-6, (len(number), 3))
    (stack,) = split_stacks(table_of(positions, OBLIQUE))
    assert stack.count == slices
    assert (stack.slices == number).all()
    assert stack.positions is not None
    assert np.abs(stack.positions - (positions[number.argmin()] + np.arange(slices)[:, None] * step)).max() < 1e-4


def change(where: Callable[[int, int], bool], **elements: Any) -> Callable[[Dataset, int, int], None]:
    def mutate(ds: Dataset, t: int, z: int) -> None:
        if where(t, z):
            ds.update(elements)

    return mutate


def test_two_orientations(tmp_path: Path) -> None:
    write_series(tmp_path, slices=4, mutate=change(lambda _t, z: z == 3, ImageOrientationPatient=list(CORONAL)))
    parts = stacks(tmp_path)
    assert len(parts) == 2
    text = describe_stacks(parts)
    assert "3 frames of 8×6, 3 slices" in text
    assert "1 frame of 8×6, 1 slice," in text
    with pytest.raises(MixedSeriesError, match="the series has 2 stacks") as caught:
        ixr.open_series(tmp_path, "none")
    assert str(caught.value).endswith("with open_study(source), or give the files of one as a list")


def test_orientation_that_jitters(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.ImageOrientationPatient = [1, 1e-4 * z, 0, -1e-4 * z, 1, 0]

    write_series(tmp_path, slices=4, mutate=mutate)
    assert len(stacks(tmp_path)) == 1


@pytest.mark.parametrize("mm", [0.05, 5.0])
def test_two_stacks_side_by_side(tmp_path: Path, mm: float) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z >= 3:
            ds.ImagePositionPatient = [float(ds.ImagePositionPatient[0]) + mm, *ds.ImagePositionPatient[1:]]

    write_series(tmp_path, slices=6, mutate=mutate)
    assert len(stacks(tmp_path)) == (1 if mm < 0.1 else 2)


def test_frames_with_and_without_a_place(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 2:
            del ds.ImagePositionPatient

    write_series(tmp_path, slices=4, mutate=mutate)
    with pytest.raises(MixedSeriesError, match="1 frame of 8×6, no place in the patient"):
        ixr.open_series(tmp_path, "none")


@pytest.mark.parametrize(
    "position", [["1", "2"], ["1", "2", "nan"], ["1", "2", "x"], ["inf", "0", "0"]], ids=["two", "nan", "text", "inf"]
)
def test_position_that_is_none(position: list[str]) -> None:
    table = table_of(np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2]]))
    column = table.varying[tag("ImagePositionPatient")]
    column.values[column.codes[1]] = "\\".join(position).encode()
    parts = split_stacks(table)
    assert [len(p.table) for p in parts] == [2, 1]
    assert parts[1].positions is None
    said = describe_stacks(parts).splitlines()
    assert said[0].endswith("towards HPL")
    assert "no place in the patient, ImagePositionPatient is [" in said[1]
    assert said[1].endswith("where 3 numbers are wanted")


def test_stacks_of_one_place_are_told_apart_in_words(tmp_path: Path) -> None:
    write_series(tmp_path, slices=4, mutate=change(lambda _t, z: z > 1, PixelSpacing=[1.5, 2.000002]))
    with pytest.raises(MixedSeriesError) as error:
        ixr.open_series(tmp_path)
    assert "HPL, PixelSpacing 1.5\\2.0\n" in str(error.value)
    assert "HPL, PixelSpacing 1.5\\2.000002\n" in str(error.value)


def test_pixel_spacings_that_were_rounded_are_one(tmp_path: Path) -> None:
    """And each file keeps its own in what is written."""
    told = ["0.4882812", "0.4882813", "0.48828125", "0.488281"]

    def rounded(ds: Dataset, _t: int, z: int) -> None:
        ds.PixelSpacing = [told[z], told[z]]

    write_series(tmp_path / "in", mutate=rounded)
    image = ixr.open_series(tmp_path / "in")
    assert image.sizes["slice"] == 4
    assert image.dicom.spacing[1:] == pytest.approx((0.48828125, 0.48828125), abs=1e-6)
    image.dicom.write(tmp_path / "out")
    written = [dcmread(path) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {str(ds.PixelSpacing[0].original_string) for ds in written} == set(told)
    assert {ds.ImageType[0] for ds in written} == {"ORIGINAL"}


def test_localizer_of_three_directions(tmp_path: Path) -> None:
    for k, orientation in enumerate((AXIAL, CORONAL, OBLIQUE)):
        write_series(
            tmp_path / str(k),
            slices=1 + k,
            orientation=orientation,
            patient="P1",
            mutate=lambda ds, t, z, k=k: setattr(ds, "SOPInstanceUID", f"1.2.{k}.{z}"),
        )
    with pytest.raises(MixedSeriesError, match="3 stacks"):
        ixr.open_series(tmp_path, "none")
    tree = ixr.open_study(tmp_path)
    assert sorted(node["image"].sizes["slice"] for node in tree.subtree if "image" in node) == [1, 2, 3]


def _write_blocks(folder: Path, *blocks: tuple[tuple[float, float, float], int, float], **options: Any) -> None:
    """Write blocks of one series: origin, count and distance of the slices of each."""
    for k, (origin, slices, gap) in enumerate(blocks):

        def change(ds: Dataset, t: int, z: int, k: int = k) -> None:
            ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.{k}.{t}.{z}", 100 * k + z + 1

        write_series(folder / str(k), slices=slices, gap=gap, origin=origin, mutate=change, **options)


@pytest.mark.parametrize("origin", [(-10, -10, 48), (-10, -10, 30), (-10, -20, 60), (-4, -20, 30)])
def test_blocks_of_a_tilted_gantry_are_a_stack_each(tmp_path: Path, origin: tuple[float, float, float]) -> None:
    """Beside the line of the first or above it, in any place."""
    _write_blocks(tmp_path, ((-10, -20, 30), 6, 3), (origin, 5, 5), times=2, shear=(0.3, 0))
    assert [(len(part.table), part.count) for part in stacks(tmp_path)] == [(12, 6), (10, 5)]
    tree = ixr.open_study(tmp_path)
    images = [node["image"] for node in tree.leaves]
    assert [image.sizes["slice"] for image in images] == [6, 5]
    for image in images:
        assert image.attrs["slice_shear"] == pytest.approx([0.3, 0])
    with pytest.raises(MixedSeriesError, match=r"6 slices, from \(-10, -20, 30\) to \(-10, -15.5, 45\) mm, axes"):
        ixr.open_series(tmp_path)


def test_slices_that_lie_anywhere_are_a_stack_each(tmp_path: Path) -> None:
    """Two of them always lie along a line."""
    places = [(3, 40), (25, 8), (44, 31), (12, 17), (37, 2), (8, 29)]
    _write_blocks(tmp_path, *(((x, y, 30 + 20 * k), 1, 3) for k, (x, y) in enumerate(places)))
    assert [part.count for part in stacks(tmp_path)] == [1] * 6


def test_straight_blocks_in_a_row_are_not_taken_for_tilted_ones(tmp_path: Path) -> None:
    _write_blocks(tmp_path, *(((2.0 * k, 0, 0), 3, 3) for k in range(6)))
    assert [part.count for part in stacks(tmp_path)] == [3] * 6


def test_slices_thinner_than_pixels_are_slices(tmp_path: Path) -> None:
    def later(ds: Dataset, _t: int, z: int) -> None:
        ds.AcquisitionTime = f"1000{z:02d}"

    write_series(tmp_path, slices=6, gap=0.005, spacing=(0.1, 0.1), mutate=later)
    image = ixr.open_series(tmp_path)
    assert dict(image.sizes) == {"slice": 6, "row": 8, "col": 6}
    assert np.allclose(np.diff(image.slice), 0.005)


def test_fields_of_view_side_by_side_under_a_microscope_are_no_volumes_of_one(tmp_path: Path) -> None:
    def beside(ds: Dataset, t: int, _z: int) -> None:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [float(x) + 0.06 * t, y, z]

    write_series(tmp_path, times=2, gap=0.01, spacing=(0.01, 0.01), mutate=beside)
    with pytest.raises(MixedSeriesError, match="2 stacks"):
        ixr.open_series(tmp_path)
