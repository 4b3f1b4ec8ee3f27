"""Write small classic DICOM series whose pixel values say where each of them belongs.

In every frame ``pixel[0, 0]`` is the time index, ``pixel[0, 1]`` the slice index, and any other pixel
``100 * time + 10 * slice + row + col``, so that a reader's order is plain from the values alone.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.9781476007, 0.0, 0.2079116908, -0.0247923234, 0.9928648648, 0.1166387113)
PRIVATE_CREATOR = "IMAGEDATA_XR TEST"
MODALITY = {MRImageStorage: "MR", CTImageStorage: "CT"}


def uid(*parts: object) -> UID:
    """Return a UID of the UUID-derived root that depends on nothing but the arguments."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(map(str, parts))).int}")


def frame_values(time: int, slice_: int, rows: int, cols: int) -> np.ndarray:
    """Return the stored values of one frame."""
    values = 100 * time + 10 * slice_ + np.add.outer(np.arange(rows), np.arange(cols))
    values[0, 0] = time
    if cols > 1:
        values[0, 1] = slice_
    return values


def axes(orientation: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit vectors n, down, right [LPS+] of an ImageOrientationPatient."""
    right, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    right = right / np.linalg.norm(right)
    down = down - right * (right @ down)
    down = down / np.linalg.norm(down)
    return np.cross(right, down), down, right


def truth_affine(
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.5, 2.0),
    gap: float = 3.0,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    shear: Sequence[float] = (0.0, 0.0),
) -> np.ndarray:
    """Return the 4 x 4 matrix from (slice, row, col) to mm [LPS+] of a series of `write_series`."""
    n, down, right = axes(orientation)
    affine = np.eye(4)
    affine[:3, 0] = gap * (n + shear[0] * down + shear[1] * right)
    affine[:3, 1] = spacing[0] * down
    affine[:3, 2] = spacing[1] * right
    affine[:3, 3] = origin
    return affine


def clock(seconds: float) -> str:
    """Return a time of day as a DICOM TM value."""
    microseconds = round(seconds * 1e6) % (86_400 * 10**6)
    whole, fraction = divmod(microseconds, 10**6)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{fraction:06d}"


def write_series(
    path: str | Path,
    *,
    times: int | Iterable[float] = 1,
    slices: int = 4,
    rows: int = 8,
    cols: int = 6,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.5, 2.0),
    gap: float = 3.0,
    gaps: Sequence[float] | None = None,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    shear: Sequence[float] = (0.0, 0.0),
    patient: str = "P1",
    study: str = "study",
    series: str = "series",
    number: int = 1,
    start: float = 36_000.0,
    date: str = "20260102",
    per_time: Mapping[str, Sequence[Any]] | None = None,
    tags: Mapping[str, Any] | None = None,
    sop_class: UID = MRImageStorage,
    dtype: str = "u2",
    bits_stored: int = 12,
    rescale: tuple[float, float] | None = None,
    values: Callable[[int, int], np.ndarray] | None = None,
    transfer_syntax: UID = ExplicitVRLittleEndian,
    mutate: Callable[[Dataset, int, int], Dataset | None] | None = None,
    suffix: str = "",
) -> list[Path]:
    """Write one series, a file a frame, and return the files in the order time, slice.

    Parameters
    ----------
    path
        Folder to write into; made when absent. Names do not sort by slice.
    times
        How many volumes, 2.5 s apart, or their times [s] since `start`.
    slices, rows, cols
        Size of a volume. Slices ascend along the normal.
    orientation, spacing, gap, origin, shear
        ImageOrientationPatient, PixelSpacing [mm], distance of slices [mm] along the normal, position of
        the first voxel [mm, LPS+], and shift down and right of a slice per mm along the normal.
    gaps
        Distances between neighbouring slices [mm], ``slices - 1`` of them, instead of `gap`.
    patient, study, series, number
        Names from which the IDs are made, and SeriesNumber. Equal names are the same patient, study, series.
    start, date
        Time of day [s] of the first volume, and its date.
    per_time
        Keyword -> one value a volume, such as ``{"EchoTime": [5, 10]}``; the volumes then share one time.
    tags
        Keyword -> value of every frame; None takes the element away.
    dtype, bits_stored
        Type of the stored values (``u1``, ``u2``, ``i2``, ...) and how many of its bits count.
    rescale
        RescaleSlope and RescaleIntercept.
    values
        Gives the stored values of (time, slice) instead of `frame_values`.
    transfer_syntax
        What pydicom can write: the uncompressed ones and those it has an encoder for.
    mutate
        Called as ``mutate(dataset, time_index, slice_index)`` before a file is written; may change the
        dataset, return another one, or set ``dataset.skip = True`` for the file to be left out.
    suffix
        Of the file names.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    per_time = dict(per_time or {})
    if per_time:
        volume_times = [0.0] * len(next(iter(per_time.values())))
    else:
        volume_times = [2.5 * t for t in range(times)] if isinstance(times, int) else list(times)
    n, down, right = axes(orientation)
    offsets = np.concatenate([[0.0], np.cumsum([gap] * (slices - 1) if gaps is None else gaps)])
    files = []
    for t, time in enumerate(volume_times):
        for z in range(slices):
            position = np.asarray(origin) + offsets[z] * (n + shear[0] * down + shear[1] * right)
            ds = _header(patient, study, series, number, sop_class)
            ds.InstanceNumber = t * slices + z + 1
            ds.SOPInstanceUID = uid(patient, study, series, t, z)
            ds.AcquisitionDate = ds.ContentDate = date
            ds.AcquisitionTime = ds.ContentTime = clock(start + time)
            ds.ImagePositionPatient = [f"{x:.10g}"[:16] for x in position]
            ds.ImageOrientationPatient = [f"{x:.12f}"[:16] for x in orientation]
            ds.SliceLocation = f"{position @ n:.8g}"
            ds.PixelSpacing = list(spacing)
            ds.SliceThickness = ds.SpacingBetweenSlices = gap
            if sop_class == CTImageStorage:
                del ds.SpacingBetweenSlices
            if rescale is not None:
                ds.RescaleSlope, ds.RescaleIntercept = rescale
            for keyword, sequence in per_time.items():
                setattr(ds, keyword, sequence[t])
            for keyword, value in (tags or {}).items():
                if value is not None:
                    setattr(ds, keyword, value)
                elif keyword in ds:
                    delattr(ds, keyword)
            pixels = frame_values(t, z, rows, cols) if values is None else np.asarray(values(t, z))
            set_pixels(ds, pixels, dtype, bits_stored)
            if mutate is not None:
                ds = mutate(ds, t, z) or ds
            if getattr(ds, "skip", False):
                continue
            name = hashlib.sha256(f"{series}/{t}/{z}".encode()).hexdigest()[:10]
            files.append(save(ds, folder / f"{name}{suffix}", transfer_syntax))
    return files


def _header(patient: str, study: str, series: str, number: int, sop_class: UID) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = (
        ["ORIGINAL", "PRIMARY", "M", "ND"] if sop_class == MRImageStorage else ["ORIGINAL", "PRIMARY", "AXIAL"]
    )
    ds.SOPClassUID = sop_class
    ds.StudyDate = ds.SeriesDate = "20260102"
    ds.StudyTime = ds.SeriesTime = "095900.000000"
    ds.AccessionNumber = "A1"
    ds.Modality = MODALITY.get(sop_class, "OT")
    ds.Manufacturer = "imagedata_xr"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Test"
    ds.SeriesDescription = series
    ds.ProtocolName = "protocol"
    ds.PatientName = f"Test^{patient}"
    ds.PatientID = patient
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientPosition = "HFS"
    ds.BodyPartExamined = "HEAD"
    ds.StudyInstanceUID = uid(patient, study)
    ds.SeriesInstanceUID = uid(patient, study, series)
    ds.FrameOfReferenceUID = uid(patient, study, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = number
    ds.AcquisitionNumber = 1
    if sop_class == CTImageStorage:
        ds.KVP = "120"
    if sop_class == MRImageStorage:
        ds.ScanningSequence = "GR"
        ds.SequenceVariant = "SP"
        ds.ScanOptions = ""
        ds.MRAcquisitionType = "2D"
        ds.RepetitionTime = 100
        ds.EchoTime = 5
        ds.EchoTrainLength = 1
        ds.FlipAngle = 10
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "69536005", "SCT", "Head"
    ds.AnatomicRegionSequence = DicomSequence([code])
    block = ds.private_block(0x0029, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", "private text")
    block.add_new(0x02, "OB", b"private bytes\0")
    return ds


def set_pixels(ds: Dataset, pixels: np.ndarray, dtype: str = "u2", bits_stored: int = 12) -> None:
    """Put stored values in a dataset, with the elements that describe them."""
    kind = np.dtype(dtype)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = kind.itemsize * 8
    ds.BitsStored = min(bits_stored, ds.BitsAllocated)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(kind.kind == "i")
    data = pixels.astype(kind.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if kind.itemsize == 1 else "OW"


def save(ds: Dataset, file: Path, transfer_syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a dataset as a DICOM file in a transfer syntax and return the file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if transfer_syntax.is_compressed and not transfer_syntax.is_deflated:
        ds.compress(transfer_syntax, generate_instance_uid=False)
    elif transfer_syntax != ExplicitVRLittleEndian:
        if not transfer_syntax.is_little_endian:
            itemsize = ds.BitsAllocated // 8
            ds.PixelData = np.frombuffer(ds.PixelData, f"<u{itemsize}").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.save_as(file, enforce_file_format=True)
    return file


def add_overlay(ds: Dataset, *, bits_allocated: int = 1, bit: int = 0) -> None:
    """Put in a header of 8 rows and 6 columns what tells of an overlay, but for its data (PS3.3 C.9.2)."""
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000011, "US", 6)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", bits_allocated)
    ds.add_new(0x60000102, "US", bit)
