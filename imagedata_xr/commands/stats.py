"""``image_data stats IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.commands.opening import open_several
from imagedata_xr.commands.report import (
    ALL_DONE,
    PARTLY,
    UsageError,
    print_json,
    print_table,
    say,
    status_of,
    tell_damaged,
    told_damaged,
)
from imagedata_xr.errors import GeometryError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["run", "statistics"]

_NAMES = ("min", "max", "mean", "std", "median", "count")
_AT_ONCE: Final = 1 << 20
"""Values that are looked at together: copies of all of them, in larger types, would take many times their memory."""
_MOST_LEVELS: Final = 1 << 20
"""Whole numbers that are counted one by one."""


def statistics(image: xr.DataArray, mask: xr.DataArray | None = None) -> dict[str, float]:
    """Return min, max, mean, std, median and count of the values of an image, of those in a mask if one is given.

    NaN is left out, and outside of a mask.

    Raises
    ------
    GeometryError
        If the mask is not at the place of the image.
    """
    values = image.values
    if mask is not None:
        if not image.dicom.geometry_equal(mask):
            sizes = [[da.sizes.get(dim, 1) for dim in ("slice", "row", "col")] for da in (image, mask)]
            msg = (
                f"the mask is not at the place of the image: {sizes[1]} voxels, the image {sizes[0]}; resample it "
                "first, mask.dicom.resample_like(image, interpolation='nearest', fill_value=False)"
            )
            raise GeometryError(msg)
        inside = (mask.fillna(0) != 0).transpose(..., "slice", "row", "col").values
        values = values[np.broadcast_to(inside, values.shape)]
    values = values[np.isfinite(values)] if values.dtype.kind in "fc" else values
    if not values.size:
        return {**dict.fromkeys(_NAMES, float("nan")), "count": 0}
    low, high, flat = values.min(), values.max(), values.reshape(-1)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 4 and int(high) - int(low) < _MOST_LEVELS:
        mean, std, median = _of_levels(flat, int(low), int(high))
    else:
        mean, median = float(values.mean(dtype=float)), float(np.median(values))
        squares = sum(float(np.sum((part.astype(float) - mean) ** 2)) for part in _parts(flat))
        std = (squares / flat.size) ** 0.5
    found = (float(low), float(high), mean, std, median, int(values.size))
    return dict(zip(_NAMES, found, strict=True))


def _parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (values[start : start + _AT_ONCE] for start in range(0, values.size, _AT_ONCE))


def _of_levels(values: NDArray[Any], low: int, high: int) -> tuple[float, float, float]:
    """Return mean, standard deviation and median of whole numbers of few levels, by how often each is there."""
    levels = np.arange(low, high + 1)
    counts = np.zeros(levels.size)
    for part in _parts(values):
        counts += np.bincount(part.astype(np.intp) - low, minlength=levels.size)
    mean = float((levels * counts).sum() / values.size)
    std = float(((levels - mean) ** 2 * counts).sum() / values.size) ** 0.5
    middle = np.searchsorted(np.cumsum(counts), [(values.size - 1) // 2, values.size // 2], side="right")
    return mean, std, float(levels[middle].mean())


def run(arguments: argparse.Namespace) -> int:
    """Tell the statistics of each series, and return the exit status."""
    from imagedata_xr.api import open_series

    if arguments.bash and arguments.json:
        msg = "--bash and --json are two forms of the same: give one of them"
        raise UsageError(msg)
    mask = None if arguments.mask is None else open_series(arguments.mask)
    images, failures, damaged, first = open_several(arguments, arguments.sources)
    rows: list[dict[str, Any]] = []
    errors: list[Exception] = [] if first is None else [first]
    for name, image in images:
        about = {
            "SeriesNumber": image.attrs.get("SeriesNumber"),
            "SeriesDescription": image.attrs.get("SeriesDescription", ""),
        }
        try:
            rows.append({"series": name, **about, **statistics(image, mask)})
        except (OSError, GeometryError) as err:  # its pixels cannot be decoded, or the mask is at another place
            if len(images) == 1:
                raise
            errors.append(err)
            failures.append((f"series {name!r}", str(err)))
    if arguments.json:
        failed = [{"series": name, "reason": reason} for name, reason in failures]
        print_json("stats", series=rows, failed=failed, damaged=told_damaged(damaged))
    elif arguments.bash:
        for row in rows:
            say(" ".join(f"{name}={row[name]:.10g}" for name in _NAMES))
    else:
        names = ("SeriesNumber", "SeriesDescription", *_NAMES)
        shown = [[f"{row[n]:.6g}" if isinstance(row[n], float) else row[n] for n in names] for row in rows]
        print_table(names, shown)
    tell_damaged([*damaged, *failures], others=bool(rows))
    if not failures and not damaged:
        return ALL_DONE
    return PARTLY if rows or not errors else status_of(errors[0])
