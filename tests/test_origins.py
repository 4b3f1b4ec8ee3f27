"""What was mixed is remembered by every operation."""

from __future__ import annotations

import operator
import pickle

import numpy as np
import pytest
import xarray as xr

from imagedata_xr.origins import Origin, assign_origins, origins
from imagedata_xr.positions import assign_geometry
from tests.places import image

P1, P2, P3 = (Origin(f"p{n}", f"1.2.{n}", f"1.2.{n}.1", "1.2.9") for n in (1, 2, 3))


def made(origin, **kwargs):
    return image("axial", origin=origin, times=(0.0, 2.5), rows=2, **kwargs)


COMBINATIONS = {
    "add": operator.add,
    "np.add": np.add,
    "compare": operator.gt,
    "where": lambda a, b: a.where(b > 3),
    "where with other": lambda a, b: a.where(b > 3, 0),
    "xr.where": lambda a, b: xr.where(b > 3, a, b),
    "fillna": lambda a, b: a.where(a > 5).fillna(b),
    "clip": lambda a, b: a.clip(max=b),
    "combine_first": lambda a, b: a.combine_first(b),
    "apply_ufunc": lambda a, b: xr.apply_ufunc(np.hypot, a, b),
    "dot": lambda a, b: xr.dot(a, b, dim="time"),
    "in place": operator.iadd,
    "concat": lambda a, b: xr.concat([a, b], "x", coords="minimal", compat="override", join="exact"),
    "map_blocks": lambda a, b: xr.map_blocks(operator.add, a.chunk(slice=2), args=[b.chunk(slice=2)]),
    "dask": lambda a, b: a.chunk(slice=2) + b.chunk(slice=3),
    "corr": lambda a, b: xr.corr(a, b, "time"),
    "sum": lambda a, b: sum([a, b]),
}


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
@pytest.mark.parametrize("noise", [0, 1e-5])
def test_what_was_mixed_is_remembered_by_every_operation(combine, noise):
    b, c = made(P2, noise=noise), made(P3)
    mixed = combine(made(P1), b)
    assert origins(mixed) == {P1, P2}
    if "x" not in mixed.dims and "slice" in mixed.dims:
        assert origins(combine(mixed, c)) == {P1, P2, P3}
    assert origins(b) == {P2}


def test_third_operand_does_not_bring_back_its_patient():
    result = (made(P1) + made(P2)) + made(P2)
    assert result.attrs["PatientID"] == "p2"  # which is why attrs are no evidence
    assert origins(result) == {P1, P2}


CHANGES = [
    lambda a: a.mean("time"),
    lambda a: a.mean(),
    lambda a: a.isel(slice=0, row=0, col=0),
    lambda a: a.coarsen(col=7).mean(),
    lambda a: a.rolling(slice=2).mean(),
    lambda a: a.groupby("time").mean(),
    lambda a: a.stack(voxel=("slice", "row")).unstack(),
    lambda a: a.astype("f4"),
    lambda a: pickle.loads(pickle.dumps(a)),
    lambda a: xr.full_like(a, 0),
    lambda a: xr.map_blocks(lambda x: x * 2, a.chunk(slice=2)),
    lambda a: assign_geometry(a, like=made(P3)),
    lambda a: a.to_dataset(name="v").v.expand_dims("x"),
]


@pytest.mark.parametrize("change", CHANGES, ids=map(str, range(len(CHANGES))))
def test_origins_stay_through_changes(change):
    assert origins(change(made(P1) + made(P2))) == {P1, P2}


def test_origin_of_an_image_that_has_none_is_what_its_header_says():
    assert origins(xr.DataArray(0, attrs={"PatientID": "x", "StudyInstanceUID": "1.2"})) == {Origin("x", "1.2", "", "")}
    assert origins(xr.DataArray(0)) == {Origin("", "", "", "")}
    assert origins(assign_origins(made(P1), [P3, P2])) == {P3, P2}


def test_series_of_one_patient_in_place():
    a = made(P1)
    a += made(P1._replace(SeriesInstanceUID="1.2.1.2"))
    assert {origin.SeriesInstanceUID for origin in origins(a)} == {"1.2.1.1", "1.2.1.2"}
    assert {origin.PatientID for origin in origins(a)} == {"p1"}
