"""A phantom patient, made rather than downloaded: small, valid DICOM series to try things on.

The head of ellipsoids lies still while five series are taken of it. All that is written follows from the
constants below, so two calls write the same patient, UIDs included.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from imagedata_xr.files import output_directory, place_here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SERIES", "write_patient"]

PRIVATE_CREATOR: Final = "IMAGEDATA_XR SAMPLE"


class _Tissue(NamedTuple):
    """An ellipsoid and what it looks like: centre and radii [mm, LPS+], signal, T2 [ms], ADC [mm2/s], HU."""

    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    signal: float
    t2: float
    adc: float
    hu: float


_HEAD: Final = (  # painted in this order, each over the ones before
    _Tissue("scalp", (0, 0, 0), (76, 96, 88), 640, 55, 0.2e-3, -60),
    _Tissue("skull", (0, 0, 0), (71, 91, 83), 40, 8, 0.2e-3, 900),
    _Tissue("grey matter", (0, 0, 0), (65, 85, 77), 420, 95, 0.85e-3, 38),
    _Tissue("white matter", (-30, 2, 4), (27, 66, 55), 520, 75, 0.7e-3, 29),
    _Tissue("white matter", (30, 2, 4), (27, 66, 55), 520, 75, 0.7e-3, 29),
    _Tissue("ventricle", (-12, -8, 8), (8, 27, 15), 170, 600, 3.0e-3, 7),
    _Tissue("ventricle", (12, -8, 8), (8, 27, 15), 170, 600, 3.0e-3, 7),
    _Tissue("lesion", (36, 30, 10), (14, 16, 15), 330, 140, 0.45e-3, 47),
    _Tissue("necrosis", (37, 31, 10), (5, 6, 6), 230, 280, 2.2e-3, 16),
    _Tissue("sinus", (0, 78, 8), (5, 5, 42), 300, 60, 1.0e-3, 52),
    _Tissue("eye", (-28, -66, -24), (12, 12, 12), 180, 500, 2.8e-3, 10),
    _Tissue("eye", (28, -66, -24), (12, 12, 12), 180, 500, 2.8e-3, 10),
)
_AIR_HU: Final = -1000.0


@dataclass(frozen=True)
class _Series:
    """One series: its header, its grid, and for each volume the elements and the look of a tissue."""

    number: int
    description: str
    sop_class: UID
    study: str
    start: float  # [s] of the day
    duration: float  # [s] from one volume to the next
    volumes: tuple[Mapping[str, Any], ...]
    appearance: Callable[[_Tissue, int], float]
    shape: tuple[int, int, int] = (10, 96, 80)
    spacing: tuple[float, float, float] = (6.0, 2.25, 2.25)  # [mm] slice, row, col
    angles: tuple[float, float] = (14.0, -9.0)  # [degree] about the patient's left-right and head-feet axes
    noise: float = 12.0
    intercept: int = 0
    header: Mapping[str, Any] = field(default_factory=dict)


def _enhancement(tissue: _Tissue, time: float) -> float:
    """Return how much contrast agent multiplies the signal of a tissue `time` [s] after the first volume."""
    since = max(time - 4.0, 0.0)
    if tissue.name == "sinus":
        return 1 + 2.4 * (since / 4) * math.exp(1 - since / 4)
    if tissue.name == "lesion":
        return 1 + 1.6 * (1 - math.exp(-since / 6))
    return 1 + 0.05 * (1 - math.exp(-since / 4))


def _dynamic(number: int, start: float, step: float) -> _Series:
    return _Series(
        number=number,
        description=f"dynamic {number - 2}",
        sop_class=MRImageStorage,
        study="MR",
        start=start,
        duration=step,
        volumes=tuple(
            {
                "AcquisitionNumber": t + 1,
                "TemporalPositionIdentifier": t + 1,
                "NumberOfTemporalPositions": 6,
                "TemporalResolution": step * 1000,
            }
            for t in range(6)
        ),
        appearance=lambda tissue, t: tissue.signal * _enhancement(tissue, t * step),
        header={
            **_MR,
            "ProtocolName": "t1_gre_dynamic",
            "ScanningSequence": "GR",
            "SequenceVariant": "SP",
            "SequenceName": "fl2d1",
            "RepetitionTime": 28.0,
            "EchoTime": 2.46,
            "FlipAngle": 15.0,
            "EchoTrainLength": 1,
            "ContrastBolusAgent": "Phantom contrast",
            "ContrastBolusRoute": "IV",
        },
    )


_PATIENT_ID: Final = "PHANTOM-1"
_PATIENT: Final = {
    "SpecificCharacterSet": "ISO_IR 192",
    "AccessionNumber": "PH0001",
    "Manufacturer": "imagedata_xr",
    "InstitutionName": "Phantom Hospital",
    "ReferringPhysicianName": "",
    "StationName": "PHANTOM",
    "PerformingPhysicianName": "",
    "OperatorsName": "",
    "ManufacturerModelName": "Ellipsoids",
    "PatientName": "Phantom^Ellipsoid",
    "PatientID": _PATIENT_ID,
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "PatientAge": "056Y",
    "PatientSize": 1.75,
    "PatientWeight": 72.5,
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Computed phantom, no person",
    "BodyPartExamined": "HEAD",
    "DeviceSerialNumber": "0",
    "SoftwareVersions": "1",
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
}

_MR: Final = {
    "Modality": "MR",
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER", "M", "ND"],
    "StudyDescription": "MR head phantom",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "AngioFlag": "N",
    "NumberOfAverages": 1.0,
    "ImagingFrequency": 123.2,
    "ImagedNucleus": "1H",
    "EchoNumbers": 1,
    "MagneticFieldStrength": 3.0,
    "NumberOfPhaseEncodingSteps": 80,
    "PercentSampling": 100.0,
    "PercentPhaseFieldOfView": 83.3,
    "PixelBandwidth": 400.0,
    "ReceiveCoilName": "Head",
    "AcquisitionMatrix": [0, 96, 80, 0],
    "InPlanePhaseEncodingDirection": "ROW",
    "VariableFlipAngleFlag": "N",
    "SAR": 0.2,
    "WindowCenter": 400.0,
    "WindowWidth": 800.0,
}

_CT: Final = {
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "StudyDescription": "CT head phantom",
    "ProtocolName": "head",
    "ScanOptions": "AXIAL MODE",
    "KVP": 120.0,
    "DataCollectionDiameter": 250.0,
    "ReconstructionDiameter": 230.4,
    "DistanceSourceToDetector": 1040.0,
    "DistanceSourceToPatient": 570.0,
    "GantryDetectorTilt": 0.0,
    "TableHeight": 150.0,
    "RotationDirection": "CW",
    "ExposureTime": 1000,
    "XRayTubeCurrent": 200,
    "Exposure": 200,
    "FilterType": "HEAD",
    "GeneratorPower": 24,
    "FocalSpots": 1.2,
    "ConvolutionKernel": "STANDARD",
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.0,
    "RescaleType": "HU",
    "WindowCenter": 40.0,
    "WindowWidth": 160.0,
}

_PROCEDURE: Final = {
    "MR": ("816077007", "SCT", "Magnetic resonance imaging of brain"),
    "CT": ("303653007", "SCT", "Computed tomography of head"),
}

_ECHO_TIMES: Final = (4.6, 13.8, 23.0, 46.0)
_B_VALUES: Final = (0.0, 500.0, 1000.0)

_SERIES: Final = {
    "dynamic_1": _dynamic(3, start=10 * 3600 + 723.4, step=2.9875),
    "dynamic_2": _dynamic(4, start=10 * 3600 + 1541.78, step=2.99),
    "dwi": _Series(
        number=5,
        description="dwi trace",
        sop_class=MRImageStorage,
        study="MR",
        start=10 * 3600 + 1980.0,
        duration=8.1,
        volumes=tuple(
            {
                "AcquisitionNumber": i + 1,
                "DiffusionBValue": b,
                "DiffusionDirectionality": "ISOTROPIC" if b else "NONE",
            }
            for i, b in enumerate(_B_VALUES)
        ),
        appearance=lambda tissue, v: (
            1300 * np.exp(-70 / tissue.t2) * np.exp(-_B_VALUES[v] * tissue.adc) * (tissue.name != "skull")
        ),
        header={
            **_MR,
            "ProtocolName": "ep2d_diff",
            "ScanningSequence": "EP",
            "SequenceVariant": "SK",
            "SequenceName": "ep_b",
            "RepetitionTime": 8100.0,
            "EchoTime": 70.0,
            "FlipAngle": 90.0,
            "EchoTrainLength": 48,
        },
    ),
    "multi_echo": _Series(
        number=6,
        description="multi echo",
        sop_class=MRImageStorage,
        study="MR",
        start=10 * 3600 + 2310.5,
        duration=0.0,
        volumes=tuple(
            {"AcquisitionNumber": 1, "EchoTime": te, "EchoNumbers": i + 1} for i, te in enumerate(_ECHO_TIMES)
        ),
        appearance=lambda tissue, v: 1.6 * tissue.signal * np.exp(-_ECHO_TIMES[v] / tissue.t2),
        header={
            **_MR,
            "ProtocolName": "se_multi_echo",
            "ScanningSequence": "SE",
            "SequenceVariant": "NONE",
            "SequenceName": "se2d4",
            "RepetitionTime": 2400.0,
            "FlipAngle": 90.0,
            "EchoTrainLength": 4,
        },
    ),
    "ct": _Series(
        number=2,
        description="head 5 mm",
        sop_class=CTImageStorage,
        study="CT",
        start=8 * 3600 + 1205.25,
        duration=0.0,
        volumes=({"AcquisitionNumber": 1},),
        appearance=lambda tissue, _: tissue.hu,
        shape=(12, 96, 96),
        spacing=(5.0, 2.4, 2.4),
        angles=(18.0, 6.0),
        noise=6.0,
        intercept=-1024,
        header=_CT,
    ),
}

SERIES: Final = tuple(_SERIES)
"""Names of the series, each a folder of what `write_patient` writes."""


def write_patient(path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a phantom patient and return its folder, with one folder in it for each of `SERIES`.

    ``dynamic_1`` and ``dynamic_2`` are two runs of one protocol, 6 volumes 2.9875 s and 2.99 s apart, in
    which a lesion and a vein enhance; ``dwi`` has the b-values 0, 500 and 1000 s/mm2; ``multi_echo`` the
    echo times 4.6, 13.8, 23 and 46 ms; ``ct`` is a stack in HU, of a study of its own. All are oblique.
    Every call writes the same 202 files, 4 MB.

    Parameters
    ----------
    path : path
        Folder to make.
    overwrite : bool
        Replace a phantom patient that is there, of an earlier call.

    Raises
    ------
    FileExistsError
        When `path` is there and not an empty folder; with `overwrite`, when something else than this patient is in it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = write_patient(Path(tempfile.mkdtemp()) / "phantom")
    >>> sorted(series.name for series in folder.iterdir())
    ['ct', 'dwi', 'dynamic_1', 'dynamic_2', 'multi_echo']
    """
    folder = place_here(path)
    with output_directory(folder, overwrite=overwrite, is_ours=_is_patient) as unfinished:
        for name, series in _SERIES.items():
            _write_series(unfinished / name, name, series)
    return folder


