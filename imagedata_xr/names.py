"""The vocabulary: dims, their units, and which DICOM elements feed, describe or place them."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CT",
    "GEOMETRY_KEYWORDS",
    "GROUPS_NOT_OF_THE_FRAME",
    "LAYOUT_OF_TILES",
    "MR",
    "NAME_OF_MAP",
    "ORIGIN_KEYWORDS",
    "PET",
    "PIXEL_KEYWORDS",
    "POLARITY",
    "RT_DOSE",
    "SAME_DIRECTION",
    "SECONDARY_CAPTURE",
    "SPATIAL_DIMS",
    "TAG_DIMS",
    "TAG_UNITS",
    "TILED",
    "WINDOW_KEYWORDS",
    "WITHIN_GROUPS",
]

SPATIAL_DIMS: Final = ("slice", "row", "col")
TAG_DIMS: Final = ("time", "triggertime", "b", "bvector", "dti", "fa", "te", "image_type", "segment")
"""Tag dims with a meaning of their own; any other dim is an element or function that the user names."""

SAME_DIRECTION: Final = 0.02
"""Gradient directions whose components differ by no more are one."""

TAG_UNITS: Final = {"time": "s", "triggertime": "s", "b": "s/mm2", "fa": "degree", "te": "ms"}

ORIGIN_KEYWORDS: Final = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")

GEOMETRY_KEYWORDS: Final = frozenset(
    (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "SpacingBetweenSlices"),
        "GridFrameOffsetVector",
    )
)
"""Elements that say where a frame is; on writing they follow from the coordinates."""

PIXEL_KEYWORDS: Final = frozenset(
    (
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "RescaleSlope",
        "RescaleIntercept",
        "DoseGridScaling",
    )
)
"""Elements that describe the stored pixels; they live in ``encoding`` and are made anew on writing."""

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
PET: Final = "1.2.840.10008.5.1.4.1.1.128"
SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
RT_DOSE: Final = "1.2.840.10008.5.1.4.1.1.481.2"
"""SOP classes with rules of their own. Values of doses are given by DoseGridScaling, and by no RescaleSlope."""

POLARITY: Final = "PhotometricInterpretation"
"""The one of these that is in attrs, too: whether the lowest value is white is true of computed values as well."""

WINDOW_KEYWORDS: Final = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
"""Elements that say which values are shown, in modality units."""

TILED: Final = ("MOSAIC", "VFRAME")
"""Values of ImageType by which Siemens and United Imaging mark a frame of many slices; the slices have them no more."""

LAYOUT_OF_TILES: Final = {0x0019: (0x0A, 0x29), 0x0065: (0x50, 0x51)}
"""Last bytes, by group, of the private elements that say how many slices a file has and where; no slice has them."""

GROUPS_NOT_OF_THE_FRAME: Final = (
    *("ReferencedImageSequence", "DerivationImageSequence", "ConversionSourceAttributesSequence"),
    *("RealWorldValueMappingSequence", "PixelIntensityRelationshipLUTSequence", "MRSpatialSaturationSequence"),
)
"""Functional groups that describe other images or saturation slabs, or are not applied: only the header has them."""

NAME_OF_MAP: Final = ("RealWorldValueMappingSequence", "LUTLabel")
"""The one of these groups of which an element is the frame's all the same, and this element: it tells what is shown."""

WITHIN_GROUPS: Final = ("DiffusionGradientDirectionSequence", "DiffusionBMatrixSequence")
"""Sequences in a functional group whose elements are the frame's, too."""
