"""Values of an image to the integers that DICOM stores, with the rescale that leads back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import numpy as np

from imagedata_xr.dicom.stored import PixelFormat
from imagedata_xr.errors import ValuesNotStorableError
from imagedata_xr.names import CT, PET, RT_DOSE, SECONDARY_CAPTURE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray
    from pydicom import Dataset


__all__ = [
    "Rescale",
    "SourcePixels",
    "ValueRange",
    "choose_rescale",
    "describe_colours",
    "describe_pixels",
    "finite_values",
    "pixel_bytes",
    "set_pixel_data",
    "stored_exactly",
    "value_range",
]

_LIMITS = {"u1": (0, 255), "u2": (0, 65535), "i2": (-32768, 32767)}
_COLOUR_BITS: Final = {
    f"1.2.840.10008.5.1.4.1.1.{number}": bits
    for bits, numbers in {
        # PS3.3 A.6, A.8.5, A.32, A.41: ultrasound, secondary capture of many frames, visible light, ophthalmic
        8: ("6.1", "3.1", "7.4", "77.1.1", "77.1.2", "77.1.3", "77.1.4", "77.1.5.1", "77.1.7"),
        16: ("77.1.5.2",),
    }.items()
    for number in numbers
}
"""Bits of a colour, by the SOP classes of images that have colours."""
_OF_GREY: Final = (
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"),
    *("VOILUTFunction", "PresentationLUTShape", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    *("PixelPresentation", "LUTLabel", "DoseGridScaling"),
)
"""Elements that say what grey levels mean, or how they are shown."""
_PROJECTION: Final = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1")
)
"""SOP classes of digital X-ray, mammography and intra-oral images, which have a rescale always (PS3.3 C.8.11.3)."""
_LARGEST = 1e300
_SMALLEST_SLOPE = Decimal("1E-300")
_FINEST = Decimal(2) ** -50
"""Part of a value that a float of 64 bits still tells, with some room for the arithmetic."""
# Five digits in the slope make its product with any stored value at most ten digits long, and so one that a
# decimal string of 16 characters (PS3.5 6.2) holds exactly. It costs at most 0.01 % of the precision.
_SLOPE = Context(prec=5, rounding=ROUND_CEILING)
_EXACT = Context(prec=60)


class ValueRange(NamedTuple):
    """What must be known of the values of a volume to choose a rescale."""

    low: float
    high: float
    whole: bool
    """Whether all are whole numbers, or others that are known to be stored without rounding."""


@dataclass(frozen=True)
class Rescale:
    """How values are stored: value = stored * slope + intercept (DICOM PS3.3 C.11.1)."""

    slope: str
    """RescaleSlope, a decimal string of at most 16 characters."""
    intercept: str
    """RescaleIntercept, likewise."""
    dtype: Literal["u1", "u2", "i2"]
    """Type of the stored values."""

    @property
    def is_identity(self) -> bool:
        """Whether the stored values are the values."""
        return float(self.slope) == 1 and float(self.intercept) == 0

    def store(
        self, values: NDArray[Any], room: Callable[[tuple[int, ...], DTypeLike], NDArray[Any]] = np.empty
    ) -> NDArray[Any]:
        """Return the stored values, to the nearest, in the shape of ``values``.

        Parameters
        ----------
        values : ndarray
            Numbers.
        room : callable
            Returns arrays of a shape and type, for the result and on the way to it.

        Raises
        ------
        ValuesNotStorableError
            If a value is out of the range that this rescale covers.
        """
        low, high = _LIMITS[self.dtype]
        if not (self.is_identity and np.can_cast(values.dtype, self.dtype)) and values.size:
            # What is between the lowest and the highest value is stored between theirs.
            lowest, highest = values.min().item(), values.max().item()
            if not (low <= self._step(lowest) <= high and low <= self._step(highest) <= high):
                raise ValuesNotStorableError(
                    f"values {lowest} to {highest} do not fit slope {self.slope}, "
                    f"intercept {self.intercept} and {self.dtype}: choose a rescale for their range"
                )
        if self.is_identity:
            whole = np.rint(values, out=room(values.shape, values.dtype)) if values.dtype.kind == "f" else values
            return whole.astype(self.dtype, copy=False)
        # One array for all that is done: new ones of this size would cost more than the arithmetic.
        steps = np.subtract(values, float(self.intercept), dtype=np.float64, out=room(values.shape, np.float64))
        steps /= float(self.slope)
        np.rint(steps, out=steps)
        stored = room(values.shape, self.dtype)
        np.copyto(stored, steps, casting="unsafe")
        return stored

    def _step(self, value: float) -> float:
        """Return how many slopes a value is above the intercept, to the nearest."""
        number = value if self.is_identity else (value - float(self.intercept)) / float(self.slope)
        return round(number) if math.isfinite(number) else number


def finite_values(values: NDArray[Any], nan: float | Literal["raise"] = "raise", name: str = "") -> NDArray[Any]:
    """Return real, finite values: those given, or a copy in which ``nan`` takes the place of NaN and infinity.

    Parameters
    ----------
    values : ndarray
        Numbers or truth values.
    nan : float or "raise"
        What to store for a value that is not finite.
    name : str
        What to call the values in an error message, such as ``" of volume time=3"``.

    Raises
    ------
    ValuesNotStorableError
        If values are complex or no numbers, or not finite while ``nan`` is ``"raise"``.
    """
    if values.dtype.kind == "c":
        raise ValuesNotStorableError(
            f"complex values ({values.dtype}) cannot be stored in DICOM: "
            "write abs(image) and its phase (numpy.angle) as two series"
        )
    if values.dtype.kind not in "biuf":
        raise ValuesNotStorableError(f"values of type {values.dtype} cannot be stored in DICOM: convert to numbers")
    if values.dtype.kind != "f":
        return values
    if not values.size or np.isfinite([values.min(), values.max()]).all():  # either is NaN where one value is
        return values
    finite = np.isfinite(values)
    if nan == "raise":
        first = ", ".join(str(i) for i in np.argwhere(~finite)[0])
        raise ValuesNotStorableError(
            f"{int((~finite).sum())} of {values.size} values{name} are NaN or infinite (the first at index {first}), "
            "which DICOM cannot store: write with nan=0 (or another number), or fill them first (fillna)"
            + _of_missing(finite)
        )
    with np.errstate(over="ignore"):
        filler = values.dtype.type(nan)
    if not np.isfinite(filler):
        raise ValuesNotStorableError(
            f"nan={nan!r} cannot be stored for values of {values.dtype} that are NaN or infinite{name}: give a number, "
            "such as nan=0"
        )
    return np.where(finite, values, filler)


def _of_missing(finite: NDArray[np.bool_]) -> str:
    """Return advice where planes have no value at all, as frames that were missing have none."""
    empty = sum(not plane.any() for plane in finite)
    if not empty or finite.ndim < 3:
        return ""
    return (
        f". {empty} of {len(finite)} frames have no value at all: if they were missing, they are left out where the "
        "coordinate 'present' says so, image.assign_coords(present=source.present)"
    )


def value_range(values: NDArray[Any]) -> ValueRange:
    """Return the lowest and highest of finite values, and whether all are whole numbers."""
    if values.dtype.kind != "f":
        return ValueRange(int(values.min()), int(values.max()), whole=True)
    whole = all(bool((np.rint(part) == part).all()) for part in values)
    return ValueRange(float(values.min()), float(values.max()), whole)


def stored_exactly(
    values: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any], bits: int
) -> NDArray[Any] | None:
    """Return the stored values that a known rescale made ``values`` from; None if there are none.

    Parameters
    ----------
    values : ndarray
        Finite values, in shape (row, col).
    slope, intercept : float
        RescaleSlope and RescaleIntercept.
    dtype : numpy.dtype
        Integer type of the stored values.
    bits : int
        BitsStored: how many bits of ``dtype`` may be in use.

    Examples
    --------
    >>> stored_exactly(np.array([[-1000.0, 24.0]]), 1, -1024, np.dtype("u2"), 12)
    array([[  24, 1048]], dtype=uint16)
    >>> stored_exactly(np.array([[-1000.5, 24.0]]), 1, -1024, np.dtype("u2"), 12) is None
    True
    """
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        return None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    if values.size and values.dtype.kind in "iu" and slope == 1 and float(intercept).is_integer():
        # Whole numbers, of which only the range can be wrong.
        shift = int(intercept)
        if int(values.min()) - shift < low or int(values.max()) - shift > high:
            return None
        stored: NDArray[Any] = values.astype(dtype)
        # In the type itself, where numbers that wrap around come back if the difference is in range.
        return stored - np.uint64(shift % 2**64).astype(dtype) if shift else stored
    wide = values.astype(np.float64)
    off = (wide - intercept) / slope
    stored = np.rint(off)
    # In place: new arrays of this size would cost more than the arithmetic.
    off -= stored
    np.abs(off, out=off)
    # The reader may have computed in the type of the values: some units in the last place of its largest term.
    epsilon = float(np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps)
    tolerance = np.abs(wide, out=wide)
    tolerance += abs(intercept)
    tolerance *= 4 * epsilon
    tolerance /= abs(slope)
    tolerance += 1e-9
    if not ((tolerance < 0.25).all() and (off <= tolerance).all()):
        return None
    if stored.size and (stored.min() < low or stored.max() > high):
        return None
    return stored.astype(dtype)


def choose_rescale(
    found: ValueRange,
    dtype: np.dtype[Any],
    *,
    like: Rescale | None = None,
    intercept_is_zero: bool = False,
    signed: bool = False,
) -> Rescale:
    """Return the rescale that stores a volume in 16 bits: exactly where possible, else to within half a slope.

    Whole numbers are stored as they are. Other numbers use the full 16 bits, with a stored value that
    means exactly 0 when 0 lies in their range, so that an empty background stays empty.

    Parameters
    ----------
    found : ValueRange
        Of the whole volume.
    dtype : numpy.dtype
        Of the values. Integers are never rounded.
    like : Rescale, optional
        What the source used; taken when it holds whole numbers exactly, as a CT's intercept does.
    intercept_is_zero : bool
        Only the slope is free, as of PET images and doses (PS3.3 C.8.9.4, C.8.8.3).
    signed : bool
        Then, whether some volume of the series has values below 0: all volumes have one type.

    Raises
    ------
    ValuesNotStorableError
        If integers span more than 16 bits, or numbers exceed 1e300.

    Examples
    --------
    >>> choose_rescale(ValueRange(-1024, 3071, True), np.dtype("i2"))
    Rescale(slope='1', intercept='0', dtype='i2')
    >>> choose_rescale(ValueRange(-0.5, 1.25, False), np.dtype("f4"))
    Rescale(slope='0.000026704', intercept='-0.500005696', dtype='u2')
    """
    signed |= found.low < 0
    exact = _whole(found, dtype, like, signed=signed if intercept_is_zero else None) if found.whole else None
    if exact is not None:
        return exact
    if dtype.kind != "f":
        raise ValuesNotStorableError(
            f"whole numbers from {found.low} to {found.high} do not fit in 16 bits: "
            'write image.astype("float32"), which is rescaled to 16 bits with a rounding error'
        )
    if max(-found.low, found.high) > _LARGEST:
        raise ValuesNotStorableError(
            f"values from {found.low:g} to {found.high:g} are too large for DICOM: divide them by a power of ten"
        )
    low, high = Decimal(found.low), Decimal(found.high)
    if intercept_is_zero:
        steps = 32767 if signed else 65535
        return Rescale(_text(_slope(max(-low, high), steps)), "0", "i2" if signed else "u2")
    if low <= 0 <= high:
        return _with_zero(low, high)
    intercept = Decimal(_text(low, rounding=ROUND_FLOOR))
    # No finer than floats are there: the difference to the intercept has no more digits than the values.
    finest = _SLOPE.multiply(max(abs(low), abs(high)), _FINEST)
    slope = max(_slope(high - intercept, 65535), finest) if high > intercept else Decimal(1)
    return Rescale(_text(slope), _text(intercept), "u2")


def _whole(found: ValueRange, dtype: np.dtype[Any], like: Rescale | None, *, signed: bool | None) -> Rescale | None:
    """Return the rescale of slope 1 that holds whole numbers, the plainest that does; None when they span too much.

    `signed` is None where an intercept may take values below 0.
    """
    # All volumes of a series must share a type, or no reader takes them for one: it follows from the type of the values
    # and from the source, never from the values of one. Floats that are not whole are stored as "u2".
    kind: Literal["u1", "u2", "i2"] = "i2" if dtype.kind == "i" and dtype.itemsize <= 2 else "u2"
    offsets = [0]
    if like is not None and float(like.slope) == 1 and float(like.intercept).is_integer() and float(like.intercept):
        kind = kind if dtype.kind == "f" else like.dtype
        if kind == like.dtype:
            offsets.insert(0, int(float(like.intercept)))
    low, high = int(found.low), int(found.high)
    if signed is not None:
        choices = [(0, "i2" if signed else kind)]
    else:
        choices = [(offset, kind) for offset in (*offsets, low - _LIMITS[kind][0])]
    for intercept, kind in choices:
        bottom, top = _LIMITS[kind]
        if bottom <= low - intercept and high - intercept <= top and len(str(intercept)) <= 16:
            return Rescale("1", str(intercept), kind)
    return None


def _with_zero(low: Decimal, high: Decimal) -> Rescale:
    """Return the rescale for a range around 0 by which one stored value means exactly 0."""
    slope = _slope(high - low, 65534)
    while True:
        below = int((-low / slope).to_integral_value(ROUND_CEILING))
        intercept = _EXACT.multiply(slope, Decimal(-below))
        # Binary floats round slope and intercept apart: take the next slope by which a reader finds 0.0, too.
        if below * float(slope) + float(intercept) == 0:
            return Rescale(_text(slope), _text(intercept), "u2")
        slope += Decimal(1).scaleb(slope.adjusted() - 4)


def _slope(span: Decimal, steps: int) -> Decimal:
    """Return the smallest slope of five digits by which so many steps cover a span."""
    return max(_SLOPE.divide(span, Decimal(steps)), _SMALLEST_SLOPE)


def _text(value: Decimal, rounding: str | None = None) -> str:
    """Return the decimal string of at most 16 characters, with as many digits as fit."""
    for digits in range(16, 0, -1):
        rounded = Context(prec=digits, rounding=rounding).plus(value).normalize()
        sign, mantissa, exponent = rounded.as_tuple()
        whole = "".join(map(str, mantissa))
        for text in (f"{rounded:f}", f"{rounded:E}".replace("E+", "E"), f"{'-' * sign}{whole}E{exponent}"):
            if len(text) <= 16:
                return text
    raise ValuesNotStorableError(f"{value} does not fit in a decimal string of 16 characters")


class SourcePixels(NamedTuple):
    """How the pixels of a source file are stored, and what they mean."""

    form: PixelFormat
    slope: float
    intercept: float
    has_lut: bool
    """Whether a table gives values for stored ones."""
    sop_class: str

    @classmethod
    def of(cls, ds: Dataset) -> Self:
        """Return what a header says; one that describes no pixels has stored no value of ours."""
        bits = int(ds.get("BitsAllocated") or 0)
        form = PixelFormat(
            rows=int(ds.get("Rows") or 0),
            columns=int(ds.get("Columns") or 0),
            samples=int(ds.get("SamplesPerPixel", 1)),
            bits_allocated=bits,
            bits_stored=int(ds.get("BitsStored", bits)),
            high_bit=int(ds.get("HighBit", ds.get("BitsStored", bits) - 1)),
            signed=bool(ds.get("PixelRepresentation", 0)),
            photometric=str(ds.get("PhotometricInterpretation", "")),
            planar=bool(ds.get("PlanarConfiguration", 0)),
            is_float=False,
        )
        slope, intercept = ds.get("DoseGridScaling", ds.get("RescaleSlope")), ds.get("RescaleIntercept")
        return cls(
            form,
            1.0 if slope is None else float(slope),
            0.0 if intercept is None or "DoseGridScaling" in ds else float(intercept),
            "ModalityLUTSequence" in ds,
            str(ds.get("SOPClassUID", "")),
        )

    def stored(self, values: NDArray[Any], *, rescaled: bool) -> NDArray[Any] | None:
        """Return the stored values that ``values`` come from, in their shape; None if they cannot be from there.

        `rescaled` says whether the rescale was applied when they were read. Colours do if those of the source are RGB.
        """
        form = self.form
        if values.ndim == 3:
            return values if form.photometric == "RGB" and form.dtype == values.dtype else None
        if not self.is_grey(rescaled=rescaled):
            return None
        slope, intercept = (self.slope, self.intercept) if rescaled else (1.0, 0.0)
        return stored_exactly(values, slope, intercept, form.dtype, form.bits_stored)

    def is_grey(self, *, rescaled: bool) -> bool:
        """Return whether values come from stored ones by a rescale: not from colours, nor from a table.

        `rescaled` says whether the rescale was applied when they were read.
        """
        is_grey = self.form.samples == 1 and self.form.photometric.startswith("MONOCHROME")
        return is_grey and not (rescaled and self.has_lut)

    def rescale(self) -> Rescale | None:
        """Return the rescale, if it could serve again."""
        if self.form.bits_allocated != 16 or self.slope != 1 or not self.intercept.is_integer():
            return None
        return Rescale("1", str(int(self.intercept)), "i2" if self.form.signed else "u2")


def describe_pixels(ds: Dataset, rescale: Rescale) -> None:
    """Put in a header how new values are stored (PS3.3 C.7.6.3, C.11.1), but for PhotometricInterpretation."""
    ds.SamplesPerPixel = 1
    _drop_palette(ds)
    ds.pop("PlanarConfiguration", None)
    if ds.get("PixelPresentation") == "TRUE_COLOR":
        del ds.PixelPresentation
    bits = 8 * np.dtype(rescale.dtype).itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(rescale.dtype == "i2")
    ds.pop("DoseGridScaling", None)
    if ds.get("SOPClassUID") == RT_DOSE:
        for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            ds.pop(name, None)
        ds.DoseGridScaling = rescale.slope
        return
    has_rescale = ds.get("SOPClassUID") in (CT, PET)
    if has_rescale or ds.get("SOPClassUID") in _PROJECTION or "RescaleSlope" in ds or not rescale.is_identity:
        ds.RescaleSlope, ds.RescaleIntercept = rescale.slope, rescale.intercept
        if not has_rescale and not ds.get("RescaleType"):
            ds.RescaleType = "US"  # unspecified


@cache
def _palette_elements() -> frozenset[int]:
    """Return the elements of colour palettes."""
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined] # its documented place

    return frozenset(number for number, (*_, name) in DicomDictionary.items() if "Palette" in name)


def _drop_palette(ds: Dataset) -> None:
    for number in _palette_elements() & ds.keys():
        del ds[number]


def describe_colours(ds: Dataset, bits: int) -> None:
    """Put in a header that the pixels are RGB of so many bits a colour (PS3.3 C.7.6.3.1.2).

    Kinds of image that have none become Secondary Capture images (PS3.3 A.8.1, C.8.6.1).
    """
    _drop_palette(ds)
    for name in _OF_GREY:
        ds.pop(name, None)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if "UltrasoundColorDataPresent" in ds:
        ds.UltrasoundColorDataPresent = 1
    if ds.get("SOPClassUID") and _COLOUR_BITS.get(ds.SOPClassUID) != bits:
        ds.SOPClassUID = SECONDARY_CAPTURE
        for name in ("NumberOfFrames", "FrameIncrementPointer"):
            ds.pop(name, None)


def pixel_bytes(stored: NDArray[Any]) -> bytes | memoryview:
    """Return stored values as the value of PixelData, little endian and of even length; not copied where they are."""
    flat = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("<"), copy=False)).reshape(-1).view(np.uint8)
    return flat.tobytes() + b"\0" if flat.size % 2 else flat.data


def set_pixel_data(ds: Dataset, stored: NDArray[Any]) -> None:
    """Put stored values in a header as its PixelData."""
    ds.add_new("PixelData", "OB" if stored.dtype.itemsize == 1 else "OW", bytes(pixel_bytes(stored)))
