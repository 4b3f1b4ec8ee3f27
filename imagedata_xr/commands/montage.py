"""``image_data montage OUT IN...``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from imagedata_xr.commands.convert import window_of
from imagedata_xr.commands.opening import open_one, output_here
from imagedata_xr.commands.report import ALL_DONE, UsageError, say
from imagedata_xr.files import output_files
from imagedata_xr.montage import montage

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")


def run(arguments: argparse.Namespace) -> int:
    """Draw, and return the exit status."""
    from PIL import Image

    out = output_here(arguments.out)
    if not out.name.lower().endswith(_SUFFIXES):
        msg = f"{out} is no picture; its name has to end with {', '.join(_SUFFIXES)}"
        raise UsageError(msg)
    if arguments.columns is not None and arguments.columns < 1:
        msg = f"--columns {arguments.columns}: at least 1 is wanted"
        raise UsageError(msg)
    options: dict[str, Any] = {} if arguments.window is None else {"window": window_of(arguments.window)}
    image = open_one(arguments, arguments.sources)
    tags = [dim for dim in image.dims if dim not in ("slice", "row", "col", "rgb")]
    sizes = [image.sizes[dim] for dim in tags]
    count = math.prod(sizes)
    if not -count <= arguments.volume < count:
        msg = f"--volume {arguments.volume}: the image has {count} volumes, from 0 on"
        raise UsageError(msg)
    if tags:
        place = map(int, np.unravel_index(arguments.volume % count, sizes))
        image = image.isel(dict(zip(tags, place, strict=True)))
    drawn = montage(image, columns=arguments.columns, **options)
    with output_files(out, _SUFFIXES, overwrite=arguments.force) as file:
        Image.fromarray(drawn).save(file)
    if not arguments.quiet:
        say(f"{out}: {drawn.shape[1]} x {drawn.shape[0]} pixels, {image.sizes.get('slice', 1)} slices")
    return ALL_DONE
