"""The geometry of an image is right after everything one does to it."""

from __future__ import annotations

import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

from imagedata_xr.errors import GeometryError
from imagedata_xr.indexes import PositionIndex, TagIndex
from imagedata_xr.origins import ORIGIN_PREFIX, origins
from imagedata_xr.placement import frame, frame_names
from imagedata_xr.positions import (
    affine,
    affine_ras,
    assign_geometry,
    assign_positions,
    axes,
    direction_cosines,
    geometry_equal,
    image_position,
    index_positions,
    is_evenly_spaced,
    map_indices_to_reference,
    map_reference_to_indices,
    patient_coords,
    patient_orientation,
    sel_patient,
    spacing,
)
from imagedata_xr.turning import to_patient_orientation
from tests.places import AXIAL, ORIGIN, OTHER, PLACES, SPACING, assert_at_its_place, coordinate_image, image

EVEN = [name for name in PLACES if name != "uneven"]


def of_microscope(**places):
    """Return an image of four voxels a side, 0.01 mm apart."""
    sides = {dim: 0.01 * np.arange(4.0) for dim in ("slice", "row", "col")}
    return assign_positions(
        xr.DataArray(np.zeros((4, 4, 4)), dims=tuple(sides)), sides | places, [1, 0, 0, 0, 1, 0], origin=ORIGIN
    )


def test_a_mirrored_image_of_a_microscope_is_not_given_the_place_of_its_image():
    da = of_microscope()
    for dim in da.dims:
        with pytest.raises(GeometryError, match="would be mirrored"):
            assign_geometry(da.isel({dim: slice(None, None, -1)}), like=da)


@hypothesis.given(
    point=st.tuples(*[st.floats(-0.49, 0.49)] * 3),
    number=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)),
)
@pytest.mark.parametrize("shear", [(0.0, 0.0), (0.36, -0.2), (-0.5, 0.1)])
def test_the_nearest_voxel_is_the_nearest_in_mm(shear, point, number):
    positions = {"slice": 5.0 * np.arange(5), "row": 6 - 0.5 * np.arange(6), "col": 3 + 0.7 * np.arange(7)}
    da = xr.DataArray(np.arange(210.0).reshape(5, 6, 7), dims=tuple(positions))
    da = assign_positions(da, positions, PLACES["oblique"].orientation, shear, origin=ORIGIN)
    [wanted] = map_indices_to_reference(da, [np.add(number, point)])
    points = patient_coords(da)
    distance = np.sqrt(sum((points[name] - x) ** 2 for name, x in zip("xyz", wanted, strict=True)))
    found = distance.transpose(*da.dims).values.ravel()[int(sel_patient(da, wanted).item())]
    assert found <= distance.min() + 1e-9


def part(da, dim, number):
    """Return some of a dim; all of it where the image has but one of it."""
    return da.isel({dim: number}) if da.sizes[dim] > 1 else da


