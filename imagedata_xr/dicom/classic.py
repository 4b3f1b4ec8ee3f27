"""The header of a frame of an enhanced file to that of a file of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagedata_xr.dates import date_text, parse_datetime, parse_zone, split_zone, time_text
from imagedata_xr.errors import MissingHeaderError
from imagedata_xr.names import MR, PET

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["OF_MANY", "TELL_OTHERS", "is_of_one_image", "to_classic"]

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_CLASSIC: Final = {
    f"{_STORAGE}{enhanced}": f"{_STORAGE}{classic}"
    for classic, several in {
        "2": ("2.1", "2.2"),
        "4": ("4.1", "4.4"),
        "128": ("130", "128.1"),
        "6.1": ("3.1",),
        "7": ("7.1", "7.2", "7.3", "7.4", "4.3"),
        "12.1": ("12.1",),
        "12.2": ("12.2",),
    }.items()
    for enhanced in several
}
"""SOP class of files of one image, by that of files of many; MR in colours become secondary captures.

Of angiography and fluoroscopy there may be one image or many in a file (PS3.3 A.14, A.16).
"""
_OF_ONE: Final = frozenset(
    f"{_STORAGE}{number}"
    for number in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "4", "6.1", "7", "128"),
        *("77.1.1", "77.1.2", "77.1.4"),
    )
)
"""SOP classes of files of one image, whatever elements of files of many programs have left in them."""
_ONLY_OF_MANY: Final = frozenset(
    f"{_STORAGE}{number}"
    for number in (
        *("12.1.1", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "20", "30"),
        *("66.4", "66.7", "77.1.5.4", "77.1.6", "481.2"),
    )
)
"""SOP classes of files of many images that have no like of one image."""
OF_MANY: Final = (
    *("FrameAcquisitionDateTime", "FrameReferenceDateTime", "FrameAcquisitionDuration", "DimensionIndexValues"),
    *("StackID", "InStackPositionNumber", "TemporalPositionIndex", "FrameIncrementPointer"),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber"),
    *("SOPInstanceUIDOfConcatenationSource", "LUTLabel"),
    *("SegmentationType", "SegmentationFractionalType", "MaximumFractionalValue", "SegmentsOverlap", "SegmentNumber"),
    "FrameLaterality",
)
"""Elements that say where a frame is in a file of many, when, or of which map; one of a file of its own has others.

