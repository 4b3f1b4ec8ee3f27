"""What a viewer knows of one image: its frames one by one, where they lie, and what is written beside them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from pydicom.datadict import dictionary_VR, tag_for_keyword

from imagedata_xr.colours import colour_levels
from imagedata_xr.errors import GeometryError
from imagedata_xr.geometry import is_even
from imagedata_xr.names import SPATIAL_DIMS, TAG_UNITS
from imagedata_xr.origins import origins
from imagedata_xr.placement import positions_along, step
from imagedata_xr.positions import axes
from imagedata_xr.window import header_window, is_inverted, limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    *("CT_PRESETS", "Panel", "Place", "frame_of_reference", "frame_values", "make_panel", "place_of", "tag_dims"),
    "window_limits",
]

CT_PRESETS: Final = {
    "soft tissue": (50.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (500.0, 2000.0),
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "liver": (90.0, 150.0),
    "mediastinum": (50.0, 350.0),
    "stroke": (32.0, 8.0),
}
"""Windows of CT, centre and width [HU], as viewers commonly offer them; keys 1 to 8."""

_KEY: Final = secrets.token_bytes(16)
"""Of this process, so that what is made of an identifier cannot be made again."""
_TAILS: Final = (1.0, 99.5)
"""Percentiles of the middle slice between which an image is shown whose header has no window for all of it."""
_TELLING: Final = ("DA", "DT", "PN", "UI", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE")
"""Kinds of values (VR) that tell dates, names and identifiers, or are text that may."""
_OF_PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


@dataclass(frozen=True)
class Place:
    """Where the voxels of an image lie: numbers, and directions where they are known.

    Attributes
    ----------
    positions : tuple of 3 arrays
        Positions [mm] along slice, row and col, or their numbers where the image has none.
    steps : tuple of 3 floats
        Distance [mm] from one slice, row and col to the next; the median where it is uneven, 1 where it is not known.
    directions : array, shape (3, 3), or None
        Movement [LPS+] for each mm of slice, row, col position, one a row; None where the patient's place is not known.
    is_even : bool
        Whether slices are evenly spaced, so that they can be cut in other planes.
    """

    positions: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    steps: tuple[float, float, float]
    directions: NDArray[np.float64] | None
    is_even: bool

    def points(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the points [mm, LPS+] of (slice, row, col) numbers, which may lie between voxels, shape (n, 3).

        Raises
        ------
        GeometryError
            If the image has no place in a patient.
        """
        along = [
            np.interp(index[:, n], np.arange(p.size), p)
            # np.interp stays at the last centre; a voxel goes on beyond it, and a pointer may.
            + (index[:, n] - np.clip(index[:, n], 0, p.size - 1)) * self.signed_step(n)
            for n, p in enumerate(self.positions)
        ]
        points: NDArray[np.float64] = np.stack(along, axis=1) @ self._known()
        return points

    def signed_step(self, axis: int) -> float:
        """Return the step along slice, row or col, negative where positions fall."""
        p = self.positions[axis]
        return -self.steps[axis] if p.size > 1 and p[-1] < p[0] else self.steps[axis]

    def index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (slice, row, col) numbers of points [mm, LPS+], which may lie between voxels, shape (n, 3).

        Raises
        ------
        GeometryError
            If the image has no place in a patient.
        """
        found = []
        for n, (p, along) in enumerate(zip(self.positions, (points @ np.linalg.inv(self._known())).T, strict=True)):
            step = self.signed_step(n)
            order = 1 if step > 0 else -1  # np.interp wants growing positions
            numbers = np.interp(order * along, order * p, np.arange(p.size))
            outside = along - np.clip(along, p.min(), p.max())
            found.append(numbers + outside / step)
        return np.stack(found, axis=1)

    def _known(self) -> NDArray[np.float64]:
        if self.directions is None:
            raise GeometryError(
                "image has no place in a patient; take it from an image of the same place with "
                "assign_geometry(da, like=other)"
            )
        return self.directions


def tag_dims(da: xr.DataArray) -> tuple[str, ...]:
    """Return the dims of an image that are neither of its place nor of colours."""
    return tuple(str(dim) for dim in da.dims if dim not in (*SPATIAL_DIMS, "rgb"))


def place_of(da: xr.DataArray) -> Place:
    """Return where the voxels of an image lie; what is not known is counted."""
    try:
        directions: NDArray[np.float64] | None = axes(da)
    except GeometryError:
        directions = None
    positions, steps = [], []
    for dim in SPATIAL_DIMS:
        try:
            known = positions_along(da, dim)
        except GeometryError:
            known, directions = np.arange(float(da.sizes.get(dim, 1))), None
        positions.append(known)
        try:
            steps.append(abs(step(da, dim)) or 1.0)
        except GeometryError:
            steps.append(float(np.median(np.abs(np.diff(known)))) if known.size > 1 else 1.0)
    return Place(
        (positions[0], positions[1], positions[2]), (steps[0], steps[1], steps[2]), directions, is_even(positions[0])
    )


@dataclass(frozen=True)
class Panel:
    """One image as a viewer shows it.

    Attributes
    ----------
    image : DataArray
        The image, with dims tags..., slice (or none), row, col (, rgb).
    tags : tuple of str
        Its tag dims.
    place : Place
        Where its voxels lie.
    low, high : float
        Values that are first shown black and white.
    is_sigmoid : bool
        Whether the window is a sigmoid, which goes on beyond them (PS3.3 C.11.2.1.3.1), as the header says.
    is_linear : bool
        Whether the window is one of whole numbers, and of DICOM's kind LINEAR, of which white begins at the last value
        but one (PS3.3 C.11.2.1.2.1): of width 2 that is black and white.
    """

    image: xr.DataArray
    tags: tuple[str, ...]
    place: Place
    low: float
    high: float
    is_sigmoid: bool = False
    is_linear: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tag dims and slices."""
        return (*(self.image.sizes[dim] for dim in self.tags), self.image.sizes.get("slice", 1))

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return int(np.prod(self.shape))

    @property
    def is_colour(self) -> bool:
        """Whether it has colours of its own."""
        return "rgb" in self.image.dims

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame in the browser; twice as many where whole numbers are beyond 32 bits."""
        size = 4 if self.is_colour else min(4, max(1, self.image.dtype.itemsize))
        return self.image.sizes["row"] * self.image.sizes["col"] * size

    def frame(self, number: int) -> NDArray[Any]:
        """Return a frame as it is sent to the browser, shape (row, col): colours as RGBA, values of 32 bits at most.

        Whole numbers beyond 32 bits are of 64, so that they are the same up to 2**53.

        Frames are counted with the last dim, slice, running fastest. Nothing but this frame is read.
        """
        return frame_values(self.image, np.unravel_index(number, self.shape))

    def facts(self, *, hide_identity: bool = False) -> dict[str, Any]:
        """Return what the browser has to know, in numbers, texts and lists."""
        place = self.place
        known = place.directions is not None
        return {
            "tags": [_tag(self.image, dim, hide=hide_identity) for dim in self.tags],
            "size": [self.shape[-1], self.image.sizes["row"], self.image.sizes["col"]],
            "positions": [p.tolist() for p in place.positions],
            "steps": [place.signed_step(n) if known else abs(place.steps[n]) for n in range(3)],
            "directions": place.directions.tolist() if place.directions is not None else None,
            "isEven": place.is_even,
            "isColour": self.is_colour,
            "isMask": self.image.dtype.kind == "b",
            "isWhole": self.image.dtype.kind in "iub",
            # The browser has colours of 8 bits only, whatever the voxels are.
            "valueName": "shown as" if self.is_colour and self.image.dtype != np.uint8 else "value",
            "unit": _value_unit(self.image),
            "isInverted": is_inverted(self.image),
            "isSigmoid": self.is_sigmoid,
            "isLinear": self.is_linear,
            # Presets are in HU.
            "isCT": self.image.attrs.get("Modality") == "CT" and self.image.encoding.get("rescaled", True),
            "low": self.low,
            "high": self.high,
            "frameBytes": self.frame_bytes,
            "frameOfReference": _told_apart(frame_of_reference(self.image), hide=hide_identity),
            "patient": "" if hide_identity else _patient(self.image),
            "series": _series(self.image),
        }


def frame_values(da: xr.DataArray, index: Sequence[Any]) -> NDArray[Any]:
    """Return one frame of an image in a type that browsers have, shape (row, col)."""
    # Of the variable: its coordinates cost more than the frame.
    variable = da.variable
    frame = variable[tuple(int(i) for i in (index if "slice" in da.dims else index[:-1]))]
    values: NDArray[Any] = np.asarray(frame.data.compute(scheduler="synchronous") if frame.chunks else frame.values)
    if "rgb" in da.dims:
        return _packed(values)
    return np.ascontiguousarray(_of_few_bits(np.abs(values) if values.dtype.kind == "c" else values))


def _of_few_bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in a type that browsers have, of 32 bits where whole numbers fit."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8)
    if kind == "f" and size != 4:
        return values.astype(np.float32)
    if size > 4:
        limits = np.iinfo(np.int32)
        fits = values.size == 0 or (values.min() >= limits.min and values.max() <= limits.max)
        return values.astype(np.int32 if fits else np.float64)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _packed(colours: NDArray[Any]) -> NDArray[np.uint32]:
    """Return colours as one number a pixel: red in the lowest byte, opaque."""
    levels: NDArray[np.uint32] = colour_levels(colours).astype(np.uint32)
    return np.asarray(levels[..., 0] | levels[..., 1] << 8 | levels[..., 2] << 16 | 0xFF000000, np.uint32)


def _tag(da: xr.DataArray, dim: str, *, hide: bool = False) -> dict[str, Any]:
    """Return name and unit of a tag dim, the texts of its labels, and their values where these are numbers.

    If it is hidden who it is, labels that may tell it are counted.
    """
    coord = da.coords.get(dim)
    if hide and coord is not None and (coord.dtype.kind == "M" or _vr(dim) in _TELLING):
        da, coord = da.drop_vars(dim), None
    numbers = None if coord is None else _numbers(coord.values)
    values = numbers.tolist() if numbers is not None and np.isfinite(numbers).all() else None
    return {"name": dim, "unit": _unit(da, dim), "labels": tag_labels(da, dim), "values": values}


def _vr(dim: str) -> str:
    """Return the kind of value (VR) of a dim that is a DICOM keyword; "" if it is none."""
    tag = tag_for_keyword(dim)
    return "" if tag is None else dictionary_VR(tag)


def _numbers(labels: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return labels as numbers, spans of time in seconds; None where they are none."""
    if labels.dtype.kind == "m":
        return np.asarray(labels / np.timedelta64(1, "s"), np.float64)  # NaT becomes NaN
    return labels.astype(np.float64) if labels.dtype.kind in "iuf" else None