OPERATIONS = {
    "nothing": lambda a: a,
    "crop": lambda a: a.isel(row=slice(1, 4), col=slice(2, 6)),
    "crop slices": lambda a: part(a, "slice", slice(1, 4)),
    "step": lambda a: a.isel(row=slice(None, None, 2), col=slice(1, None, 3)),
    "step slices": lambda a: a.isel(slice=slice(None, None, 2)),
    "flip": lambda a: a.isel(row=slice(None, None, -1)),
    "flip slices": lambda a: a.isel(slice=slice(None, None, -1)),
    "flip and step": lambda a: a.isel(col=slice(None, None, -2), slice=slice(None, None, -1)),
    "pick": lambda a: a.isel(row=[4, 0, 3]),
    "mask": lambda a: a.isel(col=np.arange(7) % 3 == 0),
    "single slice": lambda a: a.isel(slice=0),
    "last slice kept": lambda a: a.isel(slice=[-1]),
    "single row": lambda a: a.isel(row=2),
    "one voxel": lambda a: a.isel(slice=-1, row=2, col=3),
    "sel": lambda a: a.sel(slice=a.slice[-1], method="nearest"),
    "sel range": lambda a: a.sel(row=slice(float(a.row[1]), float(a.row[3]))),
    "transpose": lambda a: a.transpose("col", "xyz", "row", "slice", "time"),
    "T": lambda a: a.T,
    "add zero": lambda a: a + 0,
    "add": lambda a: (a + a) / 2,
    "add crop": lambda a: (a + a.isel(col=slice(1, 3))) / 2,
    "add jitter": lambda a: (a + a.assign_coords(xr.Coordinates(a.coords)) * 1) / 2,
    "ufunc": lambda a: np.add(a, a) / 2,
    "minus time": lambda a: a - (a.isel(time=0) - a),
    "mean time": lambda a: a.mean("time"),
    "where": lambda a: a.where(a.time > 1),
    "where place": lambda a: a.where(a.col > float(a.col[2]), drop=True),
    "xr.where": lambda a: xr.where(a > 0, a, a),
    "fillna": lambda a: a.fillna(0),
    "astype": lambda a: a.astype("f4"),
    "clip": lambda a: a.clip(-1e9, 1e9),
    "concat time": lambda a: xr.concat(
        [a, a.assign_coords(time=a.time + 9)], "time", coords="minimal", compat="override"
    ),
    "concat slices": lambda a: xr.concat(
        [a.isel(slice=[-1]), a.isel(slice=[0])], "slice", coords="minimal", compat="override", data_vars="all"
    ),
    "coarsen": lambda a: a.coarsen(row=2, boundary="trim").mean(),
    "rolling": lambda a: a.rolling(col=3, center=True).mean().isel(col=slice(1, -1)),
    "shift time": lambda a: a.shift(time=1),
    "roll": lambda a: a.roll(row=2, roll_coords=True),
    "pad time": lambda a: a.pad(time=(0, 1), mode="edge"),
    "sort": lambda a: a.sortby("slice", ascending=False),
    "sort cols": lambda a: a.sortby("col", ascending=False),
    "groupby": lambda a: a.groupby("time").mean(),
    "groupby slices": lambda a: a.groupby("slice").map(lambda s: s),
    "stack": lambda a: a.stack(v=("row", "col")).unstack("v").transpose(*a.dims),
    "rename": lambda a: a.rename(time="te"),
    "expand": lambda a: a.expand_dims("phase"),
    "compute": lambda a: a.chunk(slice=1).compute(),
    "dask": lambda a: a.chunk(slice=1) * 1,
    "map_blocks": lambda a: xr.map_blocks(lambda b: b * 1, a.chunk(slice=1)).compute(),
    "apply_ufunc": lambda a: xr.apply_ufunc(np.copy, a),
    "apply_ufunc core": lambda a: xr.apply_ufunc(lambda v: v.mean(-1), a, input_core_dims=[["time"]], keep_attrs=True),
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "copy": lambda a: a.copy(deep=True),
    "dataset": lambda a: xr.Dataset({"a": a, "b": a})["b"],
    "interp by hand": lambda a: (
        a.isel(row=slice(1, None)) + a.isel(row=slice(None, -1)).assign_coords(row=a.row[1:])
    ).pipe(lambda s: (s / 2).assign_coords(row=(a.row.values[1:] + a.row.values[:-1]) / 2)),
    "reversed twice": lambda a: a[..., ::-1][..., ::-1],
    "reindex_like": lambda a: a.reindex_like(a.isel(col=[3, 1])),
    "weighted": lambda a: a.weighted(xr.DataArray([1.0, 2, 3], dims="time")).mean("time"),
    "quantile": lambda a: a.quantile(0.5, "time"),
    "dot": lambda a: xr.dot(a, xr.DataArray([0.5, 0.25, 0.25], dims="time"), dim="time"),
    "to_patient_orientation": lambda a: to_patient_orientation(a, "".join(patient_orientation(a))),
}


@pytest.mark.parametrize("name", PLACES)
def test_every_voxel_is_where_its_value_says_after_any_operation(name):
    a = coordinate_image(name)
    for operation, apply in OPERATIONS.items():
        try:
            result = apply(a)
            assert_at_its_place(result, 1e-4 if operation == "astype" else 1e-6)
            assert origins(result) == {ORIGIN}
            if is_evenly_spaced(result):
                assert_affine_agrees(result)
        except Exception as error:
            error.add_note(f"after {operation!r} of {name!r}")
            raise


