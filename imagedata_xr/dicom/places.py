"""Where the frames of an image are, from its coordinates to the elements of a header."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from imagedata_xr.elements import decimal_string, to_value
from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import is_even, line_tolerance
from imagedata_xr.headers import are_mixed
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.placement import has_geometry, lone_step, positions_along
from imagedata_xr.positions import axes

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.elements import Value

__all__ = [
    "OF_PLACE",
    "Places",
    "SourceGrid",
    "frame_places",
    "new_place",
    "put_place",
    "set_place",
    "warn_of_thickness",
]

_SAME_POSITION: Final = 1e-3  # mm
_SAME_COSINE: Final = 1e-4
# What the reader takes for one stack: there the frame's own numbers are better than those of the whole.
_READER_COSINE: Final = 2e-3
_SAME_SPACING: Final = 1e-6  # mm
_SAME_PIXEL: Final = 0.01
"""By what part of a pixel one of a crop may lie beside that of its source."""
OF_PLACE: Final = (
    *("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceLocation", "SpacingBetweenSlices", "PatientOrientation"),
)
"""Elements that tell the place of a frame."""


@dataclass(frozen=True)
class Places:
    """Where the frames of one volume are, as the coordinates say."""

    slices: NDArray[np.float64]
    """Positions of the slices along the normal [mm], shape (slice,)."""
    positions: NDArray[np.float64]
    """ImagePositionPatient of each slice [mm, LPS+], shape (slice, 3)."""
    orientation: NDArray[np.float64]
    """ImageOrientationPatient, shape (6,)."""
    spacing: NDArray[np.float64]
    """PixelSpacing [mm], between rows, between columns."""
    gap: float | None
    """Distance of the slices along the normal [mm]; None where it varies, or one slice tells none."""
    tells_gap: bool
    """Whether the image has SpacingBetweenSlices, which many do not."""

    @cached_property
    def reader_limit(self) -> float:
        """Distance [mm] within which the reader takes a slice for one of the stack."""
        return line_tolerance([*self.spacing, *np.abs(np.diff(self.slices))])


def frame_places(da: xr.DataArray) -> Places | None:
    """Return where the frames of an image are; None where it has no place in the patient.

    Pixels stay in the order of the array: rows or columns that run backwards have their direction cosines reversed.

    Parameters
    ----------
    da : DataArray
        Dims ``slice``, ``row``, ``col`` (and any others).

    Raises
    ------
    GeometryError
        If positions are absent or not finite, or rows or columns are not evenly spaced or of unknown size.
    """
    if "ImageOrientationPatient" not in da.attrs and "slice_shear" not in da.attrs and not has_geometry(da):
        return None
    directions = axes(da)
    where = {dim: positions_along(da, dim) for dim in SPATIAL_DIMS}
    signs, spacing = [], []
    for dim in ("row", "col"):
        values = where[dim]
        if values.size > 1:
            if not is_even(values):
                raise GeometryError(
                    f"{dim} positions are not evenly spaced: {values[:4]} ... {values[-1]:g} mm; "
                    f"resample them, for instance with image.interp({dim}=...)"
                )
            step = (values[-1] - values[0]) / (values.size - 1)
        else:
            step = lone_step(da, dim)
        signs.append(-1.0 if step < 0 else 1.0)
        spacing.append(abs(step))
    first = where["row"][0] * directions[1] + where["col"][0] * directions[2]
    slices, told = where["slice"], da.attrs.get("SpacingBetweenSlices")
    gap = float(told) if slices.size == 1 and isinstance(told, int | float) else None
    if slices.size > 1 and is_even(slices):
        gap = round(float(abs(slices[-1] - slices[0]) / (slices.size - 1)), 6)  # no noise of the arithmetic
    return Places(
        slices=slices,
        positions=slices[:, np.newaxis] * directions[0] + first,
        orientation=np.concatenate([signs[1] * directions[2], signs[0] * directions[1]]),
        spacing=np.asarray(spacing),
        gap=gap,
        tells_gap=told is not None,
    )


def warn_of_thickness(da: xr.DataArray, places: Places | None) -> None:
    """Warn where slices may have been put together, and are as thick as one was: nothing else tells of it.

    Parameters
    ----------
    da : DataArray
        Image, whose attributes are written.
    places : Places, optional
        Where its frames are.
    """
    thickness, told = (da.attrs.get(name) for name in ("SliceThickness", "SpacingBetweenSlices"))
    if places is None or not isinstance(thickness, int | float) or not are_mixed(da):
        return
    one = places.slices.size == 1
    apart = 0.0 if one else float(np.abs(np.diff(places.slices)).min())
    before = float(told) if isinstance(told, int | float) else float(thickness)
    if not one and (apart <= before + _SAME_POSITION or thickness >= apart - _SAME_POSITION):
        return
    which = "one slice that no file has is" if one else f"slices {apart:g} mm apart that no file has are"
    also = f" and SpacingBetweenSlices {told:g} mm" if one and isinstance(told, int | float) else ""
    msg = (
        f"{which} written with SliceThickness {thickness:g} mm{also}, as the files have it. Where coarsen put several "
        "slices together set image.attrs['SliceThickness'] [mm]; image.drop_vars('InstanceNumber') says it is right"
    )
    warnings.warn(msg, stacklevel=4)


class SourceGrid(NamedTuple):
    """Where the pixels of a frame are, as its header says; of no size what that does not say."""

    shape: tuple[int, ...]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def of(cls, value_of: Callable[[str], Value | None]) -> Self:
        """Return what a header says, whose elements `value_of` gives."""
        rows, columns = value_of("Rows"), value_of("Columns")
        shape = (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else ()
        names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        position, orientation, spacing = (_numbers(value_of(name)) for name in names)
        return cls(shape, position, orientation, spacing)

    def pixels(
        self, places: Places | None, number: int, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Return which rows and columns of the header's are those of a crop of it, in whatever direction.

        None where the frame is no such crop; all of them where it is as large, wherever it is.
        """
        if places is not None and self.position.shape == (3,) and self.orientation.shape == (6,):
            off = places.positions[number] - self.position
            found = []
            # An index of rows counts along a column, and the other way round.
            for axis, (along, spacing) in enumerate(zip((slice(3, 6), slice(3)), (0, 1), strict=True)):
                direction = self.orientation[along]
                step = float(direction @ places.orientation[along]) * places.spacing[spacing]
                where = (float(direction @ off) + step * np.arange(shape[axis])) / self.spacing[spacing]
                nearest = np.rint(where)
                if not (np.abs(where - nearest) <= _SAME_PIXEL).all():
                    break
                if nearest.min() < 0 or nearest.max() >= self.shape[axis]:
                    break
                found.append(nearest.astype(np.intp))
            else:
                return found[0], found[1]
        return (np.arange(shape[0]), np.arange(shape[1])) if shape == self.shape else None


