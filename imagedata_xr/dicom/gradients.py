"""B-values and gradient directions of an image: whether they are those of its files, and into a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.dicom.derive import drop_private_elements, private_tags
from imagedata_xr.dicom.label_elements import GRADIENT
from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.vendors import IN_IMAGE_FRAME, OF_DIFFUSION, diffusion, in_image_frame
from imagedata_xr.elements import decimal_string
from imagedata_xr.errors import MissingHeaderError
from imagedata_xr.headers import values_of_frames
from imagedata_xr.keywords import is_keyword
from imagedata_xr.names import SAME_DIRECTION
from imagedata_xr.pairing import DIFFUSION

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["OF_DIRECTION", "check_directions", "correct_private", "has_new_diffusion", "set_direction"]

_SAME: Final = 1e-6
OF_DIRECTION: Final = (
    *("DiffusionGradientOrientation", "DiffusionDirectionality"),
    *("DiffusionBMatrixSequence", "DiffusionGradientDirectionSequence"),
)
"""Elements that tell a gradient direction, or whether there is one."""


def check_directions(da: xr.DataArray, dim: str) -> None:
    """Raise where nothing tells volumes apart along a dim that counts diffusion volumes.

    Parameters
    ----------
    da : DataArray
        Image whose frames name no file.
    dim : str
        ``dti`` or ``bvector``.

    Raises
    ------
    MissingHeaderError
        If neither b-values and directions nor another element of a coordinate vary along it.
    """
    told = [coord for name, coord in da.coords.items() if dim in coord.dims and (name in DIFFUSION or is_keyword(name))]
    if not any(len(set(coord.values.ravel().tolist())) > 1 for coord in told):
        raise MissingHeaderError(
            f"neither b-values nor directions tell the volumes along {dim!r} apart; xarray has dropped them if those "
            f"of one volume were combined with all: use image.isel({dim}=0, drop=True) there, or give them back, "
            "result.assign_coords(b=image.b, bx=image.bx, by=image.by, bz=image.bz)"
        )


def has_new_diffusion(da: xr.DataArray) -> bool:
    """Return whether b-values or gradient directions of an image are not those that its files tell.

    These may be in private elements, which stay in the header of an original.

    Parameters
    ----------
    da : DataArray
        Image whose coordinate ``source`` names the file of each frame.
    """
    # Of a dim b that a user has told by another element, the files say nothing.
    has_b = "b" in da.coords and da.coords["b"].attrs.get("element", "DiffusionBValue") == "DiffusionBValue"
    has_direction = all(name in da.coords for name in GRADIENT)
    if not has_b and not has_direction:
        return False
    sources = values_of_frames(da, "source").ravel().astype(object)
    there = np.flatnonzero(sources != "")
    b: dict[str, float] = {}
    directions: dict[str, tuple[float, ...]] = {}
    for table in scan(sorted(set(sources[there].tolist()))).values():
        found = diffusion(table)
        for path, value, direction in zip(table.paths, found.b, found.directions, strict=True):
            b[path] = np.nan if value is None else value
            directions[path] = (np.nan,) * 3 if direction is None else direction
    paths = sources[there].tolist()
    if has_b:
        labels, told = values_of_frames(da, "b").ravel()[there].astype(float), np.asarray([b[path] for path in paths])
        if not np.isclose(labels, told, rtol=_SAME, atol=_SAME, equal_nan=True).all():
            return True
    if not has_direction:
        return False
    vectors = np.stack([values_of_frames(da, name).ravel()[there].astype(float) for name in GRADIENT], axis=1)
    vectors[~_are_directions(vectors)] = np.nan
    own = np.asarray([directions[path] for path in paths])
    # The reader gives all volumes that it takes for one direction that of the first.
    if not np.isclose(vectors, own, rtol=0, atol=SAME_DIRECTION, equal_nan=True).all():
        return True
    known = np.asarray(list(set(directions.values())))
    others = np.unique(vectors[_are_directions(vectors)], axis=0)
    return not all((np.abs(known - vector).max(axis=1) <= _SAME).any() for vector in others)


def _are_directions(vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(vectors).all(axis=-1) & vectors.any(axis=-1), bool)


def correct_private(ds: Dataset, frame: xr.DataArray, *, is_new: bool) -> None:
    """Let no private element tell another b-value or gradient direction than the coordinates of a frame.

    Those along the axes of the image, which programs may prefer to standard ones, tell the new direction; others go.

    Parameters
    ----------
    ds : Dataset
        Header, whose place is that of the frame; changed.
    frame : DataArray
        The frame.
    is_new : bool
        Whether b-value and direction may be new; else only the axes of the image are.
    """
    had = {element: tags for element in IN_IMAGE_FRAME if (tags := private_tags(ds, element))}
    drop_private_elements(ds, OF_DIFFUSION if is_new else IN_IMAGE_FRAME)
    orientation = ds.get("ImageOrientationPatient")
    if not orientation or not all(name in frame.coords for name in GRADIENT):
        return
    vector = np.asarray([float(frame.coords[name]) for name in GRADIENT])
    if not _are_directions(vector):
        vector[:] = 0
    phase = str(ds.get("InPlanePhaseEncodingDirection") or "").strip().upper()
    told = in_image_frame(vector, np.asarray(orientation, float), phase)
    for element in had.keys() & told.keys():
        numbers = [decimal_string(value) for value in told[element]] if element.vr == "DS" else told[element]
        for number in had[element]:
            ds.add_new(number, element.vr, numbers)


def set_direction(ds: Dataset, frame: xr.DataArray) -> None:
    """Put the gradient direction of a frame in its header, or remove the one that it has no more.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    frame : DataArray
        The frame, with ``b``, ``bx``, ``by`` and ``bz`` as scalar coordinates, as far as it has these.
    """
    is_weighted = "b" not in frame.coords or float(frame.coords["b"]) != 0
    if is_weighted and not all(name in frame.coords for name in GRADIENT):
        return
    vector = np.asarray([float(frame.coords[name]) if name in frame.coords else np.nan for name in GRADIENT])
    kind = str(ds.get("DiffusionDirectionality") or "")
    if is_weighted and _are_directions(vector):
        ds.DiffusionGradientOrientation = vector.tolist()
        if kind in ("NONE", "ISOTROPIC"):
            ds.DiffusionDirectionality = "DIRECTIONAL"
        return
    for name in OF_DIRECTION:
        if name in ds and (name != "DiffusionDirectionality" or kind in ("DIRECTIONAL", "BMATRIX")):
            delattr(ds, name)
    if kind and not is_weighted:
        ds.DiffusionDirectionality = "NONE"