def assert_affine_agrees(da):
    points = patient_coords(da).compute()
    for numbers in ({}, {"slice": -1, "row": -1}, {"col": -1}):
        want = [points[x].isel({dim: numbers.get(dim, 0) for dim in points.dims}).item() for x in "xyz"]
        full = [numbers.get(dim, 0) % da.sizes.get(dim, 1) for dim in ("slice", "row", "col")]
        np.testing.assert_allclose((affine(da) @ [*full, 1])[:3], want, atol=1e-6)


def test_interp_keeps_the_geometry():
    pytest.importorskip("scipy")  # which xarray asks for, and this package does not
    a = coordinate_image("oblique")
    result = a.interp(slice=[90.0, 92.5], col=a.col.values[:-1] + 0.5)
    assert_at_its_place(result)
    assert_at_its_place(index_positions(result) + 0)


# --- the numbers themselves


def test_axial_affine():
    da = image("axial")
    np.testing.assert_array_equal(affine(da), [[0, 0, 1.25, -91.5], [0, 2, 0, -78.25], [3, 0, 0, 33], [0, 0, 0, 1]])
    np.testing.assert_array_equal(affine_ras(da)[:3, 3], [91.5, 78.25, 33])
    np.testing.assert_array_equal(spacing(da), [3, 2, 1.25])
    np.testing.assert_array_equal(image_position(da), [-91.5, -78.25, 33])
    np.testing.assert_array_equal(direction_cosines(da), AXIAL)
    assert patient_orientation(da) == ("H", "P", "L")
    assert is_evenly_spaced(da)


@pytest.mark.parametrize("name", EVEN)
def test_simpleitk_puts_every_voxel_at_the_same_place(name):
    import SimpleITK as sitk

    da = image(name).isel(time=0)
    matrix = affine(da)[:3, :3][:, ::-1] / spacing(da)[::-1]
    if "tilted" in name:
        return  # ITK images have perpendicular axes
    itk = sitk.GetImageFromArray(da.values)
    itk.SetOrigin(image_position(da).tolist())
    itk.SetSpacing(spacing(da)[::-1].tolist())
    if np.linalg.det(matrix) < 0:
        itk.SetDirection((matrix * [1, 1, 1]).ravel().tolist())
    itk.SetDirection(matrix.ravel().tolist())
    for number in [(0, 0, 0), (da.sizes["slice"] - 1, 2, 3), (0, 4, 6)]:
        want = itk.TransformIndexToPhysicalPoint(number[::-1])
        np.testing.assert_allclose(map_indices_to_reference(da, [number])[0], want, atol=1e-6)


@pytest.mark.parametrize("name", EVEN)
def test_nibabel_sees_the_same_orientation(name):
    import nibabel

    da = image(name)
    codes = nibabel.orientations.aff2axcodes(affine_ras(da))
    letters = tuple(letter.translate(str.maketrans("SI", "HF")) for letter in codes)
    assert letters == patient_orientation(da)
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(affine_ras(da)), spacing(da))


def test_flips_show_in_cosines_and_letters():
    da = image("axial").isel(slice=slice(None, None, -1), col=slice(None, None, -1))
    np.testing.assert_array_equal(direction_cosines(da), [-1, 0, 0, 0, 1, 0])
    assert patient_orientation(da) == ("F", "P", "R")
    np.testing.assert_array_equal(image_position(da), [-84, -78.25, 48])


def test_uneven_slices_have_no_affine_but_places():
    da = image("uneven")
    assert not is_evenly_spaced(da)
    message = r"image has 6 slices at uneven distances 3\.00\.\.5\.50 mm; no single affine or spacing exists\."
    for ask in (affine, spacing, affine_ras):
        with pytest.raises(GeometryError, match=message):
            ask(da)
    assert_at_its_place(coordinate_image("uneven"))
    assert spacing(da.isel(slice=slice(0, 3)))[0] == pytest.approx(3)


