"""Images in different frames do not become one unnoticed, also where xarray took their indexes."""

from __future__ import annotations

import operator
import pickle

import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.combine import concat
from imagedata_xr.errors import GeometryError
from imagedata_xr.expression import evaluate
from imagedata_xr.formats.virtual import open_virtual
from imagedata_xr.geometry import Frame
from imagedata_xr.origins import assign_origins, origins
from imagedata_xr.placement import face_like, frame, frame_names, has_geometry
from imagedata_xr.positions import affine, assign_geometry, geometry_equal, index_positions
from imagedata_xr.turning import to_patient_orientation
from tests.places import N_SLICE, image

DIFFERENT = "made of images in different frames: ImageOrientationPatient is .*(resample_like|turn_like)"


@pytest.fixture(scope="module")
def volume(patient):
    return ixr.open_series(patient / "dynamic_1", "time").isel(time=0)


@pytest.fixture(scope="module")
def ct(patient):
    return ixr.open_series(patient / "ct", "none")


def elsewhere(a, name="oblique"):
    """Return an image in another frame with positions that are those of `a` by number, and plain indexes."""
    other = image(name, times=a.time.values, rows=a.sizes["row"])
    return other.drop_indexes(["slice", "row", "col"]).assign_coords(
        {dim: a.coords[dim].values for dim in ("slice", "row", "col")}
    )


def nearly(a):
    """Return an image whose cosines are rounded otherwise."""
    cosines = np.add(frame(a).orientation, [0, 2e-5, 0, -2e-5, 0, 0])
    turned = a.assign_attrs(ImageOrientationPatient=cosines.tolist())
    return assign_geometry(a, like=turned.drop_indexes(["slice", "row", "col"]).drop_vars(frame_names(a)))


# --- found