def set_place(
    ds: Dataset, places: Places | None, number: int, shape: tuple[int, ...], *, original: bool, keep: bool = False
) -> str:
    """Put the place of a frame in its header, and return how it differs from the one that was there.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    places, number, shape, original, keep
        See `new_place`.

    Raises
    ------
    GeometryError
        If the header has a place and the image has none.
    """
    names = {name for name in OF_PLACE if name in ds}
    changes, new = new_place(
        names, lambda name: to_value(ds[name]), places, number, shape, original=original, keep=keep
    )
    put_place(ds, new)
    return changes


def put_place(ds: Dataset, new: Mapping[str, Any]) -> None:
    """Put in a header, which is changed, the elements that `new_place` says must be new."""
    for name, value in new.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)


def new_place(
    names: Container[str],
    value_of: Callable[[str], Value | None],
    places: Places | None,
    number: int,
    shape: tuple[int, ...],
    *,
    original: bool,
    keep: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Return how the place of a frame differs from the one that its header tells, and the elements that must be new.

    What the header says is kept, digit by digit, where it means the same place. For an original that is what the
    reader takes for one stack; else a difference of 1e-3 mm.

    Parameters
    ----------
    names : container of str
        Keywords of the elements of the header.
    value_of : callable
        Returns the value of one of them.
    places : Places or None
        Of the image.
    number : int
        Number of the slice.
    shape : tuple of int
        Rows and columns of the frame.
    original : bool
        Whether positions came from the header itself, by way of the reader.
    keep : bool
        Whether SpacingBetweenSlices stays, though other slices may be its neighbours now.

    Returns
    -------
    str
        What changed; "" if nothing did, or the header had no place.
    dict
        Keywords to values; None of what has to go.

    Raises
    ------
    GeometryError
        If the header has a place and the image has none.
    """
    size = tuple((value_of(name) or None) if name in names else None for name in ("Rows", "Columns"))
    new: dict[str, Any] = {}
    changes = []
    if size != shape:
        new["Rows"], new["Columns"] = shape
        if size != (None, None):
            changes.append(f"{shape[0]} x {shape[1]} pixels, from {size[0]} x {size[1]}")
    if places is None:
        if "ImagePositionPatient" in names or "ImageOrientationPatient" in names:
            raise GeometryError(
                "the image has no ImageOrientationPatient, but its header has: "
                "place it, for instance with assign_geometry(image, like=other)"
            )
        return ", ".join(changes), new

    @cache
    def told(name: str) -> NDArray[np.float64]:
        return _numbers(value_of(name) if name in names else "")

    def replace(name: str, wanted: NDArray[np.float64], limit: float) -> bool:
        """Take a new value unless the header says the same within a limit, and return whether that was needed."""
        found = told(name)
        if found.shape == wanted.shape and np.abs(found - wanted).max() <= limit:
            return False
        texts = [_text(value) for value in wanted]
        new[name] = texts if len(texts) > 1 else texts[0]
        return True

    limit, cosine_limit = (places.reader_limit, _READER_COSINE) if original else (_SAME_POSITION, _SAME_COSINE)
    turned = replace("ImageOrientationPatient", places.orientation, cosine_limit)
    moved = replace("ImagePositionPatient", places.positions[number], limit)
    scaled = replace("PixelSpacing", places.spacing, _SAME_SPACING)
    before = told("ImagePositionPatient")
    if before.shape == (3,):
        changes += [
            text
            for text, changed in (("directions", turned), ("position", moved), ("pixel spacing", scaled))
            if changed
        ]
        if (moved or turned) and "SliceLocation" in names:
            # Along the normal, where vendors count from other points and in other directions than we do.
            normal = np.cross(places.orientation[:3], places.orientation[3:])
            if turned or not abs(normal @ (places.positions[number] - before)) <= _SAME_POSITION:
                new["SliceLocation"] = _text(places.slices[number])
    else:
        new["SliceLocation"] = _text(places.slices[number])
        if places.tells_gap and places.gap is not None:
            new["SpacingBetweenSlices"] = _text(places.gap)
    if turned and "ImageOrientationPatient" in names and "PatientOrientation" in names:
        new["PatientOrientation"] = None
    if "SpacingBetweenSlices" in names and not keep:
        if places.gap is not None:
            replace("SpacingBetweenSlices", np.asarray([places.gap]), max(0.01 * places.gap, _SAME_POSITION))
        elif len(places.slices) > 1:
            new["SpacingBetweenSlices"] = None
    return ", ".join(changes), new


def _numbers(value: Value | None) -> NDArray[np.float64]:
    """Return the numbers of an element; NaN for what is none."""
    found = value if isinstance(value, list) else [value]
    return np.asarray([one if isinstance(one, int | float) else np.nan for one in found], float)


def _text(value: float) -> str:
    """Return a decimal string; nine digits cut the noise of the arithmetic."""
    return decimal_string(round(float(value), 9) + 0.0)
