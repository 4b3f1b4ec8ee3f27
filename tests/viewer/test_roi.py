"""Regions: which voxels are inside, what is measured there, and where they are in the patient."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import imagedata_xr as ixr
from imagedata_xr.errors import GeometryError
from imagedata_xr.origins import Origin, assign_origins
from imagedata_xr.positions import assign_positions
from imagedata_xr.templates import copy_geometry
from imagedata_xr.viewer.panel import frame_of_reference, place_of
from imagedata_xr.viewer.roi import Roi, load_rois, roi_mask, roi_statistics, save_rois
from tests.generate import AXIAL, CORONAL, OBLIQUE, SAGITTAL, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TRIANGLE = ((2.3, 2.6), (3.1, 12.7), (14.4, 6.2))


def opened(folder: Path, **options: object) -> xr.DataArray:
    write_series(folder, rows=20, cols=18, **options)  # type: ignore[arg-type]
    return ixr.open_series(folder, "time")


number = st.floats(-3, 22, allow_nan=False)
corner = st.tuples(number.map(lambda x: round(x, 3) + 0.0001234), number.map(lambda x: round(x, 3) + 0.0002718))
"""No edge goes through the centre of a pixel, where rules may differ."""


@given(st.lists(corner, min_size=3, max_size=9))
def test_inside_a_polygon_is_what_scikit_image_says(vertices: list[tuple[float, float]]) -> None:
    draw = pytest.importorskip("skimage.draw")
    found = Roi("a", 0, tuple(vertices)).inside((20, 18))
    assert (found == draw.polygon2mask((20, 18), np.array(vertices))).all()


@given(st.tuples(corner, st.floats(0.6, 9), st.floats(0.6, 9), st.floats(0, 3.1)))
def test_inside_an_ellipse_is_what_scikit_image_says(told: tuple[tuple[float, float], float, float, float]) -> None:
    draw = pytest.importorskip("skimage.draw")
    (row, col), along, across, turned = told
    cos, sin = np.cos(turned), np.sin(turned)
    ends = ((row + along * cos, col + along * sin), (row + across * sin, col - across * cos))
    found = Roi("a", 0, ((row, col), *ends), "ellipse").inside((20, 18))
    wanted: NDArray[np.bool_] = np.zeros((20, 18), bool)
    wanted[draw.ellipse(row, col, along, across, shape=(20, 18), rotation=turned)] = True
    rows, cols = np.mgrid[:20, :18]
    on_edge = np.isclose(
        (((rows - row) * cos + (cols - col) * sin) / along) ** 2
        + (((rows - row) * sin - (cols - col) * cos) / across) ** 2,
        1,
    )
    assert ((found == wanted) | on_edge).all()


def test_a_mask_has_the_place_of_the_image(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=3, slices=4, orientation=OBLIQUE)
    mask = image.dicom.roi_mask([Roi("a", 1, TRIANGLE), Roi("b", 2, TRIANGLE)])
    assert mask.dims == ("slice", "row", "col")
    assert mask.dtype == bool
    assert mask.dicom.geometry_equal(image)
    assert mask.sum(("row", "col")).values.tolist() == [0, *[Roi("a", 1, TRIANGLE).inside((20, 18)).sum()] * 2, 0]
    averages = image.where(mask).mean(("slice", "row", "col"))
    assert averages.values == pytest.approx([image.values[t][mask.values].mean() for t in range(3)])
    of_tag = image.dicom.roi_mask([Roi("a", 1, TRIANGLE, tags=(2,))])
    assert of_tag.dims == image.dims
    assert of_tag.any(("slice", "row", "col")).values.tolist() == [False, False, True]
    assert (of_tag.time == image.time).all()


def test_a_mask_reads_no_pixels(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=1, slices=4)
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert image.dicom.roi_mask([Roi("a", 1, TRIANGLE)]).any()


def test_statistics_are_those_of_the_voxels(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=3, slices=4, spacing=(1.5, 2.0), gap=3.0)
    rois = [Roi("liver", 1, TRIANGLE), Roi("liver", 2, TRIANGLE), Roi("spleen", 3, TRIANGLE, tags=(1,))]
    found = image.dicom.roi_statistics(rois)
    assert found.roi.values.tolist() == ["liver", "spleen"]
    inside = rois[0].inside((20, 18))
    values = image.values[:, 1:3][:, :, inside].reshape(3, -1)
    liver = found.sel(roi="liver")
    for name in ("mean", "std", "min", "max"):
        assert liver[name].values == pytest.approx(getattr(values, name)(axis=1))
    assert liver["count"].values.tolist() == [2 * inside.sum()] * 3
    assert liver["volume"].values == pytest.approx([2 * inside.sum() * 9.0] * 3)
    assert found["mean"].sel(roi="spleen").notnull().values.tolist() == [False, True, False]
    assert (found.time == image.time).all()


def test_of_complex_values_the_magnitude_is_measured(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", slices=2)
    phase = np.exp(1j * np.linspace(0, 6, image.sizes["col"]))
    turned = image * xr.DataArray(phase, dims="col", coords={"col": image.col})
    rois = [Roi("a", 1, TRIANGLE)]
    xr.testing.assert_allclose(roi_statistics(turned, rois), roi_statistics(image, rois))
    assert roi_statistics(turned.astype("complex64"), rois)["mean"].dtype == np.float64


@pytest.mark.parametrize("size", [18, 15])
def test_statistics_do_not_depend_on_the_order_of_dims(tmp_path: Path, size: int) -> None:
    image = opened(tmp_path / "in", times=2, slices=4).isel(row=slice(0, 18), col=slice(0, size))
    rois = [Roi("a", 1, TRIANGLE), Roi("a", 2, TRIANGLE, tags=(1,))]
    wanted = roi_statistics(image, rois)
    for dims in (("time", "slice", "col", "row"), ("col", "row", "slice", "time"), ("slice", "time", "row", "col")):
        turned = image.transpose(*dims)
        xr.testing.assert_allclose(roi_statistics(turned, rois), wanted)
        inside = turned.where(turned.dicom.roi_mask(rois))
        assert inside.mean(("slice", "row", "col")).values == pytest.approx(wanted["mean"].values[0])
    flat = image.isel(time=0, slice=1)
    found = roi_statistics(flat.transpose("col", "row"), [Roi("a", 0, TRIANGLE)])
    xr.testing.assert_allclose(found, roi_statistics(flat, [Roi("a", 0, TRIANGLE)]))


def test_each_colour_is_measured_and_each_pixel_counted_once(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=2, slices=4)
    colours = image.dicom.to_rgb("Viridis256")
    rois = [Roi("a", 1, TRIANGLE), Roi("b", 2, TRIANGLE, tags=(1,))]
    grey, found = roi_statistics(image, rois), roi_statistics(colours, rois)
    for name in ("count", "volume"):
        xr.testing.assert_identical(found[name], grey[name])
    assert found["mean"].dims == ("roi", "time", "rgb")
    inside = colours.where(colours.dicom.roi_mask(rois[:1]))
    assert found["mean"].values[0] == pytest.approx(inside.mean(("slice", "row", "col")).values)
    xr.testing.assert_identical(roi_statistics(colours.transpose("rgb", "row", ...), rois), found)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("change", ["as it is", "reversed", "cropped", "tilted"])
def test_outlines_are_kept_in_patient_coordinates(tmp_path: Path, orientation: tuple[float, ...], change: str) -> None:
    shear = (0.2, 0.0) if change == "tilted" else (0.0, 0.0)
    image = opened(tmp_path / "in", times=1, slices=5, orientation=orientation, shear=shear)
    rois = [Roi("a", 2, TRIANGLE), Roi("b", 3, ((5.1, 5.2), (9.3, 5.2), (5.1, 8.4)), "ellipse")]
    save_rois(rois, image, tmp_path / "rois.json")
    points = json.loads((tmp_path / "rois.json").read_text())["rois"][0]["points"]
    row, col = TRIANGLE[1]
    affine = image.dicom.affine
    assert points[1] == pytest.approx((affine @ [2, row, col, 1])[:3], abs=1e-5)
    assert load_rois(tmp_path / "rois.json", image)[0].vertices == pytest.approx(np.array(TRIANGLE), abs=1e-4)
    other = {
        "reversed": image.isel(slice=slice(None, None, -1), row=slice(None, None, -1)),
        "cropped": image.isel(slice=slice(1, None), row=slice(2, None), col=slice(1, None)),
    }.get(change, image)
    mask = roi_mask(image, rois)
    there = roi_mask(other, load_rois(tmp_path / "rois.json", other))
    wanted = {"reversed": mask.values[::-1, ::-1], "cropped": mask.values[1:, 2:, 1:]}.get(change, mask.values)
    assert (there.values == wanted).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda roi: roi.pop("points"), "outline 2 of 2, has no points: it was edited"),
        (lambda roi: (roi.pop("name"), roi.pop("kind")), "has no kind, name"),
        (lambda roi: roi.update(points=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "'b': points are lists of x, y and z"),
        (lambda roi: roi.update(points=[[1, 2, 3], [4, 5]]), "'b': points are lists of x, y and z"),
        (lambda roi: roi.update(points=[[1, 2, None]] * 3), "'b': points are lists of x, y and z"),
        (lambda roi: roi.update(points=[["1 mm", "2", "3"]] * 3), "'b': points are lists of x, y and z"),
        (lambda roi: roi["tags"]["time"].pop("label"), "'b': what is told along time has no label"),
        (lambda roi: roi.update(kind="circle"), "'b' is a circle with 3 vertices; polygon or ellipse"),
    ],
    ids=range(8),
)
def test_a_file_that_was_edited_is_told_with_what_it_lacks(tmp_path: Path, change: Any, told: str) -> None:
    image = opened(tmp_path / "in", times=2, slices=5)
    file = save_rois([Roi("a", 2, TRIANGLE), Roi("b", 1, TRIANGLE, tags=(1,))], image, tmp_path / "rois.json")
    document = json.loads(file.read_text())
    change(document["rois"][1])
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=told):
        load_rois(file, image)


def test_outlines_of_another_place_are_refused(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=1, slices=5, gap=3.0)
    save_rois([Roi("a", 2, TRIANGLE)], image, tmp_path / "rois.json")
    between = image.assign_coords(slice=image.slice.values + 1.4).dicom.index_positions()
    with pytest.raises(GeometryError, match=r"ROI 'a' lies 1\.40 mm off the nearest slice"):
        load_rois(tmp_path / "rois.json", between)
    elsewhere = opened(tmp_path / "other", times=1, slices=5, gap=3.0, patient="other")
    with pytest.raises(ValueError, match="is of frame of reference"):
        load_rois(tmp_path / "rois.json", elsewhere)
    with pytest.raises(FileExistsError):
        save_rois([Roi("a", 2, TRIANGLE)], image, tmp_path / "rois.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="no regions of interest"):
        load_rois(tmp_path / "other.json", image)
    with pytest.raises(TypeError, match=r"this is one: \[roi\]"):
        save_rois(Roi("a", 2, TRIANGLE), image, tmp_path / "one.json")  # type: ignore[arg-type] # that is the point
    with pytest.raises(GeometryError, match="no place"):
        save_rois([Roi("a", 0, TRIANGLE)], xr.DataArray(np.zeros((20, 18)), dims=("row", "col")), tmp_path / "x.json")


@pytest.mark.parametrize(
    ("roi", "told"),
    [
        (Roi("a", 9, TRIANGLE), "slice 9; the image has 4"),
        (Roi("a", -1, TRIANGLE), "slice -1"),
        (Roi("a", 0, TRIANGLE, tags=(7,)), r"\(7,\) along \['time'\]"),
        (Roi("a", 0, TRIANGLE, tags=()), r"\(\) along"),
    ],
)
def test_outlines_on_no_frame_are_refused(tmp_path: Path, roi: Roi, told: str) -> None:
    image = opened(tmp_path / "in", times=3, slices=4)
    with pytest.raises(ValueError, match=told):
        roi_mask(image, [roi])


def test_what_is_no_outline_is_refused() -> None:
    image = xr.DataArray(np.zeros((2, 4, 4)), dims=("slice", "row", "col"))
    for function in (roi_mask, roi_statistics):
        with pytest.raises(TypeError, match=r"a Roi, not list: .*Roi\(name, slice, \(\(row, col\)"):
            function(image, [[(1, 1), (1, 3), (3, 3)]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="2 vertices"):
        Roi("a", 0, ((0, 0), (1, 1)))
    with pytest.raises(ValueError, match="not a number"):
        Roi("a", 0, ((0, 0), (1, 1), (np.nan, 1)))
    with pytest.raises(ValueError, match="there are no regions"):
        roi_statistics(xr.DataArray(np.zeros((2, 2)), dims=("row", "col")), [])


@given(st.integers(0, 4), st.floats(-5, 25), st.floats(-5, 25))
def test_places_and_points_are_inverse(slice_: int, row: float, col: float) -> None:
    zeros = xr.DataArray(np.zeros((5, 20, 18)), dims=("slice", "row", "col"))
    positions = {"slice": 3.0 * np.arange(5), "row": 1.5 * np.arange(20) - 7, "col": 2.0 * np.arange(18)}
    image = assign_positions(zeros, positions, OBLIQUE, (0.1, 0.05), origin=Origin("p", "1.2", "1.3", "1.4"))
    place = place_of(image.isel(row=slice(None, None, -1)))
    index = np.array([[slice_, row, col]])
    assert place.index(place.points(index)) == pytest.approx(index, abs=1e-6)


def test_no_frame_of_reference_is_not_that_of_another_image(tmp_path: Path) -> None:
    roi, file = Roi("a", 2, TRIANGLE), tmp_path / "rois.json"
    one, two, third = (opened(tmp_path / name, times=1, slices=5, patient=name) for name in ("one", "two", "third"))
    both = one - two
    assert [frame_of_reference(image) for image in (both, both + third, both.assign_attrs(one.attrs))] == [""] * 3
    assert frame_of_reference(one.drop_attrs(deep=False)) == one.attrs["FrameOfReferenceUID"]
    contradicted = one.assign_attrs(FrameOfReferenceUID="1.2.3")
    for image in (both, both + third, contradicted):
        with pytest.raises(GeometryError, match="has not one frame of reference"):
            save_rois([roi], image, file)
    save_rois([roi], one, file)
    for image in (both, third - two):
        with pytest.raises(GeometryError, match="has not one frame of reference"):
            load_rois(file, image)
    assert load_rois(file, copy_geometry(both, one)) == [roi]
    file.write_text(file.read_text().replace(one.attrs["FrameOfReferenceUID"], ""))
    with pytest.raises(GeometryError, match=r"rois\.json has no FrameOfReferenceUID"):
        load_rois(file, one)
    bare = assign_origins(one, [Origin("", "", "", "")]).drop_attrs(deep=False).assign_attrs(FrameOfReferenceUID="1.2")
    save_rois([roi], bare.dicom.index_positions(), tmp_path / "bare.json")


def test_a_tag_is_found_by_its_label(tmp_path: Path) -> None:
    image, file = opened(tmp_path / "in", times=4, slices=4), tmp_path / "rois.json"
    save_rois([Roi("a", 1, TRIANGLE, tags=(2,))], image, file)
    measured = roi_statistics(image, [Roi("a", 1, TRIANGLE, tags=(2,))])["mean"].values[0, 2]
    late = image.assign_coords(time=image.time.values + 0.1 * float(image.time[1])).dicom.index_positions()
    for other in (image, image[2:], image[::-1], image[[3, 0, 2]], late, image[2:3], image.transpose("row", ...)):
        roi = load_rois(file, other)[0]
        assert float(abs(other.time[roi.tags[0]] - image.time[2])) < 0.3
        assert roi_statistics(other, [roi])["mean"].values[0, roi.tags[0]] == pytest.approx(measured)
    for other in (image[:2], image.assign_coords(time=image.time.values * 1.4).dicom.index_positions()):
        with pytest.raises(ValueError, match=r"ROI 'a' holds for time .* which the image has 0 times"):
            load_rois(file, other)
    with pytest.raises(ValueError, match="has the tag dims"):
        load_rois(file, image[0])
    with pytest.raises(ValueError, match="has no label"):
        save_rois([Roi("a", 1, TRIANGLE, tags=(2,))], image.drop_vars("time"), tmp_path / "x.json")
    twice = image.assign_coords(time=[0.0, 1.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="number 2 along time only, which has no label of its own"):
        save_rois([Roi("a", 1, TRIANGLE, tags=(2,))], twice, tmp_path / "x.json")
    told = json.loads(file.read_text())
    told["version"], told["rois"][0]["tags"] = 1, {"time": 2}
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="number 2 along time, as files of version 1"):
        load_rois(file, image)


def test_names_are_labels_too(tmp_path: Path) -> None:
    image = opened(tmp_path / "in", times=3, slices=4).rename(time="kind").drop_vars("kind")
    image = image.assign_coords(kind=["water", "fat", "in phase"])
    roi = Roi("a", 1, TRIANGLE, tags=(1,))
    save_rois([roi], image, tmp_path / "rois.json")
    assert load_rois(tmp_path / "rois.json", image[::-1])[0].tags == (1,)
    assert load_rois(tmp_path / "rois.json", image[1:])[0].tags == (0,)


corners_on_pixels = st.lists(
    st.tuples(*[st.integers(-2, 44).map(lambda n: n / 2)] * 2), min_size=3, max_size=6, unique=True
)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_a_file_brings_back_the_same_mask(tmp_path_factory: pytest.TempPathFactory, orientation: object) -> None:
    folder = tmp_path_factory.mktemp("rois")
    image = opened(folder / "in", times=1, slices=4, orientation=orientation, spacing=(0.7, 0.43), gap=3.3)

    @settings(max_examples=15)
    @given(corners_on_pixels)
    def holds(vertices: list[tuple[float, float]]) -> None:
        rois = [Roi("a", 2, tuple(vertices)), Roi("b", 2, ((30 / 7, 4.0), (9.25, 4.0), (4.0, 8.5)), "ellipse")]
        save_rois(rois, image, folder / "rois.json", overwrite=True)
        again = load_rois(folder / "rois.json", image)
        assert again[0].vertices == rois[0].vertices
        assert (roi_mask(image, again) == roi_mask(image, rois)).all()

    holds()