Those of a whole segmentation say which segments it has and how they are stored, which is not so of a file of one frame.
"""
TELL_OTHERS: Final = ("InversionRecovery", "InversionTime", "InversionTimes", "SeriesDate", "SeriesTime")
"""Elements, beside these, that say with one that differs between frames what another is to be."""

_CORRECTIONS: Final = {
    "DecayCorrected": "DECY",
    "NonUniformRadialSamplingCorrected": "RADL",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "PatientMotionCorrected": "PMOT",
    "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
"""Value of CorrectedImage (PS3.3 C.8.9.1), by the element of an enhanced PET that says whether it was done."""
_SERIES_TYPES: Final = {"STATIC": "STATIC", "DYNAMIC": "DYNAMIC", "WHOLE_BODY": "WHOLE BODY"}
"""First value of SeriesType, by the third of ImageType; that of gated images does not tell what they were gated by."""
_UNITS: Final = frozenset(("CNTS", "PROPCNTS", "CPS", "PROPCPS", "BQML", "GML", "MGMINML", "UMOLMINML", "MLMINML"))
"""Values of Units that vendors have in RescaleType."""


def is_of_one_image(sop_class: object) -> bool:
    """Return whether files of a SOP class have one image each, so that `to_classic` leaves their headers."""
    return str(sop_class) not in _CLASSIC and str(sop_class) not in _ONLY_OF_MANY


def to_classic(ds: Dataset) -> None:
    """Change a header that attributes and coordinates of a frame tell to one of a file of one image.

    Parameters
    ----------
    ds : Dataset
        Header; changed where its SOP class is one of files of many frames.

    Raises
    ------
    MissingHeaderError
        If there is no SOP class of one image for it.
    """
    kind = str(ds.get("SOPClassUID", ""))
    if kind in _OF_ONE:
        for name in ("FrameIncrementPointer", "DimensionIndexValues"):
            ds.pop(name, None)
        return
    if kind not in _CLASSIC:
        if kind in _ONLY_OF_MANY or "FrameIncrementPointer" in ds or "DimensionIndexValues" in ds:
            raise MissingHeaderError(
                f"frames of SOP class {kind} have no SOP class of files of one image: "
                "give template=, an image whose headers are to be used"
            )
        return
    ds.SOPClassUID = _CLASSIC[kind]
    if not ds.get("EchoTime") and ds.get("EffectiveEchoTime") is not None:
        ds.EchoTime = f"{ds.EffectiveEchoTime:.10g}"
    moment, start = (str(ds.get(name) or "") for name in ("FrameAcquisitionDateTime", "AcquisitionDateTime"))
    if moment:
        ds.AcquisitionDateTime = moment
        ds.AcquisitionDate, ds.AcquisitionTime = _date_and_time(moment, str(ds.get("TimezoneOffsetFromUTC") or ""))
    if ds.get("InPlanePhaseEncodingDirection") == "COLUMN":
        ds.InPlanePhaseEncodingDirection = "COL"
    if ds.get("FrameLaterality") and not ds.get("Laterality") and not ds.get("ImageLaterality"):
        # Not Laterality, which is one for all images of a series (PS3.3 C.7.3.1).
        ds.ImageLaterality = ds.FrameLaterality
    if ds.SOPClassUID == MR:
        _describe_inversion(ds)
        _describe_sequence(ds)
    if ds.SOPClassUID == PET:
        _describe_emission(ds, start)
    for name in OF_MANY:
        ds.pop(name, None)


def _date_and_time(moment: str, zone: str) -> tuple[str, str]:
    """Return date and time of a DT value, in the time zone of the header where both have one (PS3.3 C.12.1.1.8)."""
    bare, own = split_zone(moment)
    utc, ahead = parse_datetime(moment), parse_zone(zone)
    if not own or utc is None or ahead is None:
        return bare[:8], bare[8:]
    local = utc + ahead
    return date_text(local), time_text(local)


def _describe_inversion(ds: Dataset) -> None:
    """Tell InversionTime where there was an inversion, and only there (PS3.3 C.8.3.1)."""
    is_inverted = ds.get("InversionRecovery") == "YES"
    if ds.get("InversionTime") in (None, "") and is_inverted:
        times = ds.get("InversionTimes")
        # Of several pulses no one time tells.
        ds.InversionTime = f"{times:.10g}" if isinstance(times, float) else None
    elif "InversionTime" in ds and not ds.InversionTime and not is_inverted:
        del ds.InversionTime


def _describe_sequence(ds: Dataset) -> None:
    """Tell in ScanningSequence and SequenceVariant (PS3.3 C.8.3.1) what the elements of an enhanced file tell."""
    if not ds.get("ScanningSequence"):
        echo = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(str(ds.get("EchoPulseSequence", "")), [])
        planar = ["EP"] if ds.get("EchoPlanarPulseSequence") == "YES" else []
        # A file that does not say whether there was an inversion says so by how long before it was.
        is_inverted = ds.get("InversionRecovery") or ("YES" if ds.get("InversionTime") else "NO")
        inversion = ["IR"] if is_inverted == "YES" else []
        ds.ScanningSequence = [*echo, *planar, *inversion] or ["RM"]  # research mode
    if not ds.get("SequenceVariant"):
        spoiled = ["SP"] if ds.get("Spoiling", "NONE") not in ("NONE", "", None) else []
        steady = ["SS"] if ds.get("SteadyStatePulseSequence", "NONE") not in ("NONE", "", None) else []
        segmented = ["SK"] if ds.get("SegmentedKSpaceTraversal") == "PARTIAL" else []
        ds.SequenceVariant = [*segmented, *steady, *spoiled] or ["NONE"]


def _describe_emission(ds: Dataset, start: str) -> None:
    """Tell of a PET what files of one image have to tell (PS3.3 C.8.9), as far as an enhanced file does.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    start : str
        When the acquisition of the whole file began; "" if that is not told.
    """
    told: dict[str, object] = {}
    if ds.get("FrameAcquisitionDuration") is not None:
        told["ActualFrameDuration"] = round(ds.FrameAcquisitionDuration)
    zone = str(ds.get("TimezoneOffsetFromUTC") or "")
    moment = str(ds.get("FrameReferenceDateTime") or "")
    at = parse_datetime("".join(_date_and_time(moment, zone)))
    since = parse_datetime(f"{ds.get('SeriesDate') or ''}{ds.get('SeriesTime') or ''}")
    if at is not None and since is not None:
        told["FrameReferenceTime"] = f"{(at - since).total_seconds() * 1000:.10g}"
    if any(name in ds for name in _CORRECTIONS):
        told["CorrectedImage"] = [value for name, value in _CORRECTIONS.items() if ds.get(name) == "YES"]
    corrected = str(ds.get("DecayCorrectionDateTime") or "")
    if ds.get("DecayCorrected") == "NO":
        told["DecayCorrection"] = "NONE"
    elif ds.get("DecayCorrected") == "YES" and start and parse_datetime(corrected) == parse_datetime(start):
        told["DecayCorrection"] = "START"
    kind = [*(ds.get("ImageType") or ()), "", "", ""][2]
    if kind in _SERIES_TYPES:
        told["SeriesType"] = [_SERIES_TYPES[kind], "IMAGE"]
    if ds.get("RescaleType") in _UNITS:
        told["Units"] = ds.RescaleType
    for name, value in told.items():
        if not ds.get(name):
            setattr(ds, name, value)
