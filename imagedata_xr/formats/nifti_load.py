"""NIfTI files opened through nibabel: what it would mend without a word is refused, and the place that they tell."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.errors import GeometryError, UnreadableFileError
from imagedata_xr.formats.lazy import DEFLATED, check_length
from imagedata_xr.geometry import format_numbers, lps_to_ras
from imagedata_xr.options import OPTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["affine_told", "check_told", "load"]

_MM: Final = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_SHORTEST: Final = 348
"""Bytes of the shortest header."""
_SNIFFED: Final = 1024
"""Bytes by which nibabel tells of what type a file is."""
_CODES: Final = range(6)
"""Codes of a sform or qform that are defined."""
_ATLASES: Final = {3: "Talairach's atlas", 4: "the MNI152 template", 5: "a template"}
"""Codes of places that are no patient's."""


def load(path: str) -> Any:
    """Return what nibabel makes of a file.

    Raises
    ------
    UnreadableFileError
        If it is damaged or of another kind, or its header tells what cannot be.
    """
    import zlib

    import nibabel as nib

    try:
        image = nib.load(path, mmap=False)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, ValueError, EOFError) as err:
        _check_start(path)
        msg = f"{path} is no NIfTI file: {err}"
        raise UnreadableFileError(msg) from err
    except (OSError, zlib.error) as err:
        msg = f"cannot read {path}: {getattr(err, 'strerror', None) or err}"
        raise UnreadableFileError(msg) from err
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair):
        msg = (
            f"{path} is an {type(image).__name__} without the mark of NIfTI: its place in the patient is not known. "
            "Convert it with the program that wrote it"
        )
        raise UnreadableFileError(msg)
    if any(n < 1 for n in image.shape) or not image.shape:
        msg = f"{path} has the shape {image.shape}"
        raise UnreadableFileError(msg)
    check_told(image)
    frame = int(np.prod(image.shape[:2])) * image.get_data_dtype().itemsize
    if frame > OPTIONS["largest_frame"]:
        msg = (
            f"{path} has slices of {frame} bytes; more than {OPTIONS['largest_frame']} are refused, unless "
            "imagedata_xr.set_options(largest_frame=...) allows them"
        )
        raise UnreadableFileError(msg)
    pixels = str(image.file_map["image"].filename)
    proxy: Any = image.dataobj
    length = int(proxy.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
    check_length(pixels, length, DEFLATED if pixels.lower().endswith(".gz") else 1)
    return image


def check_told(image: Any) -> None:
    """Raise if the header of a file tells what cannot be, which nibabel mends as it reads it.

    Raises
    ------
    GeometryError
        If the place is that of a qform, and the distances of voxels are no such; or a code is not defined.
    UnreadableFileError
        If values are told to begin in the header, or units are not defined.
    """
    from nibabel.openers import ImageOpener

    files = image.file_map
    path = str((files.get("header") or files["image"]).filename or files["image"].filename)
    with ImageOpener(path, "rb") as file:
        told: Any = type(image.header).from_fileobj(file, check=False)
    if told["magic"].item() == told.single_magic and told["vox_offset"] < told.sizeof_hdr:
        msg = f"{path} tells that values begin at byte {int(told['vox_offset'])}, within its header; mend vox_offset"
        raise UnreadableFileError(msg)
    try:
        told.get_xyzt_units()
    except KeyError as err:
        msg = f"{path} tells its units by the code {int(told['xyzt_units'])}, which is not defined; mend xyzt_units"
        raise UnreadableFileError(msg) from err
    for name in ("sform_code", "qform_code"):
        if told[name] not in _CODES:
            msg = f"{path} has {name} {int(told[name])}; 0 to {_CODES[-1]} are defined, 0 for no place. Mend the header"
            raise GeometryError(msg)
    if told["sform_code"] or not told["qform_code"]:
        return
    steps = told["pixdim"][1:4]
    # A sign of other size than 1 is +1 to nibabel and its own to others.
    if not (steps[: min(3, len(image.shape))] > 0).all() or (told["pixdim"][0] < 0 and told["pixdim"][0] != -1):
        msg = (
            f"{path} has a place by its qform alone, with pixdim {format_numbers(told['pixdim'][:4])}: a sign, 1 or "
            "-1, and three distances above 0 are wanted. Mend the header, or set qform_code 0 for no place"
        )
        raise GeometryError(msg)


def _check_start(path: str) -> None:
    """Raise UnreadableFileError if a file is too short for a header, of which nibabel says that it is of no type."""
    from nibabel.openers import ImageOpener

    try:
        with ImageOpener(path, "rb") as file:
            length = len(file.read(_SNIFFED))
    except EOFError as err:
        msg = f"cannot read {path}: {err}; it is cut short, fetch it again"
        raise UnreadableFileError(msg) from err
    if length < _SHORTEST:
        msg = f"{path} is no NIfTI file, or cut short: it has {length} bytes, and the header alone has {_SHORTEST}"
        raise UnreadableFileError(msg)


def affine_told(image: Any) -> NDArray[np.float64] | None:
    """Return the affine from (i, j, k) to LPS+ [mm] that a file tells, None if it tells none.

    Warns where it is not that of the patient, but of an atlas.
    """
    header = image.header
    matrix, code = header.get_sform(coded=True)
    name = "sform"
    if not code:
        matrix, code = header.get_qform(coded=True)
        name = "qform"
    if not code:
        return None
    if code in _ATLASES:
        other = int(header["qform_code"]) if name == "sform" else 0
        msg = (
            f"the {name} of {image.file_map['image'].filename or 'the image'} has code {code}: positions are those of "
            f"{_ATLASES[code]}, not of the patient in the scanner"
            + (f"; these are in the qform (code {other}), which is not taken" if other in (1, 2) else "")
        )
        warnings.warn(msg, stacklevel=6)
    affine: NDArray[np.float64] = np.array(matrix, float)
    affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
    return lps_to_ras(affine)