def _is_patient(folder: Path) -> bool:
    """Whether a folder holds the phantom patient and nothing else."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    files = [file for file in folder.rglob("*") if file.is_file()]
    count = sum(series.shape[0] * len(series.volumes) for series in _SERIES.values())
    if {entry.name for entry in folder.iterdir()} != set(SERIES) or len(files) != count:
        return False
    try:
        return {dcmread(file, specific_tags=["PatientID"]).get("PatientID") for file in files} == {_PATIENT_ID}
    except InvalidDicomError:
        return False


def _write_series(folder: Path, name: str, series: _Series) -> None:
    n_slices = series.shape[0]
    # Frames are acquired every other slice first, as scanners do, and numbered from the top of the head down.
    turn = {z: i for i, z in enumerate([*range(0, n_slices, 2), *range(1, n_slices, 2)])}
    affine = _affine(series)
    weights = _tissue_weights(_patient_points(affine, series.shape))
    noise = np.random.default_rng(series.number)
    ds = _series_header(name, series, affine)
    for v, elements in enumerate(series.volumes):
        stored = _stored_values(series, weights, v, noise)
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        for z in range(n_slices):
            instance = v * n_slices + (n_slices - z)
            seconds = series.start + v * series.duration + turn[z] * max(series.duration, 2.0) / n_slices
            _place(ds, affine, z)
            ds.InstanceNumber = instance
            ds.SOPInstanceUID = _uid(name, instance)
            ds.AcquisitionTime = _clock(seconds)
            ds.ContentTime = _clock(seconds + 0.5)
            ds.private_block(0x0029, PRIVATE_CREATOR).add_new(0x03, "IS", turn[z])
            ds.PixelData = stored[z].tobytes()
            ds.SmallestImagePixelValue = int(stored[z].min())
            ds.LargestImagePixelValue = int(stored[z].max())
            digest = hashlib.sha256(f"{name}/{instance}".encode()).hexdigest().upper()
            _save(ds, folder / f"DIR{int(digest[0], 16) % 3}" / digest[1:9])


def _affine(series: _Series) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix (slice, row, col) -> mm [LPS+] of a stack with the head in its middle."""
    tilt, turn = np.deg2rad(series.angles)
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    right, down, normal = (about_z @ about_x).T
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([normal, down, right]) * series.spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.array(series.shape) - 1) / 2 + (0, 0, 8)
    return affine


