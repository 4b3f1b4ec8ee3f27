"""Whether numbers of two images are of one frame of reference, in which the same ones are the same place.

Positions [mm] say nothing of that: two scans have voxels at (0, 0, 0), and a patient who has moved in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import GeometryError
from imagedata_xr.origins import origins, told_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr

__all__ = ["common_reference"]

_REGISTERED: Final = (
    "If you know that a place of the patient has the same numbers in both, as after a registration, say registered=True"
)


def common_reference(da: xr.DataArray, like: xr.DataArray, *, registered: bool) -> str:
    """Return the frame of reference of an image that is brought on the grid of another, "" if neither names one.

    Parameters
    ----------
    da, like : xarray.DataArray
        The image, and the other.
    registered : bool
        Whether the user knows that a place of the patient has the same numbers in both, whatever they name.

    Raises
    ------
    GeometryError
        If the images are in two, or nothing says that they are in one.
    """
    mine, theirs = _references(da), _references(like)
    if len(theirs or mine) > 1:
        which = "the other image" if theirs else "the image"
        msg = f"{which} was made of images in several frames of reference, {_listed(theirs or mine)}: take one of these"
        raise GeometryError(msg)
    if registered or mine == theirs:
        pass
    elif mine and theirs:
        msg = (
            f"the image is in the frame of reference {_listed(mine)}, the other in {_listed(theirs)}: numbers in the "
            f"one say nothing of places in the other. {_REGISTERED}"
        )
        raise GeometryError(msg)
    else:
        which, known = ("the image", theirs) if theirs else ("the other image", mine)
        msg = f"{which} names no frame of reference, so nothing says that it is in {_listed(known)}, too. {_REGISTERED}"
        raise GeometryError(msg)
    for name in ("PatientID", "StudyInstanceUID"):
        apart = [{getattr(origin, name) for origin in origins(image)} - {""} for image in (da, like)]
        if not (registered or mine) and all(apart) and apart[0] != apart[1]:
            msg = (
                f"the images name no frame of reference and have {told_values(name, sorted(apart[0] | apart[1]))}, so "
                f"nothing says that they are in one. {_REGISTERED}"
            )
            raise GeometryError(msg)
    return next(iter(theirs or mine), "")


def _references(da: xr.DataArray) -> set[str]:
    """Return the frames of reference that an image names; attributes count where its series name none."""
    found = {origin.FrameOfReferenceUID for origin in origins(da)} - {""}
    return found or {str(da.attrs.get("FrameOfReferenceUID", ""))} - {""}


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(texts)))