def test_lone_slice_takes_its_step_from_the_header_or_says_it_is_missing():
    da = image("one slice")
    assert spacing(da)[0] == 3
    assert spacing(da.assign_attrs(SpacingBetweenSlices=-4.5))[0] == 4.5
    assert spacing(da.isel(row=0, col=slice(2, 3))).tolist() == [3, *SPACING]
    varying = da.assign_coords(SliceThickness=2.5)
    del varying.attrs["SliceThickness"]
    assert spacing(varying)[0] == 2.5
    bare = da.copy()
    bare.attrs = {key: value for key, value in da.attrs.items() if key != "SliceThickness"}
    with pytest.raises(GeometryError, match="one slice and no SpacingBetweenSlices"):
        affine(bare.assign_attrs(SliceThickness=[]))
    with pytest.raises(GeometryError, match="one slice and no SpacingBetweenSlices or SliceThickness in attrs"):
        affine(bare)
    np.testing.assert_allclose(image_position(bare), PLACES["one slice"].image_positions[0])
    assert patient_coords(bare).sizes == {"slice": 1, "row": 5, "col": 7}


def test_averaged_slices_have_no_place_until_one_is_given():
    da = coordinate_image("axial").mean("slice")
    with pytest.raises(GeometryError, match=r"no slice positions; if slice was averaged, .*assign_coords\(slice="):
        affine(da)
    assert_at_its_place(da.assign_coords(slice=40.5))


def test_padded_rows_have_no_place_until_one_is_given():
    da = coordinate_image("oblique")
    padded = da.pad(row=1)
    point = image_position(da)
    for ask in (
        affine,
        image_position,
        is_evenly_spaced,
        patient_coords,
        lambda da: map_indices_to_reference(da, [[0, 0, 0]]),
        lambda da: map_reference_to_indices(da, [point]),
        lambda da: sel_patient(da, point, tolerance=1),
        lambda da: geometry_equal(da, da),
    ):
        with pytest.raises(GeometryError, match=r"2 of 7 row positions are not finite, as pad leaves them"):
            ask(padded)
    rows = da.row[0].item() + SPACING[0] * np.arange(-1, 6)
    placed = padded.assign_coords(row=rows).dicom.index_positions()
    np.testing.assert_allclose(map_reference_to_indices(placed, [point]), [[0, 1, 0]], atol=1e-9)


def test_voxels_that_were_picked_or_stacked_keep_their_places():
    da = image("oblique")
    points = patient_coords(da)
    stacked = patient_coords(da.stack(voxel=("slice", "row", "col")))
    picked = da.isel(row=xr.DataArray([0, 2, 4], dims="point"), col=xr.DataArray([1, 3, 6], dims="point"))
    for name, values in points.items():
        assert np.allclose(stacked[name], values.transpose("slice", "row", "col").values.ravel())
        found = patient_coords(picked)[name].transpose("slice", "point").values
        wanted = values.transpose("slice", "row", "col").values
        assert np.allclose(found, wanted[:, [0, 2, 4], [1, 3, 6]])
    with pytest.raises(GeometryError, match="row positions vary along point"):
        affine(picked)
    with pytest.raises(GeometryError, match="vary along voxel"):
        sel_patient(da.stack(voxel=("slice", "row", "col")), [0, 0, 0])


def test_patient_coords_are_lazy_where_the_image_is():
    points = patient_coords(image().chunk(slice=2))
    assert points.x.chunksizes["slice"] == (2, 2, 2)
    xr.testing.assert_allclose(points.compute(), patient_coords(image()))
    assert points.x.dims == ("slice", "row", "col")
    assert points.x.attrs == {"units": "mm"}
    assert patient_coords(image().isel(slice=1, row=2)).x.dims == ("col",)
    assert isinstance(points.xindexes["slice"], PositionIndex)
    assert image().attrs["PatientID"] not in str(points.attrs)


# --- attrs and index