def _value_unit(da: xr.DataArray) -> str:
    """Return the unit of values that are those of files; of computed ones nobody knows it, whatever attributes say."""
    if "TransferSyntaxUID" not in da.encoding:
        return ""
    told = next((da.attrs[name] for name in ("units", "RescaleType", "Units") if da.attrs.get(name)), "")
    return "" if told == "US" else str(told)


def _unit(da: xr.DataArray, dim: str) -> str:
    if dim in da.coords and da.coords[dim].dtype.kind in "mM":
        return "s" if da.coords[dim].dtype.kind == "m" else ""
    told = da.coords[dim].attrs.get("units") if dim in da.coords else None
    return str(told or TAG_UNITS.get(dim, "")).replace("s/mm2", "s/mm²").replace("degree", "°")


def tag_labels(da: xr.DataArray, dim: str) -> list[str]:
    """Return what is shown for each label of a dim, with its unit: ``"2.5 s"``."""
    count = da.sizes[dim]
    if dim not in da.coords:
        return [f"{n + 1} of {count}" for n in range(count)]
    coord, unit = da.coords[dim], _unit(da, dim)
    numbers = _numbers(coord.values)
    if numbers is not None:
        texts = [f"{v:.6g}" for v in numbers]
    elif coord.dtype.kind == "M":
        texts = [_date(v) for v in coord.values]
    else:
        texts = [str(v) for v in coord.values]
    b = da.coords.get("b")
    if dim == "dti" and b is not None and b.dims == (dim,):
        return [f"{text}, b {value:.6g} s/mm²" for text, value in zip(texts, b.values, strict=True)]
    return [f"{text} {unit}".rstrip() for text in texts]


