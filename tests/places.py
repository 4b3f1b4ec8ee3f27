"""Images in many places of a patient whose values are the coordinates of their voxels.

After any operation that is linear in the values, the geometry of the result must agree with its values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from imagedata_xr.geometry import stack_positions
from imagedata_xr.indexes import TagIndex
from imagedata_xr.origins import Origin
from imagedata_xr.placement import with_indexes
from imagedata_xr.positions import assign_positions, patient_coords

N_SLICE, N_ROW, N_COL, N_TIME = 6, 5, 7, 3
SPACING = (2.0, 1.25)
ORIGIN = Origin("p1", "1.2.1", "1.2.1.1", "1.2.9")
OTHER = Origin("p2", "1.2.2", "1.2.2.1", "1.2.8")


class Place(NamedTuple):
    """Positions of the first voxels [mm, LPS+] and direction cosines of a stack."""

    image_positions: np.ndarray
    orientation: np.ndarray


def _place(orientation, gaps=(3.0,) * (N_SLICE - 1), tilt=(0.0, 0.0), start=(-91.5, -78.25, 33.0)):
    orientation = np.asarray(orientation, float)
    right, down = orientation[:3], orientation[3:]
    direction = np.cross(right, down) + tilt[0] * down + tilt[1] * right
    along = np.concatenate([[0.0], np.cumsum(gaps)])
    return Place(np.asarray(start) + along[:, np.newaxis] * direction, orientation)


def _rotated(*degrees):
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (x @ y @ z)[:, :2].T.ravel()


AXIAL = [1, 0, 0, 0, 1, 0]
PLACES = {
    "axial": _place(AXIAL),
    "sagittal": _place([0, 1, 0, 0, 0, -1]),
    "coronal": _place([1, 0, 0, 0, 0, -1]),
    "oblique": _place(_rotated(25, -14, 8)),
    "tilted": _place(AXIAL, tilt=(-0.334595, 0.0)),
    "tilted oblique": _place(_rotated(5, 11, -30), tilt=(0.2, -0.1)),
    "uneven": _place(_rotated(25, -14, 8), gaps=(3.0, 3.0, 5.5, 3.0, 3.0)),
    "one slice": _place(_rotated(-40, 3, 8), gaps=()),
    "reversed": _place(_rotated(25, -14, 8), gaps=(-3.0,) * (N_SLICE - 1)),
}


def image(name="oblique", values=None, *, shift=0.0, origin=ORIGIN, times=(0.0, 2.5, 5.0), noise=0.0, rows=N_ROW):
    """Return an image (time, slice, row, col) at a place, moved by `shift` mm, its positions off by `noise` mm."""
    place = PLACES[name]
    n_slice = len(place.image_positions)
    if values is None:
        values = np.arange(len(times) * n_slice * rows * N_COL, dtype=float)
    values = np.asarray(values).reshape(len(times), n_slice, rows, N_COL)
    da = xr.DataArray(values, dims=("time", "slice", "row", "col"), name="image")
    points = place.image_positions + shift + noise * np.random.default_rng(0).uniform(-1, 1, (n_slice, 3))
    stack = stack_positions(points, place.orientation, SPACING, rows, N_COL)
    da = assign_positions(da, stack.positions, place.orientation, stack.shear, origin=origin)
    da = with_indexes(da, {"time": TagIndex.for_dim("time", np.asarray(times))}, {"units": "s"})
    slices = np.arange(n_slice)
    da = da.assign_coords(
        InstanceNumber=(("time", "slice"), np.arange(len(times) * n_slice).reshape(len(times), -1)),
        SliceLocation=("slice", slices * 1.0),
        AcquisitionDateTime="2020-01-31T12:00:00",
    )
    identity = dict(zip(Origin._fields, origin, strict=True))
    return da.assign_attrs(identity | {"PixelSpacing": list(SPACING), "SliceThickness": 3.0, "EchoTime": 4.5})


def coordinate_image(name="oblique"):
    """Return an image (xyz, time, slice, row, col) whose values are x, y and z [mm, LPS+] of its voxels."""
    place = PLACES[name]
    n_slice = len(place.image_positions)
    right, down = place.orientation[:3], place.orientation[3:]
    row = np.arange(N_ROW)[:, np.newaxis, np.newaxis] * SPACING[0] * down
    col = np.arange(N_COL)[:, np.newaxis] * SPACING[1] * right
    xyz = np.moveaxis(place.image_positions[:, np.newaxis, np.newaxis] + row + col, -1, 0)
    da = image(name, np.zeros((N_TIME, n_slice, N_ROW, N_COL)))
    da = da + xr.DataArray(xyz, dims=("xyz", "slice", "row", "col"))
    return da.transpose("xyz", "time", "slice", "row", "col")


def assert_at_its_place(da, atol=1e-6):
    """Assert that the values of an image made from a coordinate image are where its coordinates say."""
    points = patient_coords(da)
    values = da.compute().mean([d for d in da.dims if d not in ("xyz", "slice", "row", "col")])
    for number, axis in enumerate("xyz"):
        found, stated = values.isel(xyz=number).values, points[axis].transpose(*values.isel(xyz=0).dims).values
        np.testing.assert_allclose(found, stated, rtol=0, atol=atol)
