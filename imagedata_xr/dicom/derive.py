"""What the header of a written frame must say that its source's does not: marks, labels, place, stale elements."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from imagedata_xr.elements import Value, decimal_string, keyword, tag, to_element, to_value, vr_of
from imagedata_xr.errors import GeometryError, MissingHeaderError
from imagedata_xr.names import TAG_DIMS
from imagedata_xr.positions import axes

if TYPE_CHECKING:
    from pydicom import Dataset

    from imagedata_xr.dicom.pixels import ValueRange

__all__ = [
    "CT",
    "MR",
    "PET",
    "Places",
    "drop_stale_elements",
    "fill_required",
    "frame_places",
    "make_encodable",
    "mark_derived",
    "set_labels",
    "set_place",
    "set_time",
]

MR: Final = "1.2.840.10008.5.1.4.1.1.4"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
PET: Final = "1.2.840.10008.5.1.4.1.1.128"

_TYPE_2: Final = (  # PS3.3 C.7: Patient, General Study, General Series, General Equipment
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber SeriesNumber Manufacturer"
).split()
_PLANE: Final = ["PositionReferenceIndicator", "SliceThickness"]  # C.7.4.1, C.7.6.2
_TYPE_2_OF: Final = {
    MR: [*_PLANE, "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"],  # C.8.3.1
    CT: [*_PLANE, "KVP", "AcquisitionNumber"],  # C.8.2.1
    PET: [*_PLANE, "CollimatorType", "ActualFrameDuration", "AcquisitionDate", "AcquisitionTime"],  # C.8.9.1, C.8.9.4
}
_TYPE_1_OF: Final = {
    MR: ["ScanningSequence", "SequenceVariant"],
    CT: [],
    PET: ["Units", "CountsSource", "SeriesType", "DecayCorrection"],
}

_OF_OLD_PIXELS: Final = ("SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence")
_OF_OLD_VALUES: Final = (
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RealWorldValueMappingSequence",
)
_WINDOW: Final = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")

# Keyword of each tag dim or coordinate, and the factor from its unit to that of the element.
_LABELS: Final = {
    "b": ("DiffusionBValue", 1.0),
    "te": ("EchoTime", 1.0),
    "fa": ("FlipAngle", 1.0),
    "triggertime": ("TriggerTime", 1000.0),
}
_GRADIENT: Final = ("bx", "by", "bz")
_TELL_TIME: Final = (
    "AcquisitionDateTime AcquisitionTime TriggerTime ContentTime TemporalPositionIdentifier".split()
)

_SAME_POSITION: Final = 1e-3  # mm
_SAME_COSINE: Final = 1e-4
# What the reader takes for one stack: there the frame's own numbers are better than those of the whole.
_READER_POSITION: Final = 0.1  # mm
_READER_COSINE: Final = 2e-3
_SAME_SPACING: Final = 1e-6  # mm


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
    """Distance of the slices [mm] where it is the same between all."""


def frame_places(da: xr.DataArray) -> Places | None:
    """Where the frames of an image are; None where it has no place in the patient.

    Pixels stay in the order of the array: rows or columns that run backwards have their direction cosines reversed.

    Parameters
    ----------
    da : DataArray
        Dims ``slice``, ``row``, ``col`` (and any others).

    Raises
    ------
    GeometryError
        If positions are absent, or rows or columns are not evenly spaced.
    """
    from imagedata_xr.geometry import is_even

    if "ImageOrientationPatient" not in da.attrs and "slice_shear" not in da.attrs:
        return None
    directions = axes(da)
    where = {}
    for dim in ("slice", "row", "col"):
        if dim not in da.coords:
            raise GeometryError(
                f"the image has an orientation, but no {dim} positions (a mean over {dim} has none): "
                f"give it some, such as image.assign_coords({dim}=...) [mm]"
            )
        where[dim] = np.asarray(da.coords[dim].values, float)
    signs, spacing = [], []
    for number, dim in enumerate(("row", "col")):
        values = where[dim]
        if values.size > 1:
            if not is_even(values):
                raise GeometryError(
                    f"{dim} positions are not evenly spaced: {values[:4]} ... {values[-1]:g} mm; "
                    f"resample them, for instance with image.interp({dim}=...)"
                )
            step = (values[-1] - values[0]) / (values.size - 1)
        elif "PixelSpacing" in da.attrs:
            step = float(da.attrs["PixelSpacing"][number])
        else:
            raise GeometryError(f"the image has one {dim} and no PixelSpacing: set image.attrs['PixelSpacing'] [mm]")
        signs.append(-1.0 if step < 0 else 1.0)
        spacing.append(abs(step))
    first = where["row"][0] * directions[1] + where["col"][0] * directions[2]
    slices = where["slice"]
    gap = None
    if slices.size > 1 and is_even(slices):
        gap = float(abs(slices[-1] - slices[0]) / (slices.size - 1))
    return Places(
        slices,
        slices[:, np.newaxis] * directions[0] + first,
        np.concatenate([signs[1] * directions[2], signs[0] * directions[1]]),
        np.asarray(spacing),
        gap,
    )


def set_place(ds: Dataset, places: Places | None, number: int, rows: int, cols: int, *, original: bool) -> str:
    """Put the place of a frame in its header, and tell how it differs from the one that was there.

    What the header says is kept, digit by digit, where it means the same place. For an original that is what the
    reader takes for one stack; else a difference of 1e-3 mm.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    places : Places or None
        Of the image.
    number : int
        Number of the slice.
    rows, cols : int
        Size of the frame.
    original : bool
        Whether positions came from the header itself, by way of the reader.

    Returns
    -------
    str
        What changed, "" if nothing did.
    """
    changes = []
    size = (ds.get("Rows"), ds.get("Columns"))
    if size != (rows, cols):
        if size != (None, None):
            changes.append(f"{rows} x {cols} pixels instead of {size[0]} x {size[1]}")
        ds.Rows, ds.Columns = rows, cols
    if places is None:
        if "ImagePositionPatient" in ds or "ImageOrientationPatient" in ds:
            raise GeometryError(
                "the image has no ImageOrientationPatient, but its header has: "
                "place it, for instance with assign_geometry(image, like=other)"
            )
        return "; ".join(changes)
    limit, cosine_limit = (
        (_READER_POSITION, _READER_COSINE) if original else (_SAME_POSITION, _SAME_COSINE)
    )
    turned = _replace(ds, "ImageOrientationPatient", places.orientation, cosine_limit)
    moved = _replace(ds, "ImagePositionPatient", places.positions[number], limit)
    scaled = _replace(ds, "PixelSpacing", places.spacing, _SAME_SPACING)
    if turned:
        changes.append("other directions")
        if "PatientOrientation" in ds:
            del ds.PatientOrientation
    if moved:
        changes.append("another position")
    if scaled:
        changes.append("other pixel spacing")
    if (moved or turned) and "SliceLocation" in ds:
        ds.SliceLocation = decimal_string(round(float(places.slices[number]), 6))
    if places.gap is None and len(places.slices) > 1 and "SpacingBetweenSlices" in ds:
        del ds.SpacingBetweenSlices
    if places.gap is not None and "SpacingBetweenSlices" in ds:
        _replace(ds, "SpacingBetweenSlices", np.asarray([places.gap]), max(0.01 * places.gap, _SAME_POSITION))
    return "; ".join(changes)


def _replace(ds: Dataset, name: str, wanted: NDArray[np.float64], limit: float) -> bool:
    """Set an element unless it says the same within a limit, and tell whether that was needed."""
    if name in ds:
        found = np.atleast_1d(np.asarray(to_value(ds[name]), dtype=object))
        numbers = np.asarray([v if isinstance(v, int | float) else np.nan for v in found], float)
        if numbers.shape == wanted.shape and np.abs(numbers - wanted).max() <= limit:
            return False
    texts = [decimal_string(round(float(v), 9) + 0.0) for v in wanted]
    setattr(ds, name, texts if len(texts) > 1 else texts[0])
    return True


def mark_derived(ds: Dataset, reference: tuple[str, str] | None, told: Iterable[str], how: str) -> None:
    """Mark a frame as derived (PS3.3 C.7.6.1.1.2, C.12.4.1.1).

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    reference : tuple of str, optional
        SOPClassUID and SOPInstanceUID of the frame it was derived from.
    told : iterable of str
        Elements that the user has set: a DerivationDescription among them is left alone.
    how : str
        What was done, for DerivationDescription.
    """
    from pydicom import Dataset, Sequence

    kind = ds.get("ImageType") or []
    parts = [str(part) for part in ([kind] if isinstance(kind, str) else kind)]
    ds.ImageType = ["DERIVED", *(parts[1:] or ["SECONDARY"])]
    if "DerivationDescription" not in told:
        before = str(ds.get("DerivationDescription") or "").strip()
        ds.DerivationDescription = f"{before}; {how}"[-1024:] if before else how
    if "SourceImageSequence" in ds:
        del ds.SourceImageSequence
    if reference is not None:
        purpose = Dataset()
        purpose.CodeValue = "121322"
        purpose.CodingSchemeDesignator = "DCM"
        purpose.CodeMeaning = "Source image for image processing operation"
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference
        item.PurposeOfReferenceCodeSequence = Sequence([purpose])
        ds.SourceImageSequence = Sequence([item])


def drop_stale_elements(ds: Dataset, found: ValueRange | None, told: Iterable[str]) -> None:
    """Remove what is no longer true of the pixels of a derived frame.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    found : ValueRange, optional
        Of the new values; None where values are those of the source.
    told : iterable of str
        Elements that the user has set: a window among them is left alone.
    """
    stale = list(_OF_OLD_PIXELS)
    if found is not None:
        stale += _OF_OLD_VALUES
        if not {"WindowCenter", "WindowWidth"} & set(told) and not _window_fits(ds, found):
            stale += _WINDOW
    for name in stale:
        if name in ds:
            del ds[name]
    # Overlays (PS3.3 C.9.2) are drawn on the pixels as they were.
    for number in [number for number in ds if number.tag.group & 0xFF00 == 0x6000]:
        del ds[number.tag]


def _window_fits(ds: Dataset, found: ValueRange) -> bool:
    """Whether at least half of each window lies within the range of the values."""
    centers, widths = (np.atleast_1d(np.asarray(ds.get(name, np.nan), float)) for name in _WINDOW[:2])
    if centers.shape != widths.shape:
        return False
    low, high = centers - widths / 2, centers + widths / 2
    inside = np.minimum(high, found.high) - np.maximum(low, found.low)
    return bool((inside >= widths / 2).all())


def set_labels(
    ds: Dataset, frame: xr.DataArray, tag_dims: Iterable[Hashable], *, described: bool, add: bool
) -> None:
    """Put the labels of a frame along the tag dims in their standard elements, where these say otherwise.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    frame : DataArray
        The frame, with the labels as scalar coordinates.
    tag_dims : iterable of str
        Tag dims of the image.
    described : bool
        Whether the header was made from attrs and coordinates alone, so that the labels must all be in it.
    add : bool
        Whether elements that the header lacks are added, or only those changed that it has.

    Raises
    ------
    MissingHeaderError
        If no element can hold a label that would be lost.
    """
    names = [*tag_dims, *(name for name in _LABELS if name in frame.coords and name not in tag_dims)]
    for dim in map(str, names):
        label = frame.coords[dim].item() if dim in frame.coords else None
        if label is None or label != label:
            continue
        if dim == "image_type":
            if add and "ImageType" not in ds:
                ds.ImageType = ["DERIVED", "SECONDARY", *str(label).split("_")]
            continue
        name, factor = _LABELS.get(dim, (dim, 1.0))
        if not _is_keyword(name):
            if described and dim not in TAG_DIMS:
                raise MissingHeaderError(
                    f"no DICOM element is named {name!r}, so its labels would be lost: rename the dim to the "
                    f"keyword it means, such as image.rename({name}='InversionTime'), or give template="
                )
        elif name not in ds:
            if add:
                _set_label(ds, name, label, factor)
        elif dim != "triggertime" and vr_of(tag(name)) != "TM":
            # The volume has one time, but its slices may have each their own.
            _set_label(ds, name, label, factor)
    if add and all(name in frame.coords for name in _GRADIENT):
        direction = [float(frame.coords[name]) for name in _GRADIENT]
        if np.isfinite(direction).all() and any(direction):
            ds.DiffusionGradientOrientation = direction


def _is_keyword(name: str) -> bool:
    try:
        return keyword(tag(name)) == name
    except ValueError:
        return False


def _set_label(ds: Dataset, name: str, label: Any, factor: float) -> None:
    """Set an element to a label, unless it says that already."""
    if not isinstance(label, int | float):
        ds.add(to_element(name, label))
    elif vr_of(tag(name)) == "TM":
        ds.add(to_element(name, _time_of_day(datetime.min + timedelta(seconds=label))))
    else:
        _set_number(ds, name, label * factor)


def _set_number(ds: Dataset, name: str, value: float) -> None:
    """Set an element to a number unless it is that already."""
    if name in ds:
        found = to_value(ds[name])
        if isinstance(found, int | float) and abs(found - value) <= 1e-6 * abs(value):
            return
    ds.add(to_element(name, value))


def set_time(ds: Dataset, da: xr.DataArray, frame: xr.DataArray, number: int, now: datetime) -> None:
    """Put the time of a frame in a header that was made from attrs and coordinates, where nothing else tells it.

    With the start known (the coordinate ``AcquisitionDateTime``) it is the acquisition's date and time. Else, as in the
    mean of two series, ContentDate and ContentTime count from the moment of writing, and
    TemporalPositionIdentifier numbers the volumes.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    da, frame : DataArray
        The image, and the frame of it.
    number : int
        Number of the volume along ``time``.
    now : datetime
        The moment of writing.
    """
    if "time" not in frame.coords:
        return
    if any("time" in da.coords[name].dims for name in _TELL_TIME if name in da.coords):
        return
    seconds = timedelta(seconds=float(frame.coords["time"]))
    if "AcquisitionDateTime" in frame.coords:
        moment = datetime.fromisoformat(str(frame.coords["AcquisitionDateTime"].item())) + seconds
        ds.AcquisitionDate, ds.AcquisitionTime = f"{moment:%Y%m%d}", _time_of_day(moment)
    elif "time" in da.dims:
        moment = now + seconds
        ds.ContentDate, ds.ContentTime = f"{moment:%Y%m%d}", _time_of_day(moment)
        ds.TemporalPositionIdentifier = number + 1
        ds.NumberOfTemporalPositions = da.sizes["time"]


def _time_of_day(moment: datetime) -> str:
    return f"{moment:%H%M%S.%f}"


def fill_required(ds: Dataset, *, several: bool) -> None:
    """Complete a header that was made from attrs and coordinates: empty where DICOM lets an element be unknown.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    several : bool
        Whether the image was made of several series.

    Raises
    ------
    MissingHeaderError
        If an element that must have a value is gone because the series disagree on it.
    """
    kind = str(ds.get("SOPClassUID", ""))
    missing = [name for name in _TYPE_1_OF.get(kind, []) if not ds.get(name)]
    if several and missing:
        raise MissingHeaderError(
            f"the series that the image was made from do not agree on {', '.join(missing)}: "
            "set these attributes, or give template=, an image whose headers are to be used"
        )
    for name in (*_TYPE_2, *_TYPE_2_OF.get(kind, [])):
        if name not in ds:
            setattr(ds, name, None)


def make_encodable(ds: Dataset, texts: Mapping[str, Any]) -> None:
    """Change the character set to Unicode where the one declared cannot hold the texts.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    texts : mapping
        Elements that the user has set, by keyword.
    """
    from pydicom.charset import convert_encodings

    new = "".join(str(value) for value in texts.values())
    if new.isascii():
        return
    declared = ds.get("SpecificCharacterSet") or "ISO_IR 6"
    # pydicom takes the undeclared default for Latin-1; DICOM says ASCII (PS3.5 6.1.2.1).
    codecs = ["ascii" if name == "iso8859" else name for name in convert_encodings(declared)]
    for codec in codecs:
        try:
            new.encode(codec)
        except UnicodeEncodeError:
            continue
        return
    ds.decode()
    ds.SpecificCharacterSet = "ISO_IR 192"
