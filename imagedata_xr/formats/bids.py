"""What a NIfTI file has no room for: a BIDS sidecar of its image, and FSL's tables of diffusion gradients.

The names and units of the sidecar are those of BIDS (bids-specification.readthedocs.io, MRI and common metadata) and of
dcm2niix: times in seconds. What BIDS has no words for, tag dims and their labels, is in one object of our own.
Nothing in it names a patient.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.formats.labels import Labels, labels_in, labels_of
from imagedata_xr.geometry import format_numbers, is_even
from imagedata_xr.origins import OF_UNITS
from imagedata_xr.times import are_numbers_of_volumes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "KEY",
    "TOLD",
    "attrs_of",
    "gradients_from_fsl",
    "gradients_to_fsl",
    "presence_in",
    "presence_of",
    "read_sidecar",
    "read_tables",
    "sidecar_of",
    "tag_dims_of",
]

KEY: Final = "ImagedataXr"
"""Name of the object of our own in a sidecar."""

_SECONDS: Final = ("EchoTime", "RepetitionTime", "InversionTime", "TriggerTime")
"""Elements that DICOM has in ms and BIDS in s."""

_SAME: Final = (
    *("Modality", "Manufacturer", "PatientPosition", "ProtocolName", "SeriesDescription"),
    *("SeriesNumber", "AcquisitionNumber", "MagneticFieldStrength", "ImagingFrequency", "FlipAngle", "EchoTrainLength"),
    *("SequenceName", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "ImageType"),
    *("SoftwareVersions", "ImagedNucleus", "PixelBandwidth", "NumberOfAverages", "SAR", "SliceThickness"),
    *("SpacingBetweenSlices", "PercentPhaseFieldOfView", "PercentSampling", "ReceiveCoilName", "KVP", "Units"),
    *("ConvolutionKernel", "ContrastBolusAgent", "Radiopharmaceutical", "PhotometricInterpretation"),
)
"""Elements that have one name and unit in both."""

_RENAMED: Final = {"ManufacturerModelName": "ManufacturersModelName", "BodyPartExamined": "BodyPart"}
_EXCITATION: Final = "RepetitionTimeExcitation"
"""BIDS' name of DICOM's RepetitionTime beside the times of volumes."""
_OF_LABELS: Final = {"te": "EchoTime", "fa": "FlipAngle"}
"""Elements that are told by the label of a volume, in DICOM's units."""
TOLD: Final = frozenset((*_SAME, *_SECONDS, *_RENAMED, "EffectiveEchoTime", "InPlanePhaseEncodingDirection"))
"""Attributes that a sidecar tells."""
_LONGEST: Final = 16 << 20
"""Largest sidecar or table that is read [bytes]."""


def sidecar_of(da: xr.DataArray) -> dict[str, Any]:
    """Return what a sidecar says of an image, ready for JSON.

    Parameters
    ----------
    da : DataArray
        Image.
    """
    attrs = da.attrs | _told_by_coordinates(da)
    if "SpacingBetweenSlices" in attrs and "slice" in da.dims and da.sizes["slice"] > 1:
        gap = _gap(da)
        attrs["SpacingBetweenSlices"] = "" if gap is None else gap  # attributes tell that of the source
    if attrs.get("ImageType") and not {"TransferSyntaxUID", "source_format"} & da.encoding.keys():
        kind = attrs["ImageType"]
        attrs["ImageType"] = ["DERIVED", *((kind if isinstance(kind, list) else [kind])[1:] or ["SECONDARY"])]
    unitless: tuple[str, ...] = ()
    if da.dtype == bool:
        # It is stored as numbers, of which nothing tells that they were a mask, whose True is white.
        attrs["PhotometricInterpretation"], unitless = "MONOCHROME2", OF_UNITS
    told: dict[str, Any] = {}
    for keyword in (*_SAME, *_SECONDS, *_RENAMED):
        value = "" if keyword in unitless else attrs.get(keyword, "")
        if value is None or (isinstance(value, str) and not value):
            continue
        if keyword in _SECONDS and isinstance(value, int | float):
            value = round(value / 1000, 9)
        told[_RENAMED.get(keyword, keyword)] = value
    if "EchoTime" not in told and isinstance(effective := attrs.get("EffectiveEchoTime"), int | float):
        told["EchoTime"] = round(effective / 1000, 9)  # of enhanced files
    if "ImageOrientationPatient" in da.attrs:
        told["ImageOrientationPatientDICOM"] = [float(v) for v in da.attrs["ImageOrientationPatient"]]
    if isinstance(encoding := da.attrs.get("InPlanePhaseEncodingDirection"), str):
        told["InPlanePhaseEncodingDirectionDICOM"] = encoding
    dims = [str(dim) for dim in da.dims if dim not in ("slice", "row", "col", "rgb")]
    if not dims:
        return told
    for dim in dims:
        labels = da.coords[dim].values if dim in da.coords else np.arange(da.sizes[dim])
        if dim == "time" and labels.size > 1 and not are_numbers_of_volumes(da.coords.get(dim)):
            told["VolumeTiming"] = [float(v) for v in labels]
            if "RepetitionTime" in told:
                # To BIDS that is the time from volume to volume, which VolumeTiming tells.
                told[_EXCITATION] = told.pop("RepetitionTime")
        elif dim == "te":
            told["EchoTime"] = [round(float(v) / 1000, 9) for v in labels]
        elif dim == "fa":
            told["FlipAngle"] = [float(v) for v in labels]
    told[KEY] = labels_of(da)
    return told


