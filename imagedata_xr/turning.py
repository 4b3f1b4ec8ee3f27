"""An image turned to other directions: dims exchanged and flipped, and every voxel where it was in the patient.

Flipped dims need nothing of us, their coordinates go with them. Exchanged ones do: rows that become slices are
counted along another direction of the patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import format_numbers, make_frame, unit_vectors
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.placement import STEP_KEYWORDS, frame, place, positions_along, two_positions
from imagedata_xr.positions import patient_orientation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

__all__ = ["to_patient_orientation"]

_FRAME_COORDS: Final = ("source", "SOPInstanceUID")
_SIGNS: Final = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
_OTHER_LETTERS: Final = str.maketrans("SI", "HF")  # superior and inferior, as others call head and foot


def to_patient_orientation(da: xr.DataArray, orientation: str | Sequence[str]) -> xr.DataArray:
    """Return the image with its dims exchanged and flipped so that they run nearest to given directions.

    No voxel moves in the patient, and none is interpolated. A dim of size 1 has no direction to turn.

    Parameters
    ----------
    da : xarray.DataArray
        Image with all of slice, row and col as dims.
    orientation : str
        Letters of the directions in which slice, row and col numbers are to grow: "HPL" for an axial image,
        "LFP" for a sagittal, "AFL" for a coronal one. S and I may stand for H and F.

    Returns
    -------
    xarray.DataArray
        Where dims are exchanged, the frames are no more those of the source: their coordinates are left out.

    Raises
    ------
    GeometryError
        If the letters are not three directions, the geometry is not known, or dims of a sheared stack would
        have to be exchanged.
    """
    letters = "".join(orientation).upper().translate(_OTHER_LETTERS)
    wanted = [_SIGNS.get(letter, (-1, 0)) for letter in letters]
    if sorted(xyz for xyz, _ in wanted) != [0, 1, 2]:
        raise GeometryError(f"orientation is {orientation!r}; one letter each of L/R, P/A and H/F is needed")
    now = {_SIGNS[letter][0]: (dim, letter) for dim, letter in zip(SPATIAL_DIMS, patient_orientation(da), strict=True)}
    flips = [now[xyz][0] for xyz, sign in wanted if _SIGNS[now[xyz][1]] != (xyz, sign)]
    missing = [dim for dim in SPATIAL_DIMS if dim not in da.dims]
    if missing:
        raise GeometryError(f"image has no dim {missing[0]!r}; add it with da.expand_dims({missing[0]!r})")
    flipped = da.isel(dict.fromkeys(flips, slice(None, None, -1)))
    sources = tuple(now[xyz][0] for xyz, _ in wanted)  # the dims that become slice, row, col
    return flipped if sources == SPATIAL_DIMS else _exchange(flipped, sources)


def _exchange(da: xr.DataArray, sources: tuple[str, ...]) -> xr.DataArray:
    """Return the image with the dims `sources` as slice, row, col, its voxels where they were."""
    known = frame(da)
    if any(known.shear):
        raise GeometryError(
            f"slices are sheared by {format_numbers(known.shear)} and cannot become rows or columns; bring "
            "it on the grid of a straight one first, image.dicom.resample_like(other)"
        )
    vectors = dict(zip(SPATIAL_DIMS, unit_vectors(known.orientation), strict=True))
    across, down, right = (vectors[dim] for dim in sources)
    side = float(np.sign(np.cross(right, down) @ across))
    positions = {new: positions_along(da, old) for new, old in zip(SPATIAL_DIMS, sources, strict=True)}
    positions["slice"] = side * positions["slice"]
    steps = [abs(np.diff(two_positions(da, dim)).mean()) for dim in sources]
    gone = [name for name, coord in da.coords.items() if "slice" in coord.dims or name in _FRAME_COORDS]
    bare = da.drop_vars([*gone, *SPATIAL_DIMS], errors="ignore").drop_attrs(deep=False)
    renamed = bare.rename(dict(zip(sources, SPATIAL_DIMS, strict=True))).transpose(..., *SPATIAL_DIMS)
    renamed.attrs = {name: value for name, value in da.attrs.items() if name not in STEP_KEYWORDS}
    renamed.attrs |= {
        "SpacingBetweenSlices": float(steps[0]),
        "PixelSpacing": [float(steps[1]), float(steps[2])],
    }
    renamed.encoding = {}
    return place(renamed, positions, make_frame([*right, *down]))