def _date(moment: np.datetime64) -> str:
    """Return date and time without what is zero at the end: ``"2024-03-01 12:30:05.5"``."""
    if np.isnat(moment):
        return str(moment)
    day, _, clock = str(moment).partition("T")
    clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
    return day if not clock or clock == "00:00:00" else f"{day} {clock}"


def _text(da: xr.DataArray, name: str) -> str:
    value = da.attrs.get(name)
    return "" if value is None else str(value)


def _patient(da: xr.DataArray) -> str:
    lines = [_text(da, name) for name in _OF_PATIENT[:2]]
    birth, sex, study = (_text(da, name) for name in (*_OF_PATIENT[2:], "StudyDate"))
    # Where one of two dates is missing, nothing else tells which the other is.
    born = " ".join(part for part in (birth and f"born {birth}", sex) if part)
    return "\n".join(line for line in (*lines, born, study and f"study {study}") if line)


def frame_of_reference(da: xr.DataArray) -> str:
    """Return the frame of reference in which an image has its place; "" where there is none, or not one.

    Attributes alone are no evidence: those of a third operand come back. Origins and attributes must not contradict.
    """
    # An image of no known series at all, such as a mask of bare numbers, says nothing against the others.
    known = {origin.FrameOfReferenceUID for origin in origins(da) if any(origin)}
    if len(known) > 1:
        return ""
    said = {uid for uid in (*known, _text(da, "FrameOfReferenceUID")) if uid}
    return said.pop() if len(said) == 1 else ""


