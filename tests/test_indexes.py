"""Joins by meaning: places within a micrometre, volumes one to one."""

from __future__ import annotations

import copy
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

from imagedata_xr.errors import GeometryError, PairingError
from imagedata_xr.geometry import make_frame
from imagedata_xr.indexes import PositionIndex, TagIndex
from imagedata_xr.placement import with_indexes
from imagedata_xr.positions import affine
from tests.places import OTHER, PLACES, image

AXIAL = make_frame([1, 0, 0, 0, 1, 0])


def volumes(dim, labels, values=None):
    values = np.arange(len(labels), dtype=float) if values is None else np.asarray(values, float)
    return with_indexes(xr.DataArray(values, dims=dim), {dim: TagIndex.for_dim(dim, np.asarray(labels))}, {})


def at(positions, frame=AXIAL, dim="slice"):
    return with_indexes(
        xr.DataArray(np.asarray(positions, float), dims=dim), {dim: PositionIndex(positions, dim, frame=frame)}, {}
    )


# --- labels that are not there


@pytest.mark.parametrize(
    ("image", "call", "told"),
    [
        (
            at([-5, 0, 5]),
            {"slice": 3},
            r"no slice at 3 mm: labels along slice are \[-5, 0, 5\] \(3\) mm. isel\(slice=...\) takes numbers, "
            r"from 0; sel\(slice=..., method=.nearest.\) takes the nearest label",
        ),
        (at([-5, 0, 5]), {"slice": [0, 3]}, r"no slice at \[0, 3\] \(2\) mm: labels .*isel"),
        (at([-5, 0, 5]), {"slice": 3, "method": "nearest", "tolerance": 1}, r"no slice at 3 mm: [^;]*from 0'$"),
        (volumes("time", [0, 2.5]), {"time": 1}, r"no time at 1 s: labels along time are \[0, 2.5\] \(2\) s. isel"),
        (volumes("image_type", ["M", "P"]), {"image_type": "R"}, r"no image_type at R: .* \[M, P\] \(2\). isel[^;]*$"),
    ],
)
def test_a_label_that_is_not_there_is_told_with_those_that_are(image, call, told):
    with pytest.raises(KeyError, match=told):
        image.sel(**call)


# --- places


def test_two_places_do_not_add():
    with pytest.raises(GeometryError, match=r"no slice positions in common: .* mm against .* mm"):
        image() + image(shift=0.5)


def test_two_places_do_not_combine_otherwise_either():
    a, b = image("axial"), image("axial", shift=0.5)
    for combine in (np.add, xr.dot, xr.DataArray.where, lambda a, b: xr.Dataset({"a": a, "b": b})):
        with pytest.raises(GeometryError, match="in common"):
            combine(a, b)


def test_slices_of_a_microscope_a_third_of_a_step_apart_do_not_add():
    a = at(30 + 0.003 * np.arange(6))
    assert (a + at(a.slice + 0.0005)).sizes == a.sizes
    with pytest.raises(GeometryError, match="in common"):
        a + at(a.slice + 0.0009)


def test_two_orientations_do_not_add_though_positions_agree():
    tilted = make_frame([1, 0, 0, 0, 0.98, np.sqrt(1 - 0.98**2)])
    with pytest.raises(GeometryError, match="different frames: ImageOrientationPatient is"):
        at([0, 3, 6]) + at([0, 3, 6], tilted)
    sheared = make_frame([1, 0, 0, 0, 1, 0], (0.1, 0))
    with pytest.raises(GeometryError, match="slice_shear"):
        at([0, 3, 6]) + at([0, 3, 6], sheared)
    with pytest.raises(GeometryError, match="different frames"):
        xr.concat([at([0, 3, 6]), at([9, 12], tilted)], "slice")


@pytest.mark.parametrize("name", PLACES)
def test_rounding_does_not_hinder_adding(name):
    a, b = image(name), image(name, noise=1e-5)
    result = a + b
    np.testing.assert_array_equal(result, a.values * 2)
    np.testing.assert_array_equal(result.slice, a.slice)
    np.testing.assert_allclose(affine(a.isel(slice=[0])), affine(result.isel(slice=[0])))


@pytest.mark.parametrize(
    "crop", [{"slice": slice(1, 4)}, {"row": [4, 2]}, {"col": slice(None, None, -2)}, {"slice": [2]}]
)
def test_crop_adds_to_its_whole_at_its_place(crop):
    a, b = image(), image(noise=1e-5, origin=OTHER)
    np.testing.assert_array_equal(a.isel(crop) + b, 2 * a.isel(crop).values)
    both = b + a.isel(crop)
    np.testing.assert_array_equal(both, 2 * a.sel(both.indexes, method="nearest").values)
    assert both.sizes == a.isel(crop).sizes


