"""How the pages of a TIFF lie in volumes, where its description tells it: ImageJ's and OME's."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np

from imagedata_xr.errors import UnreadableFileError

__all__ = ["CHANNEL", "VOLUME", "Places", "check_whole", "places_of"]

VOLUME: Final = "volume"
CHANNEL: Final = "channel"

_DESCRIPTION, _SAMPLES, _DEPTH = 270, 277, 32997
"""Tags of TIFF: text, samples of a pixel, slices in a page."""

Places = tuple[list[str], list[list[list[int]]]]
"""Dims before the slices, and the number of the page of each slice (volume, channel, slice)."""


def check_whole(picture: Any, path: str, pages: int) -> None:
    """Raise UnreadableFileError if a TIFF has slices that are no pages of their own, which Pillow passes over.

    ImageJ writes a stack of more than 4 GiB as one page with all others behind it
    (imagej.net/ij/developer/source/ij/io/FileOpener.java.html).
    """
    if (depth := picture.tag_v2.get(_DEPTH, 1)) != 1:
        msg = f"{path} has {depth} slices in one page, of which the first would be read; write a page a slice"
        raise UnreadableFileError(msg)
    if (count := _number(_imagej(picture), "images")) > pages:
        msg = f"{path} tells of {count} images and has {pages} pages: the others would be lost; write a page an image"
        raise UnreadableFileError(msg)


def places_of(picture: Any, path: str, pages: int) -> Places:
    """Return where the pages of a TIFF belong; all are slices where it does not tell.

    Raises
    ------
    UnreadableFileError
        If it tells of others than there are.
    """
    sizes, order = _told(picture)
    if not sizes or (count := math.prod(sizes.values())) == sizes["Z"]:
        return [], [[list(range(pages))]]
    if count != pages:
        told = f"{sizes['T']} times of {sizes['C']} channels of {sizes['Z']} slices"
        msg = f"{path} has {pages} pages, and tells of {told}: write those of one image, with what is told of them"
        raise UnreadableFileError(msg)
    numbers = np.arange(pages).reshape([sizes[axis] for axis in reversed(order)])
    numbers = numbers.transpose([order[::-1].index(axis) for axis in "TCZ"])
    return [name for name, axis in ((VOLUME, "T"), (CHANNEL, "C")) if sizes[axis] > 1], numbers.tolist()


def _told(picture: Any) -> tuple[dict[str, int], str]:
    """Return the numbers of times, channels and slices, and their order in the file, the fastest first."""
    if text := _imagej(picture):
        names = {"T": "frames", "C": "channels", "Z": "slices"}
        return {axis: _number(text, name) for axis, name in names.items()}, "CZT"
    text = _description(picture)
    found = re.search(r"<(?:\w+:)?OME\b.*?<(?:\w+:)?Pixels\b([^>]*)>", text, re.DOTALL)
    if not found or len(re.findall(r"<(?:\w+:)?Pixels\b", text)) > 1:
        return {}, ""
    fields = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', found[1]))
    order = fields.get("DimensionOrder", "")[2:]
    if sorted(order) != ["C", "T", "Z"] or not all(fields.get(f"Size{axis}", "").isdecimal() for axis in "TCZ"):
        return {}, ""
    sizes = {axis: int(fields[f"Size{axis}"]) for axis in "TCZ"}
    # Colours are one page.
    sizes["C"] = max(1, sizes["C"] // int(picture.tag_v2.get(_SAMPLES, 1)))
    return sizes, order


def _imagej(picture: Any) -> str:
    text = _description(picture)
    return text if text.startswith("ImageJ=") else ""


def _description(picture: Any) -> str:
    found = picture.tag_v2.get(_DESCRIPTION, "")
    return found if isinstance(found, str) else ""


def _number(text: str, name: str) -> int:
    """Return a number that ImageJ tells, 1 where it does not."""
    found = re.search(rf"^{name}=(\d{{1,9}})\s*$", text, re.MULTILINE)
    return max(1, int(found[1])) if found else 1
