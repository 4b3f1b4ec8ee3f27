"""Whose image it is, and which files it was made from."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.dicom.emission import count_from_one_start
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError, UnreadableFileError
from imagedata_xr.headers import source_dataset
from imagedata_xr.origins import names_apart, origins, pixel_distance, told_values
from imagedata_xr.streams import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr

__all__ = [
    "OF_SERIES",
    "check_not_a_source",
    "derived_number",
    "identity",
    "of_one_series",
    "reachable",
    "several_series",
    "warn_of_other_distances",
]

_IDENTITY: Final = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
OF_SERIES: Final = (  # PS3.3 C.7.3.1
    *("Modality", "SeriesNumber", "Laterality", "SeriesDate", "SeriesTime", "PerformingPhysicianName", "ProtocolName"),
    *("SeriesDescription", "OperatorsName", "BodyPartExamined", "PatientPosition"),
    *("SmallestPixelValueInSeries", "LargestPixelValueInSeries", "PerformedProcedureStepID"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "PerformedProcedureStepEndDate"),
    *("PerformedProcedureStepEndTime", "PerformedProcedureStepDescription"),
)
_DERIVED_SERIES: Final = 1000
"""What is added to the SeriesNumber of the source, to give that of a derived series."""
_LARGEST: Final = 2**31 - 1
"""The largest number that an integer string may tell (PS3.5 6.2)."""


def derived_number(number: int) -> int:
    """Return the SeriesNumber of a series derived from one of this number; the same where there is none so large."""
    return number + _DERIVED_SERIES if number + _DERIVED_SERIES <= _LARGEST else number


def check_not_a_source(target: Path, images: Iterable[xr.DataArray]) -> None:
    """Raise FileExistsError if images are read from the directory that is to be replaced."""
    real = os.path.realpath(target)
    for image in images:
        if "source" not in image.coords:
            continue
        folders = {Path(str(file)).parent for file in np.unique(image.coords["source"].values)}
        if any(os.path.realpath(folder) == real for folder in folders):
            raise FileExistsError(f"{target} is where the image is read from: write it to another directory")


def identity(whose: xr.DataArray, *, is_template: bool) -> dict[str, str]:
    """Return PatientID, StudyInstanceUID and FrameOfReferenceUID (if there is one) of the image to write.

    Attributes are no evidence of these: xarray brings them back from a third operand. Origins are. PatientName is
    among them where it was dropped because series of one patient spell it in several ways.

    Parameters
    ----------
    whose : DataArray
        The image, or the template.
    is_template : bool
        Whether it was given to say whose image the result is; then its attributes win.

    Raises
    ------
    ConflictingOriginError
        If the image was made of several, or its attributes name another.
    MissingHeaderError
        If nothing says whose image it is.
    """
    advice = "give template=, the image whose patient, study and frame of reference the result is to have"
    # An image of no known series at all, such as a mask of bare numbers, says nothing against the others.
    known = [origin for origin in origins(whose) if any(origin)]
    found = {}
    for name in _IDENTITY:
        values = sorted({getattr(origin, name) for origin in known})
        told = str(whose.attrs[name]) if name in whose.attrs else None
        if is_template and told is not None:
            values = [told]
        if len(values) > 1:
            raise ConflictingOriginError(f"the image was made of series with {told_values(name, values)}: {advice}")
        if values and told is not None and told != values[0]:
            raise ConflictingOriginError(
                f"the attribute {name} is not that of the series that the image was made of: "
                f"{told_values(name, [told, values[0]])}. Remove the attribute, or give template=, an image with the "
                "attributes that are to be written (this one, if they are right; 'phantom' for those of nobody)"
            )
        found[name] = values[0] if values else told or ""
    names = {origin.PatientName for origin in known} - {""}
    # The spelling that says most.
    persons = names_apart(sorted(names, key=lambda name: (-len(name.replace("^", "").replace(" ", "")), name)))
    apart = {
        name: sorted({getattr(o, name) for o in known} - {""}) for name in ("PatientBirthDate", "IssuerOfPatientID")
    }
    if not found["PatientID"]:
        apart["PatientName"] = persons
    for name, values in apart.items():
        if len(values) > 1 and not is_template:
            raise ConflictingOriginError(f"the image was made of series with {told_values(name, values)}: {advice}")
    is_told = "PatientName" in whose.attrs or ("PatientName" in whose.coords and not whose.coords["PatientName"].ndim)
    if len(names) > 1 and not is_told:
        if len(persons) > 1:
            raise ConflictingOriginError(
                f"the image was made of series with {told_values('PatientName', persons)} and one PatientID: set the "
                f"attribute PatientName to the one that is to be written, or {advice}"
            )
        if "PatientName" not in whose.coords:  # there each frame has its own spelling
            found["PatientName"] = next(iter(persons), "")
    if not found["StudyInstanceUID"] or ("PatientID" not in whose.attrs and not found["PatientID"]):
        lacking = "StudyInstanceUID"
        if found["StudyInstanceUID"]:
            lacking, advice = "PatientID", f"say that it has none, image.assign_attrs(PatientID=''), or {advice}"
        raise MissingHeaderError(f"the image has no {lacking}, so nothing says whose it is: {advice}")
    return {name: value for name, value in found.items() if value or name == "PatientID"}


def reachable(image: xr.DataArray) -> bool:
    """Return whether each frame names the one file that it came from, and this is there.

    Raises
    ------
    UnreadableFileError
        If some of the files are there and others are not: no series is to have headers of two kinds.
    """
    if "source" not in image.coords or several_series(image):
        return False
    if "source_frame" in image.coords:
        # What is written are files of one image each; functional groups of many frames have no place in them.
        return False
    if "SOPInstanceUID" not in image.coords and "SOPInstanceUID" not in image.attrs:
        return False
    named = [str(file) for file in np.unique(image.coords["source"].values)]
    if not all(named) and "present" not in image.coords:
        return False  # frames that were missing, and filled
    files = [file for file in named if file]
    gone = [file for file in files if not is_file(file)]
    if not gone:
        return bool(files) and not _is_of_many(image)
    if len(gone) < len(files):
        raise UnreadableFileError(
            f"{len(gone)} of {len(files)} source files are gone, the first is {gone[0]}: put them back, or write "
            "from attributes and coordinates alone, image.drop_vars('source')"
        )
    warnings.warn(
        f"the source files are gone, the first is {gone[0]}: headers are made from attributes and coordinates, "
        "without sequences and private elements",
        stacklevel=3,
    )
    return False


def _is_of_many(image: xr.DataArray) -> bool:
    """Return whether frames were computed from several of one file, and so are none of it any more."""
    if "SOPInstanceUID" in image.coords and "slice" in image.coords["SOPInstanceUID"].dims:
        return False  # each has a file of its own
    source = image.coords["source"]
    first = dict(zip(source.dims, np.argwhere(source.values != "")[0].tolist(), strict=True))
    frame = image.isel({dim: first.get(dim, 0) for dim in image.dims if dim not in ("row", "col")})
    return source_dataset(frame) is None


def of_one_series(image: xr.DataArray) -> xr.DataArray:
    """Return the image with one value for each element that is of a series (PS3.3 C.7.3.1), as it is to be written.

    Where frames differ in one, or in PatientName, it is the attribute of its name, which then is what the user wants,
    or else, of several series that were merged, the value of the first frame, with a SeriesNumber of its own. Times of
    a PET that count from the start of its series count from that of the first.

    Raises
    ------
    ConflictingOriginError
        If several PET series are corrected for decay, each to its own start.
    """
    several = several_series(image)
    gone = []
    found: dict[str, object] = {}
    for name in (*OF_SERIES, "PatientName"):
        is_one = name in image.attrs or (several and name in OF_SERIES)
        if name not in image.coords or not image.coords[name].ndim or not is_one:
            continue
        gone.append(name)
        told = [value for value in image.coords[name].values.ravel().tolist() if value == value and value != ""]
        if told and name not in image.attrs:
            is_number = name == "SeriesNumber" and isinstance(told[0], int | float)
            found[name] = derived_number(int(told[0])) if is_number else told[0]
    one = image.drop_vars(gone).assign_attrs(found) if gone else image
    return count_from_one_start(image, one) if several else one


def several_series(image: xr.DataArray) -> bool:
    """Return whether an image was made of more than one series."""
    return len({origin.SeriesInstanceUID for origin in origins(image)}) > 1


def warn_of_other_distances(image: xr.DataArray, template: xr.DataArray | None) -> None:
    """Warn where an image without a place has the distance of pixels of one of its series, and another has another.

    A third operand brings back the attribute that two have lost, as ``(a + b) + c`` does. Nothing tells that from what
    a user has set, but for a template that has it, too.
    """
    known = {origin.PixelSpacing for origin in origins(image)} - {""}
    told = pixel_distance(image.attrs)
    is_meant = template is not None and pixel_distance(template.attrs) == told
    if len(known) > 1 and " ".join(map(str, told)) in known and not is_meant:
        several = ", ".join(sorted(known))
        msg = (
            f"the image was made of series with pixels {several} mm apart, and is written with "
            f"{' '.join(map(str, told))} mm, which may be that of one of them alone. Where it is right, give the image "
            "that has it as template=; else set image.attrs['PixelSpacing'] [mm], or remove it"
        )
        warnings.warn(msg, stacklevel=4)