def test_grids_that_meet_here_and_there_do_not_add():
    with pytest.raises(GeometryError, match="only 3 slice positions in common"):
        at([0, 3, 6, 9, 12]) + at([0, 2, 4, 6, 8, 10, 12])


def test_overlapping_slabs_add_where_both_are():
    np.testing.assert_array_equal(at([0, 3, 6, 9]) + at([6, 9, 12]), [12, 18])


def test_empty_images_join_to_an_empty_one():
    assert (at([0, 3]).isel(slice=[]) + at([5, 8])).size == 0


def test_outer_join_is_the_union_of_one_grid():
    a, b = xr.align(at([0, 3, 6]), at([6.0001, 9]), join="outer")
    np.testing.assert_allclose(a.slice, [0, 3, 6, 9])
    np.testing.assert_array_equal(b, [np.nan, np.nan, 6.0001, 9])
    down, _ = xr.align(at([6, 3]), at([3, 0]), join="outer")
    np.testing.assert_array_equal(down.slice, [6, 3, 0])
    far, _ = xr.align(at([0, 3]), at([60, 63]), join="outer")
    assert far.size == 4
    with pytest.raises(GeometryError, match="no slice positions"):
        xr.align(at([0, 3]), at([1, 4]), join="outer")
    assert xr.align(at([0, 3]).isel(slice=[]), at([1, 4]), join="outer")[0].size == 2


def test_position_that_occurs_twice_is_not_chosen_silently():
    twice = xr.concat([at([0, 3]), at([3, 6])], "slice")
    np.testing.assert_array_equal(twice + twice, [0, 6, 6, 12])
    with pytest.raises(GeometryError, match="occur 2 times"):
        at([0, 3]) + twice


def test_index_survives_what_xarray_does_with_one():
    a = image()
    for b in (
        pickle.loads(pickle.dumps(a)),
        copy.deepcopy(a),
        a.copy(),
        a.isel(slice=[2, 0]),
        a.sel(slice=slice(None)),
        a.roll(slice=2, roll_coords=True),
        a.sortby("slice", ascending=False),
        xr.concat([a.isel(slice=[0]), a.isel(slice=[3])], "slice"),
        a.reindex_like(a.isel(slice=[4, 1])),
        a.reindex_like(image(noise=1e-5)),
        a.groupby("slice").map(lambda s: s),
        xr.Dataset({"a": a, "b": a})["b"],
        a.to_dataset(name="c").c.transpose(),
        a[:, ::-1],
    ):
        assert isinstance(b.xindexes["slice"], PositionIndex)
        assert b.xindexes["slice"].frame == a.xindexes["slice"].frame
        assert isinstance(b.xindexes["time"], TagIndex)
        assert b.xindexes["time"].tolerance == a.xindexes["time"].tolerance
    renamed = a.rename(slice="z", time="t")
    assert renamed.xindexes["z"].frame == a.xindexes["slice"].frame
    assert renamed.xindexes["t"].tolerance == 0.625
    assert a.stack(voxel=("slice", "row")).sizes["voxel"] == 30
    assert a.sel(slice=a.slice[2].item() + 0.2, method="nearest").slice == a.slice[2]
    assert a.reindex_like(image(shift=0.4), method="nearest", tolerance=1).notnull().all()
    with xr.set_options(display_default_indexes=True):
        assert "PositionIndex (83.2432..98.2432 (6) mm)" in repr(a)
        assert "TagIndex (0..5 (3), equal within 0.625)" in repr(a)
    assert "frame" in repr(a.xindexes["slice"]).lower()
    assert repr(a.xindexes["time"]).endswith("tolerance=0.625)")


@pytest.mark.parametrize("way", [{"row": "col", "col": "row"}, {"slice": "row", "row": "slice"}])
def test_an_axis_is_not_renamed_to_another(way):
    """Rows that are called columns would be at a wrong place, and mirrored."""
    a = image()
    with pytest.raises(GeometryError, match="counted along another axis"):
        a.rename(way)
    first, second = way
    with pytest.raises(GeometryError, match=f"positions along {first} cannot be renamed to {second}"):
        a.rename({first: "aside"}).isel(aside=slice(None, None, -1)).rename({second: first, "aside": second})
    assert affine(a.rename(row="y", col="x").rename(y="row", x="col")).tolist() == affine(a).tolist()
    bare = a.drop_vars(["row", "col"]).rename(row="col", col="row")
    assert bare.sizes["row"] == a.sizes["col"]


