"""What the images of a PET tell of the series that they are in: numbers, and times that count from its start."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from imagedata_xr.dates import parse_datetime
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError
from imagedata_xr.headers import are_mixed, is_mean
from imagedata_xr.names import PET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import Dataset

__all__ = [
    "check_not_mixed",
    "count_from_one_start",
    "image_index",
    "missing_of_image",
    "number_in_series",
    "orient_patient",
]

_LARGEST: Final = 0xFFFF
_FROM_START: Final = "FrameReferenceTime"
_OF_ONE_FRAME: Final = ("ActualFrameDuration", _FROM_START, "DecayFactor")
_START: Final = ("SeriesDate", "SeriesTime")
_ORIENTATION: Final = ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence")
_RECUMBENT: Final = ("102538003", "recumbent")
_LIES: Final = {
    "S": ("40199007", "supine"),
    "P": ("1240000", "prone"),
    "DR": ("102535000", "right lateral decubitus"),
    "DL": ("102536004", "left lateral decubitus"),
}
_ENTERS: Final = {"HF": ("102540008", "headfirst"), "FF": ("102541007", "feet-first")}
"""SNOMED CT codes of PS3.16 (context groups 19 to 21), by the parts of PatientPosition (PS3.3 C.7.3.1.1.2)."""


def number_in_series(ds: Dataset, size: Mapping[str, int], place: Mapping[str, int]) -> None:
    """Say which image of a PET series one is (PS3.3 C.8.9.1, C.8.9.4.1.9): slices of the first volume come first.

    Frames that are missing are counted, too: the number tells slice and volume. Of more images than it can count none
    has one, with a warning.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    size : mapping
        How many slices and volumes the image has, by tag dim and, as the last, ``slice``.
    place : mapping
        Which of them the frame is of, from 0.
    """
    ds.NumberOfSlices = size["slice"]
    number = image_index(size, place)
    if number is not None:
        ds.ImageIndex = number
    else:
        ds.pop("ImageIndex", None)  # that of the source is of another image of this series
        if not any(place.values()):
            warnings.warn(
                f"the image has places for {np.prod([*size.values()])} frames, and ImageIndex (PS3.3 C.8.9.4), which a "
                f"PET has to have, counts to {_LARGEST}: files are written without it, and may be refused. Write fewer "
                "volumes a series to have it",
                stacklevel=2,
            )
    if [*(ds.get("SeriesType") or ())][:1] == ["DYNAMIC"]:
        ds.NumberOfTimeSlices = size.get("time", 1)


def image_index(size: Mapping[str, int], place: Mapping[str, int]) -> int | None:
    """Return the number of an image, see `number_in_series`; None where one is larger than the element can be."""
    if np.prod([*size.values()]) > _LARGEST:
        return None
    return int(np.ravel_multi_index([place[dim] for dim in size], [*size.values()])) + 1


def orient_patient(ds: Dataset, *, is_set: bool = False) -> None:
    """Say how the patient lay (PS3.3 C.8.4.6) as PatientPosition does; the sequences are empty where it does not.

    Attributes and coordinates hold no sequences. What the header has of them stays, unless the user has set
    PatientPosition. That is left out where they say the same: beside them it shall not be present (C.7.3.1).

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    is_set : bool
        Whether the user has set PatientPosition.
    """
    position = str(ds.get("PatientPosition") or "")
    lies, enters = _LIES.get(position[2:]), _ENTERS.get(position[:2])
    is_known = lies is not None and enters is not None
    if is_set:
        for name in _ORIENTATION:
            ds.pop(name, None)
    is_told = not any(name in ds for name in _ORIENTATION)
    if "PatientOrientationCodeSequence" not in ds:
        ds.PatientOrientationCodeSequence = [_coded(_RECUMBENT)] if is_known else []
        for item in ds.PatientOrientationCodeSequence:
            item.PatientOrientationModifierCodeSequence = [_coded(lies)] if lies is not None else []
    if "PatientGantryRelationshipCodeSequence" not in ds:
        ds.PatientGantryRelationshipCodeSequence = [_coded(enters)] if is_known and enters is not None else []
    if is_told and (is_known or not position):
        ds.pop("PatientPosition", None)


def _coded(code: tuple[str, str]) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = "SCT"
    return item


def missing_of_image(ds: Dataset) -> list[str]:
    """Return what an image of a PET has to tell of itself (PS3.3 C.8.9.4), and does not.

    Neither can be worked out: of a mean over time the one depends on how long frames were, the other differs from voxel
    to voxel.
    """
    names = [_FROM_START]
    if ds.get("DecayCorrection") not in (None, "", "NONE"):
        names.append("DecayFactor")
    return [name for name in names if ds.get(name) in (None, "")]


def check_not_mixed(image: xr.DataArray) -> None:
    """Raise where frames of a PET were put together along time, and tell what is of one frame.

    `coarsen` and `interp` average coordinates as they do values: a frame of two would be as long as one. A user who has
    set what is right drops InstanceNumber, by which that is seen (`are_mixed`).

    Raises
    ------
    MissingHeaderError
        If they tell duration, reference time or decay factor.
    """
    if image.attrs.get("SOPClassUID") != PET or not are_mixed(image):
        return
    duration = image.coords.variables.get(_OF_ONE_FRAME[0])
    # Slices may be what was put together: durations along time are whole then, or there are as many volumes as before.
    count = image.attrs.get("NumberOfTimeSlices")
    is_of_time = is_mean(duration) if duration is not None else count not in (None, image.sizes.get("time", 1))
    names = [name for name in _OF_ONE_FRAME if name in image.coords or name in image.attrs]
    if names and is_of_time:
        raise MissingHeaderError(
            f"frames of this PET were put together along time, as coarsen and interp do, and {', '.join(names)} are "
            "those of one frame or a mean of them (PS3.3 C.8.9.4): set what is right, such as "
            f"image.drop_vars({names[0]!r}, errors='ignore').assign_attrs({names[0]}=...), or with assign_coords where "
            "volumes differ, and drop the numbers of the frames then, image.drop_vars('InstanceNumber')"
        )


def count_from_one_start(image: xr.DataArray, one: xr.DataArray) -> xr.DataArray:
    """Return an image of several PET series whose FrameReferenceTime counts from the start of the one it is written as.

    Parameters
    ----------
    image : DataArray
        Its SeriesDate and SeriesTime are those of each series.
    one : DataArray
        The same image, with those of the one.

    Raises
    ------
    ConflictingOriginError
        If values were corrected for decay to the start of each series, and nobody says what they are corrected to.
    """
    if one.attrs.get("SOPClassUID") != PET or not any(_varies(image, name) for name in _START):
        return one
    starts = xr.broadcast(*(xr.DataArray(_column(image, name)) for name in _START))
    known = parse_datetime("".join(str(one.attrs.get(name, "")) for name in _START))
    moments = [
        parse_datetime(f"{day}{time}") for day, time in zip(*(s.values.ravel().tolist() for s in starts), strict=True)
    ]
    if known is None or None in moments:
        return one
    after = [0.0 if moment is None else (moment - known).total_seconds() * 1e3 for moment in moments]
    if not any(after):
        return one
    if one.attrs.get("DecayCorrection") == "START" and "SeriesTime" not in image.attrs:
        times = sorted(set(starts[1].values.ravel().tolist()))
        raise ConflictingOriginError(
            f"the image is of several PET series, each corrected for decay to its own start (DecayCorrection 'START', "
            f"SeriesTime {', '.join(map(str, times[:4]))}), which no one series is: correct values to one moment, and "
            f"say so, such as image.assign_attrs(SeriesTime={times[0]!r}), or write each series by itself"
        )
    if _FROM_START not in one.coords and _FROM_START not in one.attrs:
        return one
    before, late = xr.DataArray(_column(one, _FROM_START)), starts[0].copy(data=np.reshape(after, starts[0].shape))
    return one.assign_coords({_FROM_START: (before.astype(float) + late).variable})


def _varies(image: xr.DataArray, name: str) -> bool:
    return name in image.coords and bool(image.coords[name].ndim)


def _column(image: xr.DataArray, name: str) -> xr.Variable:
    """Return an element of all frames."""
    return image.coords[name].variable if name in image.coords else xr.Variable((), image.attrs.get(name, ""))