def test_attrs_lost_to_rounding_are_in_the_index():
    a, b = image("tilted oblique"), image("tilted oblique")
    b.attrs["ImageOrientationPatient"] = [v + 1e-7 for v in b.attrs["ImageOrientationPatient"]]
    b.attrs["slice_shear"] = [v + 1e-6 for v in b.attrs["slice_shear"]]
    result = a + b
    assert "ImageOrientationPatient" not in result.attrs
    np.testing.assert_allclose(affine(result), affine(a))
    assert frame(result) == frame(a)


def test_attrs_that_contradict_the_index_are_refused():
    with pytest.raises(GeometryError, match="contradict each other: ImageOrientationPatient"):
        affine(image().assign_attrs(ImageOrientationPatient=AXIAL))
    with pytest.raises(GeometryError, match="contradict each other: slice_shear"):
        affine(image().assign_attrs(slice_shear=[0.1, 0]))


def test_missing_orientation_is_missed():
    plain = image().drop_indexes(["slice", "row", "col"])
    plain = plain.drop_vars(frame_names(plain))
    plain.attrs = {}
    with pytest.raises(GeometryError, match=r"no ImageOrientationPatient in attrs.*assign_geometry\(da, like=other\)"):
        affine(plain)
    plain.attrs = {"ImageOrientationPatient": AXIAL}
    with pytest.raises(GeometryError, match="no slice_shear in attrs"):
        image_position(plain)
    with pytest.raises(
        GeometryError, match=r"no slice, row and col positions, as of .* place with assign_geometry\(da, like"
    ):
        image_position(xr.DataArray(np.zeros((2, 2, 2)), dims=("slice", "row", "col")))


def test_source_is_never_changed():
    a = image()
    before = a.copy(deep=True)
    attrs = {key: list(value) if isinstance(value, list) else value for key, value in a.attrs.items()}
    for change in (
        lambda: assign_geometry(a, like=image("axial")),
        lambda: to_patient_orientation(a, "LPH"),
        lambda: index_positions(a),
        lambda: assign_positions(a, {d: a[d].values for d in ("slice", "row", "col")}, AXIAL, origin=OTHER),
    ):
        change()
        xr.testing.assert_identical(a, before)
        assert a.attrs == attrs
        assert isinstance(a.xindexes["slice"], PositionIndex)


# --- setting


def test_assign_geometry_moves_the_image_but_not_its_origin():
    like = image("tilted").assign_attrs(FrameOfReferenceUID="1.2.77", SpacingBetweenSlices=3.1)
    plain = xr.DataArray(
        np.ones((6, 5, 7)), dims=("slice", "row", "col"), attrs={"PatientID": "p9", "SliceThickness": 9}
    )
    placed = assign_geometry(plain, like=like)
    np.testing.assert_array_equal(affine(placed), affine(like))
    assert placed.attrs["FrameOfReferenceUID"] == "1.2.77"
    assert placed.attrs["SliceThickness"] == 3
    assert placed.attrs["PatientID"] == "p9"
    assert geometry_equal(placed, like)
    assert not any(str(name).startswith(ORIGIN_PREFIX) for name in placed.coords)
    assert origins(like + placed) == {ORIGIN}
    assert geometry_equal(assign_geometry(like.isel(slice=2), like=like.isel(slice=[3])), like.isel(slice=3))
    with pytest.raises(GeometryError, match=r"image has \(6, 5, 7\) slices, rows and columns, .* to get \(2, 5, 7\)"):
        assign_geometry(plain, like=like.isel(slice=[0, 1]))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ({"row": range(5), "col": range(7)}, "no slice positions were given"),
        ({"slice": range(5), "row": range(5), "col": range(7)}, "5 slice positions .* the image needs 6"),
        ({"slice": [0, 1, 2, 3, 4, np.nan], "row": range(5), "col": range(7)}, "the image needs 6 finite ones"),
    ],
)
def test_positions_must_fit_the_array(positions, message):
    plain = xr.DataArray(np.ones((6, 5, 7)), dims=("slice", "row", "col"))
    with pytest.raises(GeometryError, match=message):
        assign_positions(plain, positions, AXIAL, origin=ORIGIN)