def test_set_xindex_takes_the_orientation():
    plain = xr.DataArray([1.0, 2.0], dims="slice", coords={"slice": [0.0, 3.0]}).drop_indexes("slice")
    indexed = plain.set_xindex("slice", PositionIndex, orientation=AXIAL.orientation)
    assert indexed.xindexes["slice"].equals(at([0, 3]).xindexes["slice"])
    assert not indexed.xindexes["slice"].equals(None)
    timed = plain.rename(slice="time").set_xindex("time", TagIndex)
    assert timed.xindexes["time"].tolerance == 0.75


def test_adding_lazy_images_reads_nothing():
    class Lazy(xr.backends.BackendArray):
        shape, dtype = (3, 6, 5, 7), np.dtype("f8")

        def __getitem__(self, key):
            raise AssertionError("values were read")

    from xarray.core.indexing import LazilyIndexedArray

    lazy = image().copy(data=LazilyIndexedArray(Lazy()))
    xr.align(lazy, image(noise=1e-5, origin=OTHER), copy=False)
    chunked = (image().chunk() + (image(noise=1e-5) + 1).chunk()).data
    assert len(chunked.dask.layers) == 3  # two images, one sum: no copies in between


def test_two_reloaded_images_join_with_an_indexed_one_only_if_identical():
    a = image()
    reloaded = a.drop_indexes(["slice", "row", "col", "time"])
    for dim in ("slice", "row", "col", "time"):
        reloaded = reloaded.set_xindex(dim)
    np.testing.assert_array_equal(a + reloaded, 2 * a.values)
    np.testing.assert_array_equal(reloaded + a, 2 * a.values)
    with pytest.raises(ValueError, match="conflicting indexes"):
        reloaded + image(noise=1e-5)
    with pytest.raises(ValueError, match="conflicting indexes"):
        reloaded + image(times=[0, 2.49, 4.98])


# --- volumes


def test_two_runs_of_one_protocol_add_volume_to_volume():
    a = volumes("time", [0, 2.9875, 5.975], [1, 2, 3])
    b = volumes("time", [0, 2.99, 5.98], [10, 20, 30])
    np.testing.assert_array_equal(a + b, [11, 22, 33])
    np.testing.assert_array_equal((a + b).time, a.time)
    np.testing.assert_array_equal((b + a).time, b.time)
    np.testing.assert_array_equal(a.where(b > 10), [np.nan, 2, 3])
    np.testing.assert_array_equal(np.add(a, b) + b, [21, 42, 63])


def test_volumes_in_another_order_are_paired_by_label():
    a = volumes("time", [0, 2.9875, 5.975], [1, 2, 3])
    b = volumes("time", [5.98, 0, 2.99], [30, 10, 20])
    np.testing.assert_array_equal(a + b, [11, 22, 33])
    np.testing.assert_array_equal(b + a, [33, 11, 22])


@pytest.mark.parametrize("crop", [slice(0, 2), slice(1, None), [2, 0], [1]])
def test_crop_of_volumes_adds_to_its_whole(crop):
    a = volumes("time", [0, 2.9875, 5.975], [1, 2, 3])
    b = volumes("time", [0, 2.99, 5.98], [10, 20, 30])
    part = a.isel(time=crop)
    np.testing.assert_array_equal(part + b, part.values * 11)
    np.testing.assert_array_equal((part + b).time, part.time)
    whole = b + part
    np.testing.assert_array_equal(whole, b.sel(time=whole.time) * 1.1)
    assert whole.size == part.size


@pytest.mark.parametrize(
    ("dim", "mine", "theirs"),
    [
        ("time", [0, 3, 6], [0, 5, 10]),
        ("time", [0, 3, 6], [6, 9, 12]),
        ("time", [0, 3], [1.4, 4.4]),
        ("time", [0, 3, 6], [0, 3, 5, 7]),
        ("b", [0, 500, 1000], [0, 500, 1002]),
        ("te", [5, 10], [5, 10.01]),
        ("image_type", ["M", "P"], ["M", "R"]),
        ("image_type", ["M", "P"], ["R"]),
        ("b", [0, 500], ["0", "500"]),
        ("dti", [0, 1, 2], [1, 2, 3]),
    ],
)
def test_volumes_that_do_not_pair_are_refused(dim, mine, theirs):
    for a, b in ((mine, theirs), (theirs, mine)):
        with pytest.raises(
            PairingError, match=rf"do not pair along {dim}: .* against .*assign_coords\({dim}=a.{dim}\)"
        ):
            volumes(dim, a) + volumes(dim, b)


def test_message_shows_labels_but_not_all():
    with pytest.raises(PairingError, match=r"\[0, 1, 2, \.\.\., 58, 59\] \(60\) against \[0, 9.5\] \(2\) s"):
        volumes("time", np.arange(60)) + volumes("time", [0, 9.5])
    with pytest.raises(PairingError, match=r"\[0, 2.5\] \(2\) against \[0, 9.5\] \(2\) s, equal within 0.625"):
        volumes("time", [0, 2.5]) + volumes("time", [0, 9.5])