def _told_apart(uid: str, *, hide: bool) -> str:
    """Return what is the same for images of one frame of reference; if hidden, nothing by which it can be found."""
    return blake2b(uid.encode(), key=_KEY, digest_size=8).hexdigest() if hide and uid else uid


def _series(da: xr.DataArray) -> str:
    number, description = (
        _text(da, "SeriesNumber"),
        _text(da, "SeriesDescription") or ("" if da.name is None else str(da.name)),
    )
    return f"{number}. {description}" if number else description


def make_panel(da: xr.DataArray, window: tuple[float, float] | None = None) -> Panel:
    """Return an image as a viewer shows it; at most two frames are read, its middle slice at the first and middle tags.

    Parameters
    ----------
    da : DataArray
        Image with dims row and col, and slice, tag dims and rgb if it has them.
    window : (centre, width), optional
        First window. By default that of the header, unless values were computed and it cannot be that of the middle
        slice (see `imagedata_xr.window.window`); else from the 1st to the 99.5th percentile of the middle slice, as it
        is at the first tags, which are shown first, and at the middle ones.

    Raises
    ------
    GeometryError
        If there are no dims row and col.
    ValueError
        If a dim has size 0, the window has no width of more than 0, or colours are neither uint8 nor uint16.
    """
    if not {"row", "col"} <= set(da.dims):
        raise GeometryError(f"image has dims {da.dims}; row and col are needed to show it")
    empty = [dim for dim, size in da.sizes.items() if size == 0]
    if empty:
        msg = f"image is empty along {empty[0]}; there is nothing to show"
        raise ValueError(msg)
    tags = tag_dims(da)
    wanted = (*tags, *(dim for dim in (*SPATIAL_DIMS, "rgb") if dim in da.dims))
    if da.dims != wanted:
        da = da.transpose(*wanted)
    panel = Panel(da, tags, place_of(da), 0.0, 255.0)
    if panel.is_colour:
        colour_levels(np.empty(0, da.dtype))  # raises now, not when a frame is looked at
        return panel
    seen = cache(partial(_seen_first, panel))
    found = window or header_window(da, lambda: limits(xr.DataArray(seen())))
    if found is None and da.dtype.kind == "b":
        low, high = 0.0, 1.0  # of a slice that is True all over, True is white as well
    elif found is None:
        low, high = _most_of(seen())
    else:
        low, high = window_limits(found)
    # As of `imagedata_xr.window.window`: a window of the values is exact, one that is given is of the header's kind.
    kind = "LINEAR_EXACT" if found is None else str(da.attrs.get("VOILUTFunction") or "LINEAR")
    is_linear = kind == "LINEAR" and da.dtype.kind in "iub"
    return Panel(da, tags, panel.place, low, high, kind == "SIGMOID", is_linear)


def _seen_first(panel: Panel) -> NDArray[Any]:
    """Return the values of the middle slice at the first tags, with which a viewer opens, and at the middle ones.

    The first volume may be of another kind than most, as b = 0 and the magnitude beside a map are: in a window of the
    others it would be white all over. It may also be the one before contrast.
    """
    middle = [size // 2 for size in panel.shape]
    frames = sorted({(*(0 for _ in panel.tags), middle[-1]), tuple(middle)})
    return np.concatenate([frame_values(panel.image, frame).ravel() for frame in frames])


def window_limits(window: tuple[float, float], name: str = "the window") -> tuple[float, float]:
    """Return the values shown black and white of (centre, width).

    Raises
    ------
    ValueError
        If they are not apart, or no numbers.
    """
    numbers = np.asarray(window)
    if numbers.shape != (2,) or numbers.dtype.kind not in "iuf":
        msg = f"{name} is {window!r}; two numbers are wanted, (centre, width)"
        raise ValueError(msg)
    center, width = window
    low, high = center - width / 2, center + width / 2
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        msg = f"the width of {name} is {width}, its centre {center}; numbers are wanted, and a width of more than 0"
        raise ValueError(msg)
    return low, high


def _most_of(values: NDArray[Any]) -> tuple[float, float]:
    """Return values between which nearly all of a frame lies."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, _TAILS))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + max(1.0, abs(low) / 1e6)
