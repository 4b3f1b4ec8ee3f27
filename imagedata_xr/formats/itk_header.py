"""What the header of a MetaImage or NRRD file tells, of its own or as SimpleITK hands it on."""

from __future__ import annotations

import re
import warnings
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from imagedata_xr.errors import GeometryError, OrderError, UnreadableFileError
from imagedata_xr.formats.labels import dim_names
from imagedata_xr.formats.lazy import DEFLATED, check_length

__all__ = [
    "RGB",
    "check_packed",
    "check_pixels",
    "check_scale",
    "check_space",
    "check_units",
    "colours_told",
    "fields_of",
    "has_place",
    "signs_of",
    "warn_of_gradients",
]

_LONGEST: Final = 1 << 24
"""Bytes of the header of a file; those of images have a few thousand."""

_SPACES: Final = {
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
}
"""Spaces of NRRD that are the patient's, and the signs of their axes in LPS+."""

_MILLIMETRES: Final = frozenset(
    {"mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???", "none"}
)
"""Units of NRRD that are mm, or tell nothing."""

_NRRD_SPACE: Final = "NRRD_space"
_NRRD_KIND: Final = "NRRD_kinds[pixel]"
"""Entries of the metadata that SimpleITK makes of the header of a NRRD file."""

_NRRD_GRADIENTS: Final = "DWMRI_b-value"
"""Entry of the metadata of diffusion images in NRRD (www.na-mic.org/wiki/NAMIC_Wiki:DTI:Nrrd_format)."""

_PIECE: Final = 1 << 20
_BZIP2: Final = 1 << 21
"""Bytes that one byte may become: bzip2 shortens what repeats before it packs it."""

RGB: Final = "rgb"
"""Name in an order by which components are colours."""


def fields_of(path: Path) -> dict[str, str]:
    """Return the fields of a header, by names in lower case without spaces.

    Raises
    ------
    UnreadableFileError
        If it names files outside its folder: it may come from anybody.
    """
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        is_nrrd = file.read(4) == b"NRRD"
        file.seek(0)
        while "elementdatafile" not in fields and (line := file.readline(_LONGEST).decode("latin-1")):
            if is_nrrd and not line.strip("\r\n"):
                break  # pixels follow
            if found := re.match(r"\s*([^=:]+?)\s*[=:](?!=)\s*(.*?)\s*$", line):
                fields[found[1].lower().replace(" ", "")] = found[2]
            if file.tell() >= _LONGEST:
                msg = f"{path} has a header of more than {_LONGEST} bytes, which is not that of an image"
                raise UnreadableFileError(msg)
    for name in (fields.get("elementdatafile", "LOCAL"), fields.get("datafile", "LOCAL")):
        if name.upper() == "LOCAL":
            continue
        if name.upper().startswith("LIST") or "%" in name:
            msg = f"{path} is spread over several files ({name}); write it as one"
            raise UnreadableFileError(msg)
        named = Path(name.replace("\\", "/"))
        if named.is_absolute() or ".." in named.parts or ":" in (named.parts or ("",))[0]:
            msg = f"{path} names pixels outside its folder, {name!r}; that is not followed"
            raise UnreadableFileError(msg)
    return fields


def check_scale(path: Path, fields: dict[str, str]) -> None:
    """Raise UnreadableFileError for a MetaImage whose values are not those that are stored: ITK does not rescale them.

    Parameters
    ----------
    path, fields
        See `check_pixels`.
    """
    for name, neutral in (("Slope", 1.0), ("Offset", 0.0)):
        found = fields.get(f"elementtointensityfunction{name.lower()}", str(neutral))
        try:
            is_neutral = float(found) == neutral
        except ValueError:
            is_neutral = False
        if not is_neutral:
            msg = (
                f"{path} has ElementToIntensityFunction{name} = {found}, by which its values are to be rescaled, and "
                f"ITK does not: write the values themselves, with {neutral:g}"
            )
            raise UnreadableFileError(msg)


def check_pixels(path: Path, fields: dict[str, str], count: int, itemsize: int) -> None:
    """Raise UnreadableFileError if the file with the pixels is too short for what the header claims.

    Parameters
    ----------
    path : Path
        The header.
    fields : dict
        What it tells, see `fields_of`.
    count, itemsize : int
        Number of values, and bytes of each.
    """
    file = _pixels_file(path, fields)
    packed_size = fields.get("compresseddatasize", "")
    encoding = fields.get("encoding", "raw").lower()
    if fields.get("compresseddata", "").upper().startswith("T"):
        if packed_size.isdecimal():
            check_length(file, int(packed_size))
        encoding = "gzip"
    elif fields.get("binarydata", "true").upper().startswith("F"):
        encoding = "text"
    # A number as text has a digit and what parts it from the next, or two digits a byte.
    ways = {"raw": 1, "gz": DEFLATED, "gzip": DEFLATED, "bz2": _BZIP2, "bzip2": _BZIP2}
    check_length(file, count * itemsize, ways.get(encoding, itemsize))


def _pixels_file(path: Path, fields: dict[str, str]) -> Path:
    """Return the file that has the pixels: the one of the header, or another beside it."""
    name = fields.get("elementdatafile") or fields.get("datafile") or "LOCAL"
    return path if name.upper() == "LOCAL" else path.parent / name.replace("\\", "/")


