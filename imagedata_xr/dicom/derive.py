"""What the header of a written frame must say that its source's does not: marks, required elements, characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.dicom.emission import missing_of_image, orient_patient
from imagedata_xr.elements import element_vr
from imagedata_xr.errors import MissingHeaderError
from imagedata_xr.geometry import patient_orientation, unit_vectors
from imagedata_xr.names import CT, MR, PET, RT_DOSE, SECONDARY_CAPTURE, WINDOW_KEYWORDS
from imagedata_xr.verbatim import keep_private
from imagedata_xr.window import windows_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.pixels import ValueRange
    from imagedata_xr.dicom.vendors import PrivateElement

    Header = Dataset | Mapping[str, Any]

__all__ = [
    "OVERLAY_POSITIONS",
    "drop_private",
    "drop_private_elements",
    "drop_stale_elements",
    "fill_required",
    "make_encodable",
    "mark_derived",
    "mark_lossy",
    "move_overlays",
    "private_tags",
    "window_fits",
]

_TYPE_2: Final = (  # PS3.3 C.7: Patient, General Study, General Series, General Equipment
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "Manufacturer"),
)
_PLANE: Final = ["PositionReferenceIndicator", "SliceThickness"]  # C.7.4.1, C.7.6.2
_TYPE_2_OF: Final = {
    MR: [*_PLANE, "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"],  # C.8.3.1
    CT: [*_PLANE, "KVP", "AcquisitionNumber"],  # C.8.2.1
    PET: [
        *_PLANE,
        "CollimatorType",
        "ActualFrameDuration",
        "AcquisitionDate",
        "AcquisitionTime",
        "CorrectedImage",
    ],  # C.8.9.1, C.8.9.4
}
_TYPE_2_SEQUENCES_OF: Final = {
    PET: ["RadiopharmaceuticalInformationSequence"],  # C.8.9.2
    # C.8.11.2, C.7.6.14; of a breast the region is of type 1
    **{
        f"1.2.840.10008.5.1.4.1.1.1.{number}": ["AnatomicRegionSequence", "AcquisitionContextSequence"]
        for number in ("1", "1.1")
    },
}
"""Attributes and coordinates hold no sequences."""
_TYPE_1_OF: Final = {
    MR: ["ScanningSequence", "SequenceVariant"],
    CT: [],
    PET: ["Units", "CountsSource", "SeriesType", "DecayCorrection"],
}
_NO_UNITS: Final = (
    "files of a PET have to tell Units (PS3.3 C.8.9.1), and {} tells none, as if computed of stored values (open "
    "without rescale=False), or as derivatives and integrals, to which xarray leaves no attributes: say what values "
    "are in, such as image.assign_attrs(Units='NONE')"
)
_START_OF: Final = {PET: ["SeriesDate", "SeriesTime"]}  # C.8.9.1
"""From when on times of images count, and to when values are corrected for decay."""

_LOSSY: Final = frozenset(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"))
"""Transfer syntaxes that never are without a loss: JPEG of 8 and of 12 bits."""
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
_UNIT: Final = "RescaleType"
_DOSE_UNIT: Final = "DoseUnits"


OVERLAY_POSITIONS: Final = tuple(range(0x60000102, 0x60200102, 0x20000))
"""OverlayBitPosition of each overlay: of one without OverlayData, the bit of each pixel that it lies in."""


def move_overlays(ds: Dataset, read: Callable[[], NDArray[Any]]) -> None:
    """Put overlays that lie in bits of the pixels, as files before 2004 may have, in elements of their own.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    read : callable
        Returns the pixels with all their bits, shape (row, col).
    """
    for number in OVERLAY_POSITIONS:
        group = number >> 16
        if number not in ds or not ds[number].value or (group, 0x3000) in ds:
            continue
        bits = np.packbits((read() >> int(ds[number].value) & 1).astype(bool).ravel(), bitorder="little").tobytes()
        ds.add_new((group, 0x3000), "OW", bits + b"\0" * (len(bits) % 2))
        ds[group, 0x0100].value, ds[number].value = 1, 0


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
    # A PET image has no other value than PRIMARY there (PS3.3 C.8.9.4.1.1).
    second = "PRIMARY" if ds.get("SOPClassUID") == PET else "SECONDARY"
    ds.ImageType = ["DERIVED", *(parts[1:] or [second])]
    if "DerivationDescription" not in told:
        before = str(ds.get("DerivationDescription") or "").strip()
        ds.DerivationDescription = f"{before}; {how}"[-1024:] if before else how
    if ds.get("SOPClassUID") == SECONDARY_CAPTURE:
        if not ds.get("ConversionType"):
            ds.ConversionType = "WSD"  # workstation (PS3.3 C.8.6.1)
        if "PatientOrientation" not in ds:
            # Wanted of what has no Image Plane module (PS3.3 C.7.6.1.1.1): where rows lead, and columns.
            cosines = ds.get("ImageOrientationPatient")
            ds.PatientOrientation = [*patient_orientation(unit_vectors(cosines))[:0:-1]] if cosines else None
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


def mark_lossy(ds: Dataset, syntaxes: Iterable[str]) -> None:
    """Say that pixels were compressed with a loss, for nothing else tells that any more (PS3.3 C.7.6.1.1.5).

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    syntaxes : iterable of str
        Transfer syntaxes of the files that pixels come from.
    """
    if not _LOSSY.isdisjoint(syntaxes) and ds.get("LossyImageCompression") != "01":
        ds.LossyImageCompression = "01"


def drop_private(ds: Dataset) -> None:
    """Remove private elements, those in sequences included."""
    # Not Dataset.remove_private_tags, which decodes every element first: that took a third of all writing.
    for number in list(ds.keys()):
        if number.is_private:
            del ds[number]
        elif element_vr(ds.get_item(number)) == "SQ":
            for item in ds[number].value:
                drop_private(item)


def private_tags(ds: Dataset, element: PrivateElement) -> list[int]:
    """Return where a header has a private element: in blocks of its creator, or the first if creators are lost."""
    group = [number for number in ds.keys() if number.group == element.group]  # noqa: SIM118 - a Dataset iterates over elements
    creators = [number for number in group if 0x10 <= number.element <= 0xFF]
    blocks = [number.element for number in creators if str(ds[number].value).strip() == element.creator]
    tags = [element.group << 16 | block << 8 | element.number for block in (blocks if creators else [0x10])]
    return [number for number in tags if number in ds]


def drop_private_elements(ds: Dataset, elements: Iterable[PrivateElement]) -> None:
    """Remove some private elements."""
    for element in elements:
        for number in private_tags(ds, element):
            del ds[number]


def drop_stale_elements(
    ds: Dataset, found: ValueRange | None, told: Iterable[str], known: xr.DataArray, *, is_mask: bool, is_computed: bool
) -> None:
    """Remove what is no longer true of the pixels of a derived frame.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    found : ValueRange, optional
        Of the new values; None where values are those of the source.
    told : iterable of str
        Elements that the user has set: a window or unit among them is left alone.
    known : DataArray
        The image whose header it is. Where it lacks a window or unit that the header tells, what was computed with are
        stored values.
    is_mask : bool
        Whether values are True and False, which have no unit, whatever they were computed from.
    is_computed : bool
        Whether values may be others than were read. Then their unit is not known if `known` has lost its attributes,
        as derivatives and integrals have.

    Raises
    ------
    MissingHeaderError
        If the header tells Units, and `known` does not.
    """
    stale = list(_OF_OLD_PIXELS)
    if found is not None:
        stale += _OF_OLD_VALUES
        # Without any attributes an image says nothing by these that it lacks, but for the unit of what was computed.
        is_bare = "SOPClassUID" not in known.attrs
        is_of_stored = not is_bare and any(
            ds.get(name) not in (None, "") and name not in known.attrs and name not in known.coords
            for name in (*WINDOW_KEYWORDS[:2], _UNIT, _DOSE_UNIT)
        )
        if not {"WindowCenter", "WindowWidth"} & set(told) and (is_of_stored or not window_fits(ds, found)):
            stale += WINDOW_KEYWORDS
        unit, unknown = (_DOSE_UNIT, "RELATIVE") if ds.get("SOPClassUID") == RT_DOSE else (_UNIT, "US")
        is_unknown = is_bare and is_computed and not {unit, "Units"} & {*known.attrs, *known.coords}
        is_in_unit = unit in ds or ds.get("SOPClassUID") == CT  # without one it is in HU
        if (is_of_stored or ((is_mask or is_unknown) and is_in_unit)) and unit not in told:
            setattr(ds, unit, unknown)
        if "Units" in ds and "Units" not in told:
            if is_mask:
                ds.Units = "NONE"  # unitless (PS3.3 C.8.9.1.1.3)
            elif is_unknown or (
                known.attrs.get("SOPClassUID") == PET and "Units" not in known.attrs and "Units" not in known.coords
            ):
                raise MissingHeaderError(_NO_UNITS.format(f"the image of files in {ds.Units}"))
    if "GridFrameOffsetVector" in ds:  # of many frames (PS3.3 C.8.8.3); this one lies at ImagePositionPatient
        stale += ("GridFrameOffsetVector", "FrameIncrementPointer", "NumberOfFrames")
    for name in stale:
        ds.pop(name, None)
    # Overlays (PS3.3 C.9.2) are drawn on the pixels as they were.
    for number in [number for number in ds.keys() if number.group & 0xFF00 == 0x6000]:  # noqa: SIM118 - a Dataset iterates over elements
        del ds[number]


def window_fits(ds: Dataset, found: ValueRange) -> bool:
    """Return whether at least half of each window lies within the range of the values."""
    centers, widths = (np.atleast_1d(np.asarray(ds.get(name, np.nan), float)) for name in WINDOW_KEYWORDS[:2])
    return windows_fit(centers, widths, found.low, found.high)


def fill_required(ds: Dataset, *, several: bool, is_of_many: bool) -> None:
    """Complete a header that was made from attrs and coordinates: empty where DICOM lets an element be unknown.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    several : bool
        Whether the image was made of several series.
    is_of_many : bool
        Whether the header was that of a file of many images.

    Raises
    ------
    MissingHeaderError
        If an element that must have a value is gone because the series disagree on it, or is none of a file of many
        images; if one that differs between frames of a PET is gone since several were computed with.
    """
    kind = str(ds.get("SOPClassUID", ""))
    missing = [name for name in _TYPE_1_OF.get(kind, []) if not ds.get(name)]
    of_frames = missing_of_image(ds) if kind == PET else []
    is_lost = bool(of_frames) and not missing  # a file that is no valid PET may have told nothing of all this
    missing += [name for name in _START_OF.get(kind, []) if not ds.get(name)] + of_frames
    if is_of_many and missing:
        raise MissingHeaderError(
            f"files of one image of SOP class {kind} have to tell {', '.join(missing)}, and the file of many images "
            f"does not: set what is right, such as image.assign_attrs({missing[0]}=...) (PS3.3 C.8), or give template="
        )
    if several and missing:
        raise MissingHeaderError(
            f"the series that the image was made from do not agree on {', '.join(missing)}: "
            "set these attributes (Units as a coordinate, image.assign_coords(Units=...)), or give template=, an image "
            "whose headers are to be used"
        )
    if kind == PET and missing[:1] == ["Units"] and not set(missing) & {"CountsSource", "SeriesType"}:
        raise MissingHeaderError(_NO_UNITS.format("the image"))  # of a valid PET that is computed of stored values
    if is_lost:
        duration = ds.get("ActualFrameDuration")
        of_one = f"; ActualFrameDuration, {duration} ms, is that of one frame" if duration else ""
        raise MissingHeaderError(
            f"files of a PET have to tell {' and '.join(of_frames)} (PS3.3 C.8.9.4), and the image does not, as where "
            "frames that differ in it were put together. A volume that is subtracted without its labels leaves that "
            "alone, image - image.isel(time=0, drop=True); of a mean set what is right, such as "
            f"image.assign_attrs({of_frames[0]}=...){of_one}. Or give template=, an image whose headers are to be used"
        )
    for name in (*_TYPE_2, *_TYPE_2_OF.get(kind, [])):
        if name not in ds:
            setattr(ds, name, None)
    for name in _TYPE_2_SEQUENCES_OF.get(kind, []):
        if name not in ds:
            setattr(ds, name, [])
    if kind == PET:
        orient_patient(ds)


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
    from pydicom.valuerep import PersonName

    patient = ds.get("PatientName")
    if isinstance(patient, PersonName) and patient.original_string is None:
        texts = {**texts, "PatientName": patient}  # as an origin spells it, which may be of another character set
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
    # pydicom encodes names that were set as text by the old set before it decodes them, with ? for what that lacks.
    names = {name: ds[name].value for name in texts if name in ds and ds[name].VR == "PN"}
    for name in names:
        del ds[name]
    keep_private(ds)
    ds.decode()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name, value in names.items():
        setattr(ds, name, value)