def test_geometry_equal_is_within_tolerance():
    a = image()
    assert geometry_equal(a, image(noise=1e-5))
    assert geometry_equal(a, a.isel(time=0))
    assert not geometry_equal(a, image(shift=0.01))
    assert geometry_equal(a, image(shift=0.01), tolerance=0.02)
    assert not geometry_equal(a, a.isel(slice=slice(1, None)))
    assert not geometry_equal(a, image("uneven"))
    turned = assign_positions(a, {d: a[d].values for d in ("slice", "row", "col")}, AXIAL, origin=ORIGIN)
    assert not geometry_equal(a, turned)


@pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32:Warning")  # how Zarr calls all strings
@pytest.mark.parametrize("engine", ["h5netcdf", "zarr"])
@pytest.mark.parametrize("name", ["tilted oblique", "uneven", "one slice"])
def test_geometry_and_origin_survive_a_file(engine, name, tmp_path):
    a = coordinate_image(name)
    a.encoding = {}
    if engine == "zarr":
        a.to_zarr(tmp_path / "a.zarr", consolidated=False)
        reloaded = xr.open_dataarray(tmp_path / "a.zarr", engine="zarr", consolidated=False)
    else:
        a.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        reloaded = xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf")
    with reloaded:
        assert_at_its_place(reloaded)
        assert origins(reloaded) == {ORIGIN}
        indexed = index_positions(reloaded)
        assert frame(indexed) == frame(a)
        for dim in ("slice", "row", "col", "time"):
            assert indexed.xindexes[dim].equals(a.xindexes[dim])
            assert indexed[dim].attrs == a[dim].attrs
        assert isinstance(indexed.xindexes["time"], TagIndex)
        assert_at_its_place((indexed + a) / 2)
        np.testing.assert_array_equal((image(name, noise=1e-5) + indexed).sizes["slice"], a.sizes["slice"])


def test_index_positions_leaves_what_is_there():
    a = image()
    assert index_positions(a) is not None
    assert index_positions(a).xindexes["slice"] is a.xindexes["slice"]
    assert index_positions(a.stack(v=("row", "col"))).sizes["v"] == 35
    assert index_positions(xr.DataArray([1.0], dims="row")).dims == ("row",)
    with pytest.raises(GeometryError, match="no ImageOrientationPatient"):
        index_positions(xr.DataArray([1.0], dims="row", coords={"row": [0]}))


# --- points