MIXED = {
    "where": lambda v, ct: v.where(to_patient_orientation(v, "LFP").interp_like(v) > 100, 0),
    "subtract": lambda v, ct: v - to_patient_orientation(v, "LFP").interp_like(v),
    "other series": lambda v, ct: ct - v.interp_like(ct),
    "positions of another": lambda v, ct: v.interp(slice=ct.slice, row=ct.row, col=ct.col) - ct,
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_images_in_different_frames_have_no_place_together(mix, volume, ct, tmp_path):
    mixed = mix(volume, ct).fillna(0)
    with pytest.raises(GeometryError, match=DIFFERENT):
        affine(mixed)
    for name in ("dicom", "a.nii", "a.mha", "a.mat", "a.nc", "a.zarr"):
        with pytest.raises(GeometryError, match="different frames"):
            ixr.write(mixed, tmp_path / name, **({"template": volume} if name == "dicom" else {}))
    assert not list(tmp_path.iterdir())
    with pytest.raises(GeometryError, match="different frames"):
        index_positions(mixed.drop_indexes(["slice", "row", "col"]).assign_coords(slice=mixed.slice.values))
    settled = assign_geometry(mixed, like=ct if mixed.shape == ct.shape else volume)
    assert len(frame_names(settled)) == 1
    assert geometry_equal(settled, ct if mixed.shape == ct.shape else volume)


def test_what_is_interpolated_stays_in_its_frame(volume):
    turned = to_patient_orientation(volume, "LFP")
    assert frame(turned.interp_like(volume)) == frame(turned)
    with pytest.raises(GeometryError, match=DIFFERENT):  # xarray adds the coordinates of the positions
        frame(turned.interp(row=volume.row))


def test_attrs_that_contradict_the_one_frame_are_refused():
    plain = image("axial").drop_indexes(["slice", "row", "col"])
    with pytest.raises(GeometryError, match="attrs and coordinates contradict each other: ImageOrientationPatient"):
        frame(plain.assign_attrs(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))


COMBINATIONS = {
    "add": operator.add,
    "where": lambda a, b: a.where(b > 3),
    "where with other": lambda a, b: a.where(b > 3, 0),
    "xr.where": lambda a, b: xr.where(b > 3, a, b),
    "fillna": lambda a, b: a.where(a > 5).fillna(b),
    "clip": lambda a, b: a.clip(max=b),
    "apply_ufunc": lambda a, b: xr.apply_ufunc(np.hypot, a, b),
    "in place": operator.iadd,
    "dask": lambda a, b: a.chunk(slice=2) + b.chunk(slice=3),
    "both without indexes": lambda a, b: a.interp(slice=a.slice.values, row=a.row.values, col=a.col.values) + b,
    "Dataset": lambda a, b: xr.Dataset({"a": a, "b": b})["a"],
    "third": lambda a, b: (a + b) + image("axial", rows=2),
}


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
def test_every_combination_keeps_both_frames(combine):
    a = image("axial", rows=2)
    b = elsewhere(a)
    mixed = combine(a, b)
    assert {*frame_names(mixed)} == {*frame_names(a), *frame_names(b)}
    for drop in (lambda m: m, xr.DataArray.drop_attrs):
        with pytest.raises(GeometryError, match="different frames"):
            frame(drop(mixed))


def test_shears_differ(tmp_path):
    a = image("axial", rows=2)
    mixed = a + elsewhere(a, "tilted")
    with pytest.raises(GeometryError, match="different frames: slice_shear is"):
        affine(mixed)
    with pytest.raises(GeometryError, match="different frames: slice_shear is"):
        ixr.write(mixed.drop_attrs(deep=False), tmp_path / "a", template=a)


# --- kept


def stored(a, engine, folder):
    a.encoding = {}
    if engine == "zarr":
        a.to_zarr(folder / "a.zarr", consolidated=False)
        return xr.open_dataarray(folder / "a.zarr", engine="zarr", consolidated=False).load()
    a.to_netcdf(folder / "a.nc", engine="h5netcdf")
    with xr.open_dataarray(folder / "a.nc", engine="h5netcdf") as found:
        return found.load()


CHANGES = {
    "interp": lambda a, _: a.interp(row=[-77.0, -76.5], col=[-90.0]),
    "interp slices": lambda a, _: a.interp(slice=[34.0, 35.0]),
    "interp_like": lambda a, _: a.interp_like(image("axial", rows=2, shift=0.3)),
    "coarsen": lambda a, _: a.coarsen(slice=2, col=7).mean(),
    "mean": lambda a, _: a.mean(("time", "slice")),
    "assign_coords": lambda a, _: a.assign_coords(slice=np.arange(N_SLICE) * 2.0),
    "where": lambda a, _: a.where(a > 3),
    "reindex_like": lambda a, _: a.reindex_like(a.isel(slice=[0, 1])),
    "rolling": lambda a, _: a.rolling(slice=2).mean(),
    "groupby": lambda a, _: a.groupby("time").mean(),
    "stack": lambda a, _: a.stack(voxel=("slice", "row")).unstack(),
    "pickle": lambda a, _: pickle.loads(pickle.dumps(a)),
    "map_blocks": lambda a, _: xr.map_blocks(lambda x: x * 2, a.chunk(slice=2)),
    "xr.concat, time": lambda a, _: xr.concat([a, a.assign_coords(time=a.time + 100)], "time"),
    "xr.concat, slice": lambda a, _: xr.concat([a.isel(slice=[0, 1]), a.isel(slice=[2])], "slice"),
    "xr.concat, all": lambda a, _: xr.concat([a, a.assign_coords(time=a.time + 100)], "time", coords="all"),
    "concat": lambda a, _: concat([a.isel(slice=[0, 1]), a.isel(slice=[2])], "slice"),
    "assign_origins": lambda a, _: assign_origins(a, []),
    "netCDF": lambda a, folder: stored(a, "h5netcdf", folder),
    "Zarr": lambda a, folder: stored(a, "zarr", folder),
}


@pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32:Warning")  # how Zarr calls all strings
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_frame_stays_through_changes(change, tmp_path):
    a = image("axial", rows=2).drop_vars(["InstanceNumber", "SliceLocation"])
    changed = change(a, tmp_path)
    assert frame_names(changed) == frame_names(a)
    for bare in (changed, changed.drop_attrs(), changed.drop_attrs().drop_indexes([*changed.xindexes])):
        assert frame(bare) == frame(a)


def test_an_image_whose_attrs_were_dropped_is_written_at_its_place(volume, tmp_path):
    bare = volume.drop_attrs(deep=False)
    ixr.write(bare, tmp_path / "a", template=volume)
    assert geometry_equal(ixr.open_series(tmp_path / "a"), volume)


@pytest.mark.parametrize("name", ["a.nc", "a.zarr", "a.mat"])
def test_our_files_keep_frames(name, volume, tmp_path):
    ixr.write(volume, tmp_path / name)
    found = ixr.open_series(tmp_path / name)
    assert frame_names(found) == frame_names(volume)
    xr.testing.assert_allclose(found, volume)
    assert frame(found.drop_attrs()) == frame(volume)


def test_virtual_stores_keep_frames(patient, ct, tmp_path):
    ct.dicom.to_virtual(tmp_path / "ct.json")
    found = open_virtual(tmp_path / "ct.json")
    assert frame_names(found) == frame_names(ct)


def test_no_header_and_no_sidecar_tells_of_it(volume, tmp_path):
    (name,) = frame_names(volume)
    assert name not in str(volume.dicom.header(slice=0))
    files = ixr.write(volume.assign_attrs(SeriesDescription="a"), tmp_path / "dicom")
    assert name.encode() not in files[0].read_bytes()
    for file in ixr.write(volume, tmp_path / "a.nii"):
        assert name.encode() not in file.read_bytes()
    again = ixr.open_series(tmp_path / "dicom")
    assert frame_names(again) == [name]


# --- replaced


def test_the_place_of_another_image_replaces_the_frame():
    a, b = image("axial"), image("oblique")
    assert frame_names(a) != frame_names(b)
    assert frame_names(assign_geometry(a, like=b)) == frame_names(b)
    assert frame_names(assign_geometry(a.drop_attrs(), like=b)) == frame_names(b)


@pytest.mark.parametrize("name", ["axial", "oblique", "tilted"])
@pytest.mark.parametrize("flips", [["row"], ["col"], ["row", "col"], ["slice"]], ids="-".join)
def test_an_image_turned_like_another_combines_with_it(name, flips):
    a = image(name)
    flipped = a.isel(dict.fromkeys(flips, slice(None, None, -1)))
    signs = np.array([-1.0 if dim in flips else 1.0 for dim in ("row", "col")])
    # What a file says that was written of it: directions in which rows and columns grow, and slices along their normal.
    opposite = np.asarray(frame(a).orientation) * np.repeat(signs[::-1], 3)
    there = face_like(flipped.sortby("slice", ascending=bool(signs.prod() > 0)), Frame(tuple(opposite), (0.0, 0.0)))
    assert geometry_equal(there.sortby(["slice", "row", "col"]), a) or signs.min() < 0
    if signs.min() < 0:
        with pytest.raises(GeometryError, match=r"run the other way.*b\.dicom\.turn_like\(a\)"):
            there - a
    turned = there.dicom.turn_like(a)
    assert geometry_equal(turned, a)
    assert (turned - a).sizes == a.sizes
    assert float(abs(turned - a).max()) == 0
    assert frame(turned - a) == frame(a)


def test_an_image_with_its_dims_exchanged_combines_when_it_is_turned(ct):
    turned = to_patient_orientation(ct, "LFP")
    with pytest.raises(GeometryError, match="turn_like"):
        turned - ct
    with pytest.raises(GeometryError, match="turn_like"):
        affine(index_positions(turned.interp(row=turned.row)) - ct)
    back = turned.dicom.turn_like(ct)
    assert (back - ct).sizes == ct.sizes
    assert float(abs(back - ct).max()) == 0


def test_a_mirrored_image_is_not_given_the_place_of_its_image(ct, tmp_path):
    ct.isel(row=slice(None, None, -1)).dicom.write(tmp_path / "flipped")
    flipped = ixr.open_series(tmp_path / "flipped")
    for mirrored in (flipped, ct.isel(col=slice(None, None, -1)), ct.isel(slice=slice(None, None, -1))):
        with pytest.raises(GeometryError, match=r"would be mirrored.*turn_like\(other\)"):
            assign_geometry(mirrored, like=ct)
    on_purpose = assign_geometry(flipped.drop_vars(["slice", "row", "col"]), like=ct)
    assert geometry_equal(on_purpose, ct)
    assert geometry_equal(
        assign_geometry(ct.isel(row=slice(5)), like=ct.isel(row=slice(3, 8))), ct.isel(row=slice(3, 8))
    )


def test_exchanged_dims_have_a_frame_of_their_own(volume):
    turned = to_patient_orientation(volume, "LFP")
    assert len(frame_names(turned)) == 1
    assert frame_names(turned) != frame_names(volume)
    assert frame_names(to_patient_orientation(volume, "FPL")) == frame_names(volume)  # flipped, none exchanged
    back = to_patient_orientation(turned, "HPL")
    assert len(frame_names(back)) == 1
    assert (volume - back).sizes == volume.sizes
    assert geometry_equal(volume - back, volume)


def test_a_template_leaves_the_frame_as_it_is(volume, ct, tmp_path):
    ixr.write(volume, tmp_path / "a.nii")
    bare = ixr.open_series(tmp_path / "a.nii")
    assert len(frame_names(bare)) == 1
    found = ixr.open_series(tmp_path / "a.nii", template=volume)
    assert frame_names(found) == frame_names(volume)  # its axes are those of the template
    kept = ixr.open_series(tmp_path / "a.nii", template=ct, geometry="image")
    assert frame(kept) == frame(bare)
    assert frame_names(kept) == frame_names(bare)
    array = ixr.from_array(volume.values, template=ct, geometry=volume)
    assert frame_names(array) == frame_names(volume)


# --- tolerated


def test_frames_that_differ_by_rounding_are_one():
    a = image("oblique")
    b = nearly(a)
    total = a + b
    assert {*frame_names(total)} == {*frame_names(a), *frame_names(b)}
    assert len(frame_names(total)) == 2
    assert "ImageOrientationPatient" not in total.attrs
    assert has_geometry(total)
    np.testing.assert_allclose(affine(total), affine(a), atol=1e-2)
    fine = total.interp(row=a.row.values + 0.1)
    assert frame(fine) == frame(a)
    both = concat([a, b.assign_coords(time=b.time + 100)], "time")
    assert {*frame_names(both)} == {*frame_names(a), *frame_names(b)}
    assert not any(both.coords[name].ndim for name in frame_names(both))
    assert frame(both) == frame(a)


def test_images_of_before_have_no_frame_and_go_on():
    a = image("oblique")
    old = a.drop_vars(frame_names(a))
    assert frame(old) == frame(a)
    assert frame_names(old * 2) == []
    assert frame_names(index_positions(old.interp(row=a.row.values))) == []
    assert frame(old + a) == frame(a)


def test_a_dataset_of_images_in_one_frame_has_one():
    a = image("axial").drop_vars("InstanceNumber")
    ds = xr.Dataset({"a": a, "b": a.isel(time=0) * 2, "c": a.mean("time")})
    assert frame(ds["c"] - ds["b"]) == frame(a)
    assert [name for name in ds.coords if str(name).startswith("frame_")] == frame_names(a)


def test_a_mean_in_an_expression_is_at_no_place(volume):
    turned = to_patient_orientation(volume, "LFP")
    assert geometry_equal(evaluate("a - mean(b)", {"a": turned, "b": volume}), turned)
    assert origins(evaluate("a - mean(b)", {"a": turned, "b": volume})) == origins(volume)
    with pytest.raises(GeometryError, match=r"only a mean of one went in.*assign_geometry\(da, like=other\)"):
        affine(turned - volume.mean())
    assert geometry_equal(turned - float(volume.mean()), turned)


def test_other_coordinates_that_begin_alike_are_none():
    a = image("axial").assign_coords(frame_number=3, frame_time=("time", [1.0, 2.0, 3.0]))
    assert frame(a) == frame(image("axial"))
    assert frame_names(a) == frame_names(image("axial"))