def check_packed(path: Path, fields: dict[str, str]) -> None:
    """Raise UnreadableFileError if the packed pixels of a MetaImage are damaged: ITK hands on what it could unpack.

    Parameters
    ----------
    path, fields
        See `check_pixels`.
    """
    if not fields.get("compresseddata", "").upper().startswith("T") or "headersize" in fields:
        return
    status = (pixels := _pixels_file(path, fields)).stat()
    _check_stream(path, pixels, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _check_stream(path: Path, pixels: Path, _version: tuple[int, int]) -> None:
    """Unpack a stream as far as it goes, once for each version of a file: for every part that is read would take long.

    Raises
    ------
    UnreadableFileError
        If it is damaged or cut short.
    """
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of zlib or gzip
    with open(pixels, "rb") as file:
        while pixels == path and (line := file.readline(_LONGEST)):
            if re.match(rb"\s*ElementDataFile\s*[=:]", line, re.IGNORECASE):
                break
        try:
            while not stream.eof and (piece := file.read(_PIECE)):
                while piece and not stream.eof:
                    stream.decompress(piece, _PIECE)
                    piece = stream.unconsumed_tail
        except zlib.error as err:
            msg = f"cannot read {path}: its packed pixels are damaged ({err}); fetch it again"
            raise UnreadableFileError(msg) from err
    if not stream.eof:
        msg = f"cannot read {path}: its packed pixels are cut short; fetch it again"
        raise UnreadableFileError(msg)


def has_place(reader: Any, fields: dict[str, str]) -> bool:
    """Return whether a file tells where in the patient it is; ITK takes the axes of the patient where it does not."""
    if "elementdatafile" in fields:
        told = ("offset", "position", "origin", "transformmatrix", "orientation", "rotation")
        # Without a distance of voxels ITK takes 1 mm.
        return any(name in fields for name in told) and not {"elementspacing", "elementsize"}.isdisjoint(fields)
    # A space of four dimensions is how ITK writes its own, LPS+ and one more: NRRD has no name for that.
    is_named = _space(reader).removesuffix("-time") in _SPACES or fields.get("spacedimension") == "4"
    return is_named and {"spacedirections", "spaceorigin"} <= fields.keys()


def _space(reader: Any) -> str:
    return str(reader.GetMetaData(_NRRD_SPACE)) if reader.HasMetaDataKey(_NRRD_SPACE) else ""


def signs_of(reader: Any) -> tuple[int, ...]:
    """Return the signs by which an affine of ITK becomes LPS+: it does not turn the spaces that have time, too."""
    space, is_timed, _ = _space(reader).partition("-time")
    return _SPACES[space] if is_timed and space in _SPACES else (1, 1, 1)


def check_units(path: Path, fields: dict[str, str]) -> None:
    """Raise GeometryError for a file whose place is told in another unit than mm, which ITK does not look at."""
    if (unit := fields.get("distanceunits", "")) not in _MILLIMETRES:
        msg = (
            f"{path} tells its place in DistanceUnits {unit!r}, and ITK takes them for mm: write Offset, "
            "ElementSpacing and DistanceUnits in mm"
        )
        raise GeometryError(msg)
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))[:3]
    if others := sorted({*map(str.strip, units)} - _MILLIMETRES):
        msg = (
            f"{path} tells its place in the space units {', '.join(map(repr, others))}, and ITK takes them for mm: "
            "write space directions, space origin and space units in mm"
        )
        raise GeometryError(msg)


def warn_of_gradients(path: str, reader: Any) -> None:
    """Warn of a diffusion image in NRRD, whose b-values and directions are not read."""
    if reader.HasMetaDataKey(_NRRD_GRADIENTS):
        msg = (
            f"{path} tells b-values and gradient directions (DWMRI_...), which are not read: its volumes are numbered. "
            "NIfTI with .bval and .bvec is read with them"
        )
        warnings.warn(msg, stacklevel=4)


def check_space(image: Any) -> None:
    """Raise GeometryError for an image of SimpleITK whose place may not be in LPS+, though ITK knows no other.

    It turns no spaces that have time, and takes those of scanners for the patient's. Whether the image was turned since
    it was read is told nowhere.
    """
    space = _space(image)
    if space and _SPACES.get(space.removesuffix("-time")) != (1, 1, 1):
        msg = (
            f"the image was read from a NRRD file in the space {space!r}, which SimpleITK has not turned to LPS+: open "
            "the file with open_series; or see that origin and direction are LPS+, then "
            f"image.EraseMetaData({_NRRD_SPACE!r})"
        )
        raise GeometryError(msg)


def colours_told(image: Any, components: int, dtype: np.dtype[Any], told: dict[str, Any], order: Any) -> bool:
    """Return whether three components are red, green and blue: in our own files always.

    Raises
    ------
    OrderError
        If they may be, and neither the file nor `order` says so; or if `order` says so and they cannot be.
    """
    is_asked = order not in ("auto", None)
    may_be = components == 3 and dtype in (np.uint8, np.uint16)
    if is_asked and RGB in dim_names(order):
        if not may_be:
            msg = f"order names {RGB}: colours are 3 of 8 or 16 unsigned bits a pixel; there are {components}, {dtype}"
            raise OrderError(msg)
        return True
    if components != 3 or "dims" in told:
        return components == 3
    kind = image.GetMetaData(_NRRD_KIND) if image.HasMetaDataKey(_NRRD_KIND) else "RGB-color"
    if kind == "vector" and may_be and not is_asked:
        msg = (
            f"there are three components of {dtype} and the kind 'vector': SimpleITK writes colours so, too. Say which "
            f"they are: order={RGB!r} for colours, or the name of a dim, such as order='volume'"
        )
        raise OrderError(msg)
    return kind == "RGB-color" and may_be
