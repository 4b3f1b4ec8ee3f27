"""Which frames may be copies of one: such as differ in nothing but what an archive or an export changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.dicom.column import coded
from imagedata_xr.dicom.tell import directions_of
from imagedata_xr.dicom.vendors import diffusion
from imagedata_xr.elements import keyword, tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["B_VALUE", "DIRECTION", "differences"]

B_VALUE: Final = "b-value"
DIRECTION: Final = "gradient direction"

_GROUPS: Final = frozenset((0x0018, 0x0020, 0x0022, 0x0054, 0x0062, 0x3004))
"""Groups of the data dictionary (PS3.6) that say how a frame was acquired and reconstructed, of what and where."""
_FURTHER: Final = frozenset(
    map(
        tag,
        (
            *("ImageType", "ComplexImageComponent", "AcquisitionContrast", "DerivationDescription", "RescaleType"),
            *("PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique", "IrradiationEventUID"),
            *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime", "Modality"),
            *("RescaleSlope", "RescaleIntercept"),
            *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
        ),
    )
)
"""The elements of other groups that do."""
_NOT_OF_THE_FRAME: Final = frozenset(
    map(
        tag,
        (
            *("ImageComments", "FrameComments", "StudyID", "SeriesNumber", "DeviceSerialNumber", "SoftwareVersions"),
            *("ProtocolName", "DetectorID", "GantryID", "DeviceUID", "SynchronizationFrameOfReferenceUID"),
            *("DateOfSecondaryCapture", "TimeOfSecondaryCapture", "DateOfLastCalibration", "TimeOfLastCalibration"),
        ),
    )
)
"""Elements of these groups that archives and de-identification change."""
_NEUTRAL: Final = {tag("RescaleSlope"): 1.0, tag("RescaleIntercept"): 0.0, tag("LossyImageCompression"): "00"}
"""What an element means that is absent."""
_COUNTS: Final = (0x002010, 0x002012)
"""Elements of how many there are of a series and the like, by their first digits; SliceLocation is among them, too."""
_OF_PLACE: Final = frozenset(map(tag, ("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber")))
_NAMED_FIRST: Final = (
    *("AcquisitionNumber", "AcquisitionDateTime", "AcquisitionTime", "TriggerTime", "TemporalPositionIdentifier"),
    *("EchoTime", "FlipAngle", "DiffusionBValue", "InversionTime", "ImageType"),
    *("EffectiveEchoTime", "FrameAcquisitionDateTime", "TemporalPositionIndex", "NominalCardiacTriggerDelayTime"),
    *("DiffusionGradientOrientation", "ComplexImageComponent", "ReferencedSegmentNumber"),
    *("ConvolutionKernel", "KVP", "ContrastBolusAgent", "EchoNumbers", "ReconstructionDiameter", "SliceThickness"),
)
"""Elements that tell acquisitions apart best."""
_NAMED_LAST: Final = ("SeriesInstanceUID",)


def differences(table: FrameTable, groups: NDArray[np.intp], *, one_place: bool) -> list[str]:
    """Return in which elements frames of one group differ that copies share, best first; none if they may be copies.

    Parameters
    ----------
    table : FrameTable
        Frames.
    groups : ndarray of int
        Number of the group of each frame.
    one_place : bool
        Whether frames of a group are at one place in the patient, each with a SOPInstanceUID of its own. Positions
        then differ by noise, and InstanceNumber may; one instance has one position and number.
    """
    order = np.argsort(groups, kind="stable")
    together = np.diff(groups[order]) == 0

    def differ(codes: NDArray[np.intp]) -> bool:
        return bool(((np.diff(codes[order]) != 0) & together).any())

    found = []
    weighting = diffusion(table)
    if differ(directions_of(weighting)[0]):
        found.append(DIRECTION)
    elif differ(coded(weighting.b)[0]):
        found.append(B_VALUE)
    names = []
    for number, column in table.varying.items():
        if not _tells(number, one_place=one_place) or not differ(column.codes):
            continue
        codes, values = table.codes(number)
        # Different bytes can mean the same, and an element without a value says as little as none.
        neutral = ("", None, _NEUTRAL.get(number))
        meant, _ = coded(["" if value in neutral else repr(value) for value in values])
        if differ(meant[codes]):
            names.append(keyword(number) or f"{number:08X}")
    rank = {name: place for place, name in enumerate(_NAMED_FIRST)}
    rank |= {name: len(rank) + 1 + place for place, name in enumerate(_NAMED_LAST)}
    return found + sorted(names, key=lambda name: (rank.get(name, len(_NAMED_FIRST)), name))


def _tells(number: int, *, one_place: bool) -> bool:
    """Whether copies share an element."""
    if number == tag("SliceLocation") or number in _OF_PLACE:
        return not one_place
    is_group_length = number & 0xFFFF == 0
    if is_group_length or number in _NOT_OF_THE_FRAME or number >> 8 in _COUNTS:
        return False
    return number >> 16 in _GROUPS or number in _FURTHER
