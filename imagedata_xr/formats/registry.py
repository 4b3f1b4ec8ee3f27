"""The formats that can be read and written: our own, and those of plug-ins.

A plug-in is an entry point of the group ``imagedata_xr.formats``, named after its format, that leads to a `Format`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

__all__ = [
    *("GROUP", "Format", "Reader", "Writer", "check_name", "format_names", "format_of", "formats_of"),
    *("get_format", "is_name_of_file", "suffix_of", "writer_of"),
]

GROUP: Final = "imagedata_xr.formats"
"""Group of entry points in which distributions offer formats."""

_OWN: Final = {
    "nifti": ("imagedata_xr.formats.nifti", (".nii.gz", ".nii", ".img.gz", ".hdr.gz", ".img", ".hdr")),
    "itk": ("imagedata_xr.formats.itk", (".mha", ".mhd", ".nrrd", ".nhdr")),
    "mat": ("imagedata_xr.formats.mat", (".mat",)),
    "raster": ("imagedata_xr.formats.raster", (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")),
    "netcdf": ("imagedata_xr.formats.stores", (".nc",)),
    "zarr": ("imagedata_xr.formats.stores", (".zarr",)),
}
"""Module and suffixes of our own formats, known without importing them."""
_OF_DICOM: Final = (".dcm", ".dicom", ".ima")
"""Suffixes of single files of DICOM, which is written to folders."""
_OF_OTHERS: Final = (
    *(".7z", ".rar", ".gz", ".bz2", ".xz", ".npy", ".npz", ".h5", ".hdf5", ".json", ".csv", ".txt", ".xml", ".pdf"),
    *(".mgz", ".mgh", ".mnc", ".vtk", ".vti", ".bmp", ".jp2", ".webp", ".html", ".pkl"),
)
"""Suffixes of files that are not written here, unless a plug-in does."""
_TAR: Final = ".tar.gz"
_END: Final = re.compile(r"\.[^.\0]*(?=\0)")
"""The end of each of many names, with a null after each."""

Reader = Callable[..., "xr.DataArray"]
"""Function ``read(paths, order, **options)`` of a list of files and an order that returns one image, lazily."""

Writer = Callable[..., "list[Path]"]
"""Function ``write(da, path, *, overwrite=False, **options)`` that returns the files written, whole or not at all."""


@dataclass(frozen=True)
class Format:
    """A way to read or write images, or both.

    Parameters
    ----------
    name : str
        What users give as ``format=``.
    suffixes : tuple of str
        Ends of file names, with the dot and in lower case; the first one is written by default.
    read : callable, optional
        Function of a list of paths and an order that returns the image, see `Reader`.
    write : callable, optional
        Function of an image and a path that returns the files written, see `Writer`.
    beside : callable, optional
        Function of the name of a file that returns the names of those in its folder that `read` looks for, too. Where
        the file is in an archive or at a URL they are fetched with it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Reader | None = None
    write: Writer | None = None
    beside: Callable[[str], list[str]] | None = None


def get_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    ValueError
        If there is no such format.

    Examples
    --------
    >>> get_format("nifti").suffixes[:2]
    ('.nii.gz', '.nii')
    """
    if name in _OWN:
        from importlib import import_module

        found: Format = import_module(_OWN[name][0]).FORMATS[name]
        return found
    for point in _plugins():
        if point.name == name:
            found = point.load()
            return found
    msg = f"format={name!r} is not known; there are dicom, {', '.join(format_names())}"
    raise ValueError(msg)


def format_names() -> list[str]:
    """Return the names of all formats but DICOM, plug-ins included."""
    return [*_OWN, *sorted({point.name for point in _plugins()} - _OWN.keys())]


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the format that the end of a file's name says, None if it says none.

    Examples
    --------
    >>> format_of("brain.nii.gz"), format_of("IM00001")
    ('nifti', None)
    """
    if not _may_tell(os.fspath(path)):
        return None
    lower = _lower(path)
    known = _suffixes()
    if not lower.endswith(tuple(known)):
        return None
    return max((len(suffix), name) for suffix, name in known.items() if lower.endswith(suffix))[1]


def formats_of(paths: Iterable[str]) -> list[str | None]:
    """Return the `format_of` of each path, fast where none has one."""
    listed = list(paths)
    # Of thousands of names there are few ends, and none where there is no dot.
    text = "\0".join([*listed, ""])
    if "::" not in text and not any(map(_may_tell, set(_END.findall(text)))):
        return [None] * len(listed)
    return [format_of(path) for path in listed]