def _told_by_coordinates(da: xr.DataArray) -> dict[str, Any]:
    """Return the elements that scalar coordinates tell: of the volume that was chosen, or what is right for all."""
    found: dict[str, Any] = {}
    for name, element in {**{name: name for name in TOLD}, **_OF_LABELS}.items():
        if name not in da.coords or da.coords[name].ndim:
            continue
        value = da.coords[name].item()
        if value != value:
            continue
        found[element] = value.split("\\") if isinstance(value, str) and "\\" in value else value
    return found


def _gap(da: xr.DataArray) -> float | None:
    """Return the distance of slices [mm], None where they have no place, or are not even."""
    positions = da.coords["slice"].values if "slice" in da.coords else np.zeros(0)
    if positions.ndim != 1 or not positions.size or not is_even(positions):
        return None
    return round(float(abs(positions[-1] - positions[0])) / (positions.size - 1), 6)


def presence_of(image: xr.DataArray) -> dict[str, Any]:
    """Return which frames are there, as 1 and 0, ready for JSON; {} where all are.

    Parameters
    ----------
    image : DataArray
        Image with slices as they are stored.
    """
    if "present" not in image.coords:
        return {}
    present = image.coords["present"]
    return {"dims": [str(dim) for dim in present.dims], "values": present.values.astype(int).ravel().tolist()}


def presence_in(told: dict[str, Any], sizes: dict[str, int]) -> xr.Variable | None:
    """Return which frames are there, as `presence_of` told, if it is of an image of these sizes; else None."""
    own = told[KEY].get("present") if isinstance(told.get(KEY), dict) else None
    dims, values = (own.get("dims"), own.get("values")) if isinstance(own, dict) else (None, None)
    if not isinstance(dims, list) or not isinstance(values, list) or not {*map(str, dims)} <= sizes.keys():
        return None
    shape = [sizes[str(dim)] for dim in dims]
    if len(values) != np.prod(shape) or not all(v in (0, 1) for v in values):
        return None
    return xr.Variable([str(dim) for dim in dims], np.asarray(values, bool).reshape(shape))


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return what a sidecar says, {} where there is none.

    Raises
    ------
    UnreadableFileError
        If it is no JSON object, or has an orientation that is none.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LONGEST:
            msg = f"{path} has {path.stat().st_size} bytes; a sidecar has at most {_LONGEST}"
            raise UnreadableFileError(msg)
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as err:
        msg = f"{path} is no JSON document; mend it or move it away"
        raise UnreadableFileError(msg) from err
    if not isinstance(told, dict):
        msg = f"{path} holds a {type(told).__name__}; a sidecar is an object"
        raise UnreadableFileError(msg)
    cosines = told.get("ImageOrientationPatientDICOM", [0.0] * 6)
    if not (isinstance(cosines, list) and len(cosines) == 6 and all(isinstance(v, int | float) for v in cosines)):
        msg = f"{path}: ImageOrientationPatientDICOM is {str(cosines)[:80]}; six numbers are wanted. Mend or remove it"
        raise UnreadableFileError(msg)
    return told


def attrs_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return the DICOM elements that a sidecar tells, in DICOM's units."""
    back = {bids: dicom for dicom, bids in _RENAMED.items()}
    attrs: dict[str, Any] = {}
    for name, value in told.items():
        dicom = back.get(name, name)
        if dicom not in _SAME and dicom not in _SECONDS and dicom not in _RENAMED:
            continue
        is_list = isinstance(value, list)
        if is_list and dicom in (*_SECONDS, "FlipAngle"):
            continue  # along a dim
        if not isinstance(value, str | int | float) and not (
            is_list and all(isinstance(v, str | float) for v in value)
        ):
            continue
        if dicom in _SECONDS and isinstance(value, int | float):
            value = round(value * 1000, 6)
        if isinstance(value, str) and "\\" in value:
            value = value.split("\\")  # as dcm2niix writes several values of DICOM
        attrs[dicom] = value
    if isinstance(excitation := told.get(_EXCITATION), int | float):
        attrs["RepetitionTime"] = round(excitation * 1000, 6)
    if isinstance(way := told.get("InPlanePhaseEncodingDirectionDICOM"), str):
        attrs["InPlanePhaseEncodingDirection"] = way
    return attrs


