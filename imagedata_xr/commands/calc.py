"""``image_data calc OUT EXPRESSION IN...``."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from imagedata_xr.commands.convert import check_given, place_of, with_settings, write_image
from imagedata_xr.commands.opening import open_one
from imagedata_xr.commands.report import ALL_DONE, UsageError, print_json, say
from imagedata_xr.expression import evaluate, names_in
from imagedata_xr.formats.registry import format_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Compute and write, and return the exit status."""
    check_given(arguments)
    target = place_of(arguments.out)
    if len(arguments.sources) > len(string.ascii_lowercase):
        msg = f"{len(arguments.sources)} inputs are given; a to z name at most {len(string.ascii_lowercase)}"
        raise UsageError(msg)
    letters = string.ascii_lowercase[: len(arguments.sources)]
    _check_all_used(arguments.expression, dict(zip(letters, arguments.sources, strict=True)))
    images = {letter: open_one(arguments, source) for letter, source in zip(letters, arguments.sources, strict=True)}
    try:
        result = images.get(arguments.expression.strip())
        if result is None:
            result = evaluate(arguments.expression, {letter: _roomy(image) for letter, image in images.items()})
    except ValueError as err:
        if type(err) is ValueError:
            raise UsageError(str(err)) from err
        raise  # of the images: their places, their volumes
    if not isinstance(result, xr.DataArray):
        msg = f"{arguments.expression!r} gives the number {result}, no image"
        raise UsageError(msg)
    smallest = _smallest(result)
    if result.dtype != smallest:
        result = result.astype(smallest)
    formats = arguments.of or [format_of(arguments.out) or "dicom"]
    if len(formats) > 1:
        msg = "calc writes one format; --of was given several times"
        raise UsageError(msg)
    files = write_image(with_settings(result, arguments), target, formats[0], arguments, show=True)
    if arguments.json:
        print_json("calc", output=arguments.out, format=formats[0], files=len(files))
    elif not arguments.quiet:
        dims = ", ".join(f"{name}: {size}" for name, size in result.sizes.items())
        say(f"{arguments.out}: {formats[0]}, {len(files)} files, {dims}")
    return ALL_DONE


def _check_all_used(expression: str, sources: Mapping[str, str]) -> None:
    """Raise UsageError for an input that the expression does not name: a slip, such as 'a + a' where b was meant."""
    try:
        named = names_in(expression)
    except ValueError as err:
        raise UsageError(str(err)) from err
    unused = [f"{letter} ({source})" for letter, source in sources.items() if letter not in named]
    if unused:
        msg = f"{expression!r} does not use {', '.join(unused)}: name it in the expression, or leave it out"
        raise UsageError(msg)


def _roomy(image: xr.DataArray) -> xr.DataArray:
    """Return whole numbers in a type in which sums and products do not wrap."""
    return image.astype(np.int64) if image.dtype.kind in "iu" else image


def _smallest(image: xr.DataArray) -> str:
    """Return the smallest type that holds the values; floating point for whole numbers of more than 32 bits."""
    if image.dtype == bool:
        return "uint8"
    if image.dtype.kind not in "iu" or not image.size:
        return str(image.dtype)
    low, high = int(image.min()), int(image.max())
    names = ("uint8", "uint16") if "rgb" in image.dims else ("int16", "uint16", "int32")
    sizes = {name: np.iinfo(name) for name in names}
    fits = [name for name, info in sizes.items() if info.min <= low and high <= info.max]
    return fits[0] if fits else "float64"
