"""Write small enhanced MR files whose pixel values say where each frame belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from tests.generate import AXIAL, _header, axes, clock, frame_values, save, uid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def macro(**values: Any) -> DicomSequence:
    """Return a functional group macro: a sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return DicomSequence([item])


def write_enhanced(
    file: Path,
    *,
    times: int = 1,
    slices: int = 4,
    rows: int = 8,
    cols: int = 6,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.5, 2.0),
    gap: float = 3.0,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    order: Sequence[int] | None = None,
    group: Callable[[Dataset, int, int], None] | None = None,
    mutate: Callable[[Dataset], None] | None = None,
    series: str = "enhanced",
    number: int = 1,
    syntax: UID = ExplicitVRLittleEndian,
    sop_class: UID = EnhancedMRImageStorage,
) -> Path:
    """Write one enhanced file of ``times * slices`` frames and return it.

    Parameters
    ----------
    file
        The file to write.
    times, slices, rows, cols, orientation, spacing, gap, origin
        As in `tests.generate.write_series`.
    order
        The frames as they lie in the file, by ``time * slices + slice``; those not named are left out.
    group
        Called as ``group(item, time, slice)`` to change the functional groups of a frame.
    mutate
        Called with the whole dataset before it is written.
    series, number
        Name of the series, and InstanceNumber in it.
    syntax, sop_class
        Transfer syntax and SOP class.
    """
    ds = _header("P1", "study", series, 1, sop_class)
    for keyword in ("EchoTime", "FlipAngle", "RepetitionTime"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.Modality = "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]
    ds.InstanceNumber = number
    ds.SOPInstanceUID = uid(series, number)
    ds.AcquisitionDateTime = "20260102100000"
    ds.ContentDate, ds.ContentTime = "20260102", "110000"
    normal, _, _ = axes(orientation)
    shared = Dataset()
    shared.PlaneOrientationSequence = macro(ImageOrientationPatient=[f"{x:.12f}"[:16] for x in orientation])
    shared.PixelMeasuresSequence = macro(PixelSpacing=list(spacing), SliceThickness=gap)
    shared.MRTimingAndRelatedParametersSequence = macro(RepetitionTime=100, FlipAngle=15)
    shared.MREchoSequence = macro(EffectiveEchoTime=4.5)
    shared.MRImageFrameTypeSequence = macro(
        FrameType=["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"], ComplexImageComponent="MAGNITUDE"
    )
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    items, frames = [], []
    for index in range(times * slices) if order is None else order:
        t, z = divmod(index, slices)
        item = Dataset()
        item.FrameContentSequence = macro(
            FrameAcquisitionDateTime=f"20260102{clock(36_000 + 2.5 * t + 0.01 * z)}",
            StackID="1",
            InStackPositionNumber=z + 1,
            TemporalPositionIndex=t + 1,
            DimensionIndexValues=[1, z + 1, t + 1],
        )
        position = np.asarray(origin) + z * gap * normal
        item.PlanePositionSequence = macro(ImagePositionPatient=[f"{x:.10g}"[:16] for x in position])
        if group is not None:
            group(item, t, z)
        items.append(item)
        frames.append(frame_values(t, z, rows, cols).astype("<u2"))
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(items)
    ds.NumberOfFrames = len(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, cols
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.stack(frames).tobytes()
    ds["PixelData"].VR = "OW"
    if mutate is not None:
        mutate(ds)
    file.parent.mkdir(parents=True, exist_ok=True)
    return save(ds, file, syntax)
