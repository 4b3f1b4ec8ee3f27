"""What is the same for all frames of an image that is written."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import xarray as xr

from imagedata_xr.dicom.frames import is_unread
from imagedata_xr.dicom.gradients import has_new_diffusion
from imagedata_xr.dicom.label_elements import GRADIENT
from imagedata_xr.dicom.labels import TimeLabels

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset

    from imagedata_xr.dicom.pixels import ValueRange
    from imagedata_xr.dicom.places import Places

__all__ = ["TIMES", "ChangedError", "Job", "new_uids", "what_was_done"]

_OF_BYTES: Final = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("3.1", "7.1", "7.2"))
"""SOP classes of ultrasound, and of secondary captures of bits and bytes, of many frames."""
TIMES: Final = frozenset(("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "TriggerTime"))
"""Elements that follow from labels along time, unless the user has set one of them."""


class ChangedError(Exception):
    """An image that looked like an original is none; says why."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is the same for all frames."""

    da: xr.DataArray
    template: xr.DataArray | None
    identity: dict[str, str]
    places: Places | None
    from_files: bool
    original: bool
    is_old: bool
    """Whether values are those of the source files at other places: a crop, a flip."""
    keep_uid: bool
    keep_private: bool | None
    nan: float | Literal["raise"]
    progress: Callable[[int, int], None] | None
    may_be_as_read: bool = True
    """Whether values may have the rescale that they were read with, see `imagedata_xr.dicom.rescales`."""
    polarities: set[str] = field(default_factory=set)
    """PhotometricInterpretation of the headers so far."""
    series_uid: str = field(default_factory=lambda: new_uids(1)[0])
    now: datetime = field(default_factory=lambda: datetime.now())

    @property
    def tag_dims(self) -> tuple[str, ...]:
        """Dims but slice, row and col."""
        return tuple(str(dim) for dim in self.da.dims[: self.da.dims.index("slice")])

    @property
    def size(self) -> dict[str, int]:
        """How many slices and volumes the image has, by tag dim and, as the last, ``slice``."""
        return {dim: self.da.sizes[dim] for dim in (*self.tag_dims, "slice")}

    def place(self, index: dict[str, int], number: int) -> dict[str, int]:
        """Return which slice and volume a frame is of, in the order of time, as `size` names dims."""
        place = {**index, "slice": number}
        return {**place, "time": self.times.position(index) - 1} if "time" in index else place

    @property
    def is_colour(self) -> bool:
        """Whether pixels are colours."""
        return "rgb" in self.da.dims

    @property
    def is_untouched(self) -> bool:
        """Whether xarray knows of no change to the values since they were read."""
        return "TransferSyntaxUID" in self.da.encoding

    @property
    def is_rescaled(self) -> bool:
        """Whether the rescale of the files was applied when they were read."""
        return bool(self.da.encoding.get("rescaled", True))

    def syntaxes(self, ds: Dataset) -> set[str]:
        """Return the transfer syntaxes of the files that pixels come from, as far as known; `ds` is the header."""
        found = {*str(self.da.encoding.get("TransferSyntaxUID", "")).split("\\")}
        if self.from_files and self.template is None:
            found = {str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", ""))}
        return found

    @property
    def drops_private(self) -> bool:
        """Whether private elements are left out."""
        return not (self.original if self.keep_private is None else self.keep_private)

    @cached_property
    def is_unread(self) -> bool:
        """Whether values are still to be read from the source files, and so are theirs."""
        return is_unread(self.da.variable)

    @cached_property
    def are_bytes(self) -> bool:
        """Whether values of ultrasound or captures are, as they were read, of at most 8 bits, and written in 8."""
        told = self.da.encoding
        plain = {"PixelRepresentation": 0, "RescaleSlope": 1.0, "RescaleIntercept": 0.0}
        if self.da.attrs.get("SOPClassUID") not in _OF_BYTES or self.template is not None or self.from_files:
            return False
        if not self.is_untouched or self.da.dtype != "int16" or told.get("BitsAllocated") not in (1, 8):
            return False
        if any(told.get(name) != value for name, value in plain.items()):
            return False
        if self.is_unread:
            return True
        # What was put in place of values that were read may be anything, and what chunks have is not known before.
        low, high = xr.Dataset({"low": self.da.min(), "high": self.da.max()}).compute().values()
        return bool(low >= 0 and high <= 255)

    @cached_property
    def is_signed(self) -> bool:
        """Whether pixels that have no intercept are signed: those of all volumes, where one has values below 0."""
        if self.da.attrs.get("DoseType") == "ERROR":
            return True  # a difference of doses (PS3.3 C.8.8.3.4.2)
        if self.is_unread:
            told = self.da.encoding
            return told.get("PixelRepresentation") == 1 or told.get("RescaleIntercept", 0) < 0
        if self.da.dtype.kind == "f" and self.nan != "raise" and self.nan < 0:
            return True
        return bool((self.da.variable < 0).any())

    @cached_property
    def times(self) -> TimeLabels:
        """The labels along ``time`` and ``triggertime``."""
        return TimeLabels(self.da, self.template)

    @cached_property
    def has_new_diffusion(self) -> bool:
        """Whether b-values or gradient directions may be others than those of the headers that frames start from."""
        if self.template is not None:
            return any(name in self.da.coords for name in ("b", *GRADIENT))
        return self.from_files and has_new_diffusion(self.da)


def what_was_done(job: Job, frame: xr.DataArray, found: ValueRange | None) -> list[str]:
    """Return what was done to the pixel values of a frame, or why it has another header, for DerivationDescription.

    Parameters
    ----------
    job : Job
        What to write.
    frame : DataArray
        The frame.
    found : ValueRange, optional
        Of its values; None where stored values are those of the source.
    """
    if found is None:
        return []
    is_of_source = job.from_files and job.template is None
    if not job.is_untouched or (is_of_source and not (job.is_colour and job.is_unread)):
        return ["pixel values computed"]
    done = []
    if job.template is not None:
        done.append("header of another image")
    elif "source_frame" in frame.coords:
        done.append("frame of a file of many")
    elif not is_of_source:
        done.append("header of attributes and coordinates")
    if job.is_colour and job.da.encoding.get("PhotometricInterpretation") != "RGB":
        done.append("colours converted to RGB")
    elif not (job.is_colour or found.whole):
        done.append("pixel values rescaled")
    return done if job.is_unread else [*done, "pixel values from memory"]


def new_uids(count: int) -> list[str]:
    """Return so many UIDs that nothing else has (PS3.5 B.2)."""
    chance = os.urandom(16 * count)
    return [f"2.25.{UUID(bytes=chance[at : at + 16], version=4).int}" for at in range(0, len(chance), 16)]
