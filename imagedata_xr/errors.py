"""What can be wrong with images, one exception each, all of built-in kinds that a caller would expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagedata_xr.pacs.report import Report

__all__ = [
    "BatchError",
    "ConflictingOriginError",
    "DuplicateFramesError",
    "GeometryError",
    "LeftOutWarning",
    "MissingFramesError",
    "MissingHeaderError",
    "MissingSlicesWarning",
    "MixedSeriesError",
    "NetworkError",
    "NoDicomError",
    "NotAStackError",
    "NotStoredError",
    "OrderError",
    "PairingError",
    "UnknownKeywordWarning",
    "UnreadableFileError",
    "ValuesNotStorableError",
]


class NoDicomError(FileNotFoundError):
    """Nothing was found at the source that is a DICOM image."""


class UnreadableFileError(OSError):
    """A file is damaged, cut short, or holds what cannot be decoded."""


class LeftOutWarning(UserWarning):
    """Something was left out of what was read.

    Its ``path`` is a damaged file, a folder that cannot be listed, or the name of a series that does not open.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MissingSlicesWarning(UserWarning):
    """Distances of slices are multiples of the smallest, so that some are probably not there."""


class UnknownKeywordWarning(UserWarning):
    """Attributes have names that are nearly those of DICOM elements, and are not written."""


class MixedSeriesError(ValueError):
    """The frames belong to several series, orientations or stacks where one was wanted."""


class NotAStackError(ValueError):
    """The slices do not lie along one straight line in one orientation."""


class MissingFramesError(ValueError):
    """Frames that would complete the grid are not there."""


class DuplicateFramesError(ValueError):
    """Several frames claim the same place in the grid."""


class OrderError(ValueError):
    """The order asked for does not sort these frames."""


class GeometryError(ValueError):
    """Positions or orientation are absent, conflicting, or not of the kind that was asked for."""


class PairingError(ValueError):
    """The volumes of two images do not correspond one to one."""


class MissingHeaderError(ValueError):
    """An element that is needed is absent."""


class ConflictingOriginError(ValueError):
    """The image was made from several patients, studies or frames of reference."""


class ValuesNotStorableError(ValueError):
    """DICOM pixel data cannot hold these values."""


class BatchError(RuntimeError):
    """Some series of a batch were not converted."""


class NetworkError(ConnectionError):
    """A PACS cannot be reached, refuses, or does not answer as it should."""


class NotStoredError(NetworkError):
    """Some instances were not stored by the PACS that they were sent to, as far as is known.

    Attributes
    ----------
    report : imagedata_xr.pacs.report.Report
        What became of each instance.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