def test_advice_in_the_message_works():
    a, b = volumes("time", [0, 3.0, 6.0]), volumes("time", [0, 5.0, 10.0])
    np.testing.assert_array_equal(a + b.assign_coords(time=a.time), [0, 2, 4])


def test_duplicate_and_unsorted_labels_do_not_crash_but_are_not_guessed_at():
    a = volumes("b", [50.0, 0.0, 50.0])
    assert a.xindexes["b"].tolerance == 1.0
    np.testing.assert_array_equal(a + a, [0, 2, 4])
    np.testing.assert_array_equal(a + a.isel(b=[1]), [2])
    with pytest.raises(PairingError):
        a + a.isel(b=[0, 1])
    with pytest.raises(PairingError):
        a.reindex_like(volumes("b", [50.0]))


def test_philips_b0_volumes_stay_apart():
    b = [0.0, 0.001, 0.002, 1000.0]
    a = volumes("b", b)
    assert a.xindexes["b"].tolerance < 0.0005
    np.testing.assert_array_equal(a.isel(b=[1]) + a, [2])
    np.testing.assert_array_equal(a + volumes("b", b), [0, 2, 4, 6])


@pytest.mark.parametrize(
    ("dim", "labels", "tolerance"),
    [
        ("time", [0, 2, 5], 0.5),
        ("triggertime", [0.0, 0.03], 0.0075),
        ("time", [7.0], 1e-3),
        ("te", [4.92, 7.38], 1e-3),
        ("te", [5], 1e-3),
        ("fa", [2.0, 15.0], 1e-3),
        ("b", [0, 800], 1.0),
        ("b", [0.0, 1.0], 0.25),
        ("InversionTime", [100.0, 2000.0], 2e-3),
        ("InversionTime", [0.0], 0.0),
        ("dti", [0, 1, 2], 0.0),
        ("image_type", ["M", "P"], 0.0),
        ("time", [0.0, np.nan, 1.0], 0.25),
        ("time", [], 1e-3),
    ],
)
def test_tolerance_is_that_of_the_dim(dim, labels, tolerance):
    assert TagIndex.for_dim(dim, labels).tolerance == pytest.approx(tolerance)


def test_string_labels_keep_their_type_through_a_join():
    a = volumes("image_type", ["M", "P", "R"])
    both = a + volumes("image_type", ["P", "M"], [10, 20])
    assert both.image_type.values.tolist() == ["M", "P"]
    assert both.image_type.dtype.kind == "U"
    np.testing.assert_array_equal(both, [20, 11])


def test_dataset_of_two_runs_has_volumes_once():
    ds = xr.Dataset({"a": volumes("time", [0, 2.9875]), "b": volumes("time", [0, 2.99, 5.98])})
    np.testing.assert_array_equal(ds.time, [0, 2.9875, 5.98])
    np.testing.assert_array_equal(ds.a, [0, 1, np.nan])
    left, right = xr.align(volumes("time", [0, 2.9875]), volumes("time", [0, 2.99, 5.98]), join="right")
    np.testing.assert_array_equal(left, [0, 1, np.nan])
    np.testing.assert_array_equal(right, [0, 1, 2])
    np.testing.assert_array_equal(
        volumes("time", [0, 3, 6], [0, np.nan, 2]).fillna(volumes("time", [3.0005], [9])), [0, 9, 2]
    )


def test_joined_tags_keep_the_stricter_tolerance():
    coarse, fine = volumes("time", [0, 4, 8]), volumes("time", [0.0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert (coarse + fine).xindexes["time"].tolerance == 0.25
    assert xr.concat([coarse, volumes("time", [8.5])], "time").xindexes["time"].tolerance == pytest.approx(1e-3)


@hypothesis.given(
    steps=st.lists(st.floats(0.5, 10), min_size=1, max_size=12),
    error=st.floats(-0.1, 0.1),
    keep=st.data(),
)
def test_every_volume_finds_its_own(steps, error, keep):
    labels = np.cumsum(steps)
    a, b = volumes("time", labels, labels), volumes("time", labels + error * min(steps) / 4, labels)
    chosen = keep.draw(st.lists(st.sampled_from(range(len(labels))), min_size=1, unique=True))
    part = b.isel(time=chosen)
    if len(labels) == 1:
        return
    np.testing.assert_array_equal(part + a, 2 * labels[chosen])
    np.testing.assert_array_equal(a + part, 2 * labels[sorted(chosen)])