@pytest.mark.parametrize("name", PLACES)
def test_point_of_a_voxel_selects_it(name):
    da = image(name).isel(col=slice(None, None, -1))
    numbers = np.array([[0, 0, 0], [da.sizes["slice"] - 1, 4, 6], [da.sizes["slice"] // 2, 2, 5]])
    points = map_indices_to_reference(da, numbers)
    np.testing.assert_allclose(map_reference_to_indices(da, points), numbers, atol=1e-9)
    for (s, r, c), point in zip(numbers, points, strict=True):
        picked = sel_patient(da, point + axes(da)[2] * 0.6 + axes(da)[1] * 0.9)
        np.testing.assert_array_equal(picked, da.isel(slice=s, row=r, col=c))
        assert picked.dims == ("time",)
        np.testing.assert_allclose(image_position(picked), point)


@hypothesis.given(st.sampled_from(sorted(PLACES)), st.lists(st.tuples(*[st.floats(-3, 9)] * 3), min_size=1, max_size=5))
@hypothesis.settings(max_examples=40)
def test_numbers_and_points_are_inverse(name, numbers):
    da = image(name)
    np.testing.assert_allclose(map_reference_to_indices(da, map_indices_to_reference(da, numbers)), numbers, atol=1e-6)
    if name != "uneven":
        want = np.c_[numbers, np.ones(len(numbers))] @ affine(da).T
        np.testing.assert_allclose(map_indices_to_reference(da, numbers), want[:, :3], atol=1e-6)


def test_point_between_uneven_slices_counts_evenly_from_one_to_the_next():
    da = image("uneven")
    middle = map_indices_to_reference(da, [[2, 0, 0], [3, 0, 0]]).mean(axis=0)
    np.testing.assert_allclose(map_reference_to_indices(da, [middle]), [[2.5, 0, 0]], atol=1e-9)
    assert sel_patient(da, middle + 0.1 * axes(da)[0]).slice == da.slice[3]


@pytest.mark.parametrize("name", ["axial", "one slice"])
def test_point_outside_is_refused(name):
    da = image(name)
    inside, outside = map_indices_to_reference(da, [[-0.49, 0, 6.49], [0, 0, 6.6]])
    assert sel_patient(da, inside).sizes == {"time": 3}
    with pytest.raises(
        GeometryError, match=r"is outside the image: its col position is .* mm, the image has .*tolerance"
    ):
        sel_patient(da, outside)
    np.testing.assert_array_equal(sel_patient(da, outside, tolerance=1), da.isel(slice=0, row=0, col=6))
    with pytest.raises(GeometryError, match=r"is 0\.750 mm from the nearest voxel; 0\.5 was wanted"):
        sel_patient(da, outside, tolerance=0.5)
    with pytest.raises(GeometryError, match="three finite numbers"):
        sel_patient(da, [1, 2])


@pytest.mark.parametrize("ask", [map_indices_to_reference, map_reference_to_indices])
def test_numbers_and_points_are_finite(ask):
    with pytest.raises(GeometryError, match=r"1 of 2 .* finite"):
        ask(image(), [[0, 0, 0], [np.nan, 0, 0]])


def test_points_have_three_numbers():
    with pytest.raises(GeometryError, match=r"shape \(3,\); \(n, 3\) is needed"):
        map_indices_to_reference(image(), [0, 0, 0])
    with pytest.raises(GeometryError, match="go to and fro"):
        map_reference_to_indices(image().isel(slice=[0, 2, 1]), [[0, 0, 0]])


# --- orientation


@pytest.mark.parametrize("name", ["axial", "sagittal", "oblique", "uneven", "one slice", "reversed"])
@pytest.mark.parametrize("letters", ["HPL", "LPS", "LFP", "AFL", "PRH", "FAR"])
def test_turned_image_has_its_voxels_where_they_were(name, letters):
    a = coordinate_image(name)
    turned = to_patient_orientation(a, letters)
    for dim, got, want in zip(
        ("slice", "row", "col"), patient_orientation(turned), letters.replace("S", "H"), strict=True
    ):
        assert got == want or turned.sizes[dim] == 1  # a single slice has no direction to turn
    assert_at_its_place(turned)
    assert turned.dims == a.dims
    assert turned.size == a.size
    assert origins(turned) == {ORIGIN}
    if is_evenly_spaced(turned):
        assert sorted(spacing(turned)) == pytest.approx(sorted(spacing(a)))
    back = to_patient_orientation(turned, "".join(patient_orientation(a)))
    np.testing.assert_allclose(back, a)
    assert geometry_equal(back, a)


def test_exchanged_slices_are_no_frames_of_the_source():
    a = image("axial")
    a.encoding = {"TransferSyntaxUID": "1.2.840.10008.1.2.1"}
    flipped, turned = to_patient_orientation(a, "FPL"), to_patient_orientation(a, "LFP")
    np.testing.assert_array_equal(flipped.SliceLocation, a.SliceLocation[::-1])
    assert flipped.encoding == a.encoding
    assert "SliceLocation" not in turned.coords
    assert "InstanceNumber" not in turned.coords
    assert turned.encoding == {}
    assert turned.attrs["PatientID"] == "p1"
    assert "SliceThickness" not in turned.attrs


@pytest.mark.parametrize("letters", ["LP", "LRH", "XYZ", "LPHH", ""])
def test_letters_must_be_three_directions(letters):
    with pytest.raises(GeometryError, match="one letter each of L/R, P/A and H/F is needed"):
        to_patient_orientation(image(), letters)


def test_sheared_slices_flip_but_cannot_become_rows():
    assert_at_its_place(to_patient_orientation(coordinate_image("tilted"), "FPR"))
    with pytest.raises(GeometryError, match="cannot become rows or columns"):
        to_patient_orientation(image("tilted"), "LFP")
    with pytest.raises(GeometryError, match=r"no dim 'slice'; add it with da\.expand_dims"):
        to_patient_orientation(image().isel(slice=0), "LFP")