def tag_dims_of(told: dict[str, Any], sizes: list[int]) -> tuple[list[str], Labels]:
    """Return the tag dims that a sidecar tells, if they are of these sizes, and their coordinates.

    Parameters
    ----------
    told : dict
        The sidecar.
    sizes : list of int
        Sizes of the dims of the file beyond three, the outermost first.

    Returns
    -------
    dims : list of str
        Empty where the sidecar does not tell them.
    coords : dict
        Name to dim, values and attributes.
    """
    if isinstance(told.get(KEY), dict):
        return labels_in(told[KEY], sizes)
    if len(sizes) != 1:
        return [], {}
    for name, dim, scale, units in (
        ("VolumeTiming", "time", 1.0, "s"),
        ("FrameTimesStart", "time", 1.0, "s"),
        ("EchoTime", "te", 1000.0, "ms"),
        ("FlipAngle", "fa", 1.0, "degree"),
    ):
        values = told.get(name)
        if isinstance(values, list) and len(values) == sizes[0] and all(isinstance(v, int | float) for v in values):
            return [dim], {dim: (dim, [round(v * scale, 9) for v in values], {"units": units})}
    return [], {}


def read_tables(stem: Path, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return b-values, shape (n,), and FSL's vectors, shape (n, 3), of the files beside an image; None without them.

    Parameters
    ----------
    stem : Path
        The image without its suffix.
    count : int
        Number of volumes.

    Raises
    ------
    UnreadableFileError
        If the tables have not one entry a volume.
    """
    values_file, vectors_file = stem.with_name(f"{stem.name}.bval"), stem.with_name(f"{stem.name}.bvec")
    if not values_file.is_file():
        return None
    values = _table(values_file).ravel()
    if values.size != count:
        msg = f"{values_file} has {values.size} b-values, the image {count} volumes"
        raise UnreadableFileError(msg)
    if not vectors_file.is_file():
        return values, np.full((count, 3), np.nan)
    vectors = _table(vectors_file)
    if vectors.shape == (count, 3) and count != 3:
        vectors = vectors.T  # one line a volume, as some tools write
    if vectors.shape != (3, count):
        msg = f"{vectors_file} has {vectors.shape[0]} lines of {vectors.shape[1]} numbers; 3 of {count} are wanted"
        raise UnreadableFileError(msg)
    return values, vectors.T


def _table(path: Path) -> NDArray[np.float64]:
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError
        rows = [[float(word) for word in line.replace(",", " ").split()] for line in path.read_text().splitlines()]
        return np.asarray([row for row in rows if row], float).reshape(sum(map(bool, rows)), -1)
    except ValueError as err:
        msg = f"{path} is no table of numbers"
        raise UnreadableFileError(msg) from err


def gradients_from_fsl(vectors: ArrayLike, affine_ras: ArrayLike) -> NDArray[np.float64]:
    """Return gradient directions in the patient (LPS+) of FSL's vectors, which are along the voxel axes of a file.

    FSL takes x reversed where the affine has a positive determinant
    (fsl.fmrib.ox.ac.uk/fsl/docs, dtifit: "What conventions do the bvecs use?"). Directions of no length are NaN.

    Parameters
    ----------
    vectors : array_like, shape (n, 3)
        The vectors.
    affine_ras : array_like, shape (4, 4)
        Of the file: from (i, j, k) to RAS+ [mm].
    """
    axes = _axes(affine_ras)
    turned = np.array(vectors, float)
    if np.linalg.det(axes) > 0:
        turned[:, 0] *= -1
    patient = turned @ axes.T * (-1, -1, 1)
    length = np.linalg.norm(patient, axis=1, keepdims=True)
    found: NDArray[np.float64] = np.where(length > 1e-6, patient / np.where(length > 1e-6, length, 1), np.nan)
    return found


def gradients_to_fsl(directions: ArrayLike, affine_ras: ArrayLike) -> NDArray[np.float64]:
    """Return FSL's vectors, shape (n, 3), of gradient directions in the patient (LPS+); 0 where there is none."""
    axes = _axes(affine_ras)
    vectors = np.nan_to_num(np.asarray(directions, float)) * (-1, -1, 1) @ axes
    if np.linalg.det(axes) > 0:
        vectors[:, 0] *= -1
    found: NDArray[np.float64] = vectors + 0.0
    return found


def _axes(affine: ArrayLike) -> NDArray[np.float64]:
    """Return the nearest orthonormal directions (columns) of the axes of an affine."""
    matrix = np.asarray(affine, float)[:3, :3]
    u, sizes, v = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0))
    if sizes.min() < 1e-6:
        msg = f"the affine is singular: {format_numbers(matrix.ravel())}"
        raise ValueError(msg)
    found: NDArray[np.float64] = u @ v
    return found