def _patient_points(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return where each voxel is, (slice, row, col, 3) [mm, LPS+]."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def _tissue_weights(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of each tissue is in each voxel, (tissue, slice, row, col); what is left is air."""
    weights = np.zeros((len(_HEAD), *points.shape[:3]))
    for i, tissue in enumerate(_HEAD):
        radius = np.linalg.norm((points - tissue.centre) / tissue.radii, axis=-1)
        inside = np.clip(0.5 - (radius - 1) * min(tissue.radii) / 2.0, 0, 1)  # an edge 2 mm wide
        weights[:i] *= 1 - inside
        weights[i] = inside
    return weights


def _stored_values(
    series: _Series, weights: NDArray[np.float64], volume: int, noise: np.random.Generator
) -> NDArray[np.uint16]:
    air = _AIR_HU if series.sop_class == CTImageStorage else 0.0
    looks = np.array([series.appearance(tissue, volume) for tissue in _HEAD])
    values = np.tensordot(looks, weights, axes=1) + air * (1 - weights.sum(axis=0))
    values += series.noise * noise.standard_normal(values.shape)
    if series.sop_class == MRImageStorage:
        values = np.hypot(values, series.noise * noise.standard_normal(values.shape))  # magnitude images
    stored: NDArray[np.uint16] = np.clip(np.rint(values) - series.intercept, 0, 4095).astype("<u2")
    return stored


def _series_header(name: str, series: _Series, affine: NDArray[np.float64]) -> Dataset:
    """Return the elements that all frames of a series share."""
    slices, rows, cols = series.shape
    step, row_spacing, col_spacing = series.spacing
    ds = Dataset()
    for keyword, value in {**_PATIENT, **series.header}.items():
        setattr(ds, keyword, value)
    ds.SOPClassUID = series.sop_class
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260304"
    ds.StudyTime = _clock((10 if series.study == "MR" else 8) * 3600)
    ds.SeriesTime = _clock(series.start - 4)
    ds.SeriesDescription = series.description
    ds.SeriesNumber = series.number
    ds.StudyID = series.study
    ds.StudyInstanceUID = _uid(series.study)
    ds.SeriesInstanceUID = _uid(name)
    ds.FrameOfReferenceUID = _uid(series.study, "frame of reference")
    ds.ImagesInAcquisition = slices
    ds.Rows, ds.Columns = rows, cols
    ds.PixelSpacing = [row_spacing, col_spacing]
    ds.SliceThickness = step - 1 if series.sop_class == MRImageStorage else step
    if series.sop_class == MRImageStorage:
        ds.SpacingBetweenSlices = step
    ds.ImageOrientationPatient = [
        format_number_as_ds(x) for x in (*(affine[:3, 2] / col_spacing), *(affine[:3, 1] / row_spacing))
    ]
    ds.AnatomicRegionSequence = [_code("69536005", "SCT", "Head")]
    ds.ProcedureCodeSequence = [_code(*_PROCEDURE[series.study])]
    request = Dataset()
    request.RequestedProcedureID = request.ScheduledProcedureStepID = series.study
    request.RequestedProcedureDescription = request.ScheduledProcedureStepDescription = ds.StudyDescription
    ds.RequestAttributesSequence = [request]
    block = ds.private_block(0x0029, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", f"sample {name}")
    block.add_new(0x02, "OB", hashlib.sha512(name.encode()).digest() * 8)
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _place(ds: Dataset, affine: NDArray[np.float64], z: int) -> None:
    position = affine[:3] @ (z, 0, 0, 1)
    normal = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    ds.ImagePositionPatient = [format_number_as_ds(x) for x in position]
    ds.SliceLocation = format_number_as_ds(round(float(position @ normal), 4))


def _clock(seconds: float) -> str:
    """Return a time of day [s] as a DICOM TM value."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{microseconds:06d}"


def _uid(*names: object) -> UID:
    """Return the UID that belongs to these names, derived from a UUID (DICOM PS3.5 B.2)."""
    name = "/".join(("imagedata_xr.sample", *map(str, names)))
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, name).int}")


def _save(ds: Dataset, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=True)