def _may_tell(path: str) -> bool:
    """Return whether the end of a name may be that of a format.

    Names of DICOM files are told from others without asking plug-ins: they have no suffix, or one of numbers.
    """
    suffix = path.rpartition(".")[2]
    return "::" in path or not (
        suffix == path or "/" in suffix or suffix.isdecimal() or suffix.lower() in ("dcm", "ima")
    )


def is_name_of_file(name: str) -> bool:
    """Return whether a name is that of a file of DICOM or of a format, by its end."""
    return name.lower().endswith(_OF_DICOM) or format_of(name) is not None


def check_name(path: str | os.PathLike[str], format: str) -> None:
    """Raise ValueError where the end of a name says that it is a file, and a format would make a folder of that name.

    Examples
    --------
    >>> check_name("one.dcm", "dicom")
    Traceback (most recent call last):
        ...
    ValueError: one.dcm is the name of a file, and DICOM is written as one file a frame, to a folder: give the name ...
    """
    name = os.fspath(path)
    if os.path.isdir(name):  # noqa: PTH112 - it may be a URL
        return
    if format == "dicom" and name.lower().endswith(_OF_DICOM):
        msg = (
            f"{name} is the name of a file, and DICOM is written as one file a frame, to a folder: give the name of "
            f"that, such as {name.rpartition('.')[0]!r}; where the files are is returned"
        )
        raise ValueError(msg)
    said = format_of(name)
    if said is None and (suffix := suffix_of(name, (*_OF_OTHERS, _TAR))) not in ("", _TAR):
        known = ", ".join(suffixes[0] for _, suffixes in _OWN.values())
        msg = (
            f"{name} is the name of a file, and nothing here writes {suffix}: there are {known}, .zip and {_TAR}, and "
            "folders of DICOM; for a folder of this very name make it first"
        )
        raise ValueError(msg)
    if said not in (None, format):
        msg = f"{name} is the name of a file of {said}, and {format} was asked for: give another name, or no format"
        raise ValueError(msg)


def writer_of(format: str, options: Iterable[str] = ()) -> Writer:
    """Return the function that writes a format, DICOM or another, with some options.

    Raises
    ------
    ValueError
        If there is no such format, or it can only be read.
    TypeError
        If it has no such option.

    Examples
    --------
    >>> writer_of("nifti", ["SeriesNumber"])
    Traceback (most recent call last):
        ...
    TypeError: write to nifti has no option SeriesNumber=, but overwrite, resample, version; an element is set with ...
    """
    if format == "dicom":
        from imagedata_xr.dicom.write import write_dicom

        write: Writer | None = write_dicom
    else:
        write = get_format(format).write
    if write is None:
        msg = f"format={format!r} can be read, but not written; there are {', '.join(['dicom', *format_names()])}"
        raise ValueError(msg)
    parameters = signature(write).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return write
    taken = [parameter.name for parameter in parameters][2:]
    for name in options:
        if name not in taken:
            from imagedata_xr.keywords import is_keyword, keyword_meant  # pydicom's, not needed to know formats

            element = name if is_keyword(name) else keyword_meant(name)
            advice = f"; an element is set with image.assign_attrs({element}=...)" if element else ""
            msg = f"write to {format} has no option {name}=, but {', '.join(taken)}{advice}"
            raise TypeError(msg)
    return write


def suffix_of(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> str:
    """Return which of some suffixes a path ends with, the longest; "" if none."""
    return max((suffix for suffix in suffixes if _lower(path).endswith(suffix)), key=len, default="")


def _lower(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path).lower()
    # A member of an archive is named before it.
    return name.partition("::")[0] if name.startswith(("zip://", "tar://")) else name


@cache
def _plugins() -> tuple[Any, ...]:
    return tuple(entry_points(group=GROUP))


@cache
def _suffixes() -> dict[str, str]:
    """Return the format of each suffix; our own formats first."""
    known: dict[str, str] = {}
    for point in _plugins():
        try:
            known |= dict.fromkeys(point.load().suffixes, point.name)
        except Exception as err:
            warnings.warn(f"the plug-in {point.name!r} cannot be loaded: {type(err).__name__}: {err}", stacklevel=2)
    return known | {suffix: name for name, (_, suffixes) in _OWN.items() for suffix in suffixes}
