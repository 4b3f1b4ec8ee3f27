"""Which volume of a template each volume of an image is.

Volumes correspond by the labels of their tag dims, where these were read or given. Labels that only count the volumes
of a file do not say which ones are there: such volumes correspond in their order if there are as many. What both
images tell of diffusion, b-values and gradient directions, has to agree, and pairs what is in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import PairingError
from imagedata_xr.formats.labels import are_counted_from_first, tag_dims
from imagedata_xr.indexes import TagIndex
from imagedata_xr.names import SAME_DIRECTION

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["DIFFUSION", "named_volumes", "partners"]

DIFFUSION: Final = ("b", "bx", "by", "bz")
"""Coordinates of diffusion volumes: b-value [s/mm2] and gradient direction (LPS+)."""


def named_volumes(da: xr.DataArray, like: xr.DataArray, *, extend: bool) -> xr.DataArray:
    """Return the image with the template's names and labels for dims whose labels are mere numbers.

    Raises
    ------
    PairingError
        If the template has several dims that a dim of volumes could be, or b-values and directions do not tell which
        volumes correspond.
    """
    theirs = tag_dims(like)
    unknown = next((dim for dim in tag_dims(da) if dim not in theirs and _is_counted(da, dim)), None)
    numbers = {str(dim): da.coords[dim].values for dim in tag_dims(da) if dim in da.coords}
    if unknown is not None:
        free = [dim for dim in theirs if dim not in da.dims]
        size = da.sizes[unknown]
        fitting = [dim for dim in free if like.sizes[dim] == size or (extend and like.sizes[dim] < size)]
        if len(fitting) == 1 and len(free) == 1:
            da = _renamed(da, unknown, fitting[0])
            if unknown in numbers:
                numbers[fitting[0]] = numbers[unknown]
        elif free:
            sizes = ", ".join(f"{dim}: {like.sizes[dim]}" for dim in free)
            msg = (
                f"the image has {size} volumes, the template {sizes}; name them with order=, or select those of the "
                "template that correspond"
            )
            raise PairingError(msg)
    for dim in theirs:
        if dim in da.dims and dim in like.coords and _is_counted(da, dim):
            da = _labelled_like(da, like, dim, numbers.get(dim), extend=extend)
    return da


def _renamed(da: xr.DataArray, dim: str, name: str) -> xr.DataArray:
    """Return the image with another name for a dim; what it knows by that name, as ``b``, becomes the labels."""
    da = da.drop_vars(dim, errors="ignore")
    if name not in da.coords or da.coords[name].dims != (dim,):
        return da.drop_vars(name, errors="ignore").rename({dim: name})
    labels = da.coords[name].variable.copy(deep=False)
    labels.dims = (name,)
    return (
        da.drop_vars(name)
        .rename({dim: name})
        .assign_coords({name: labels})
        .drop_indexes(name)
        .set_xindex(name, TagIndex)
    )


def _labelled_like(
    da: xr.DataArray, like: xr.DataArray, dim: str, numbers: NDArray[Any] | None, *, extend: bool
) -> xr.DataArray:
    """Return the image with the template's labels along a dim that is only counted, where volumes correspond."""
    rows, labels = _counted_partners(da, like, dim, numbers, extend=extend), like.coords[dim]
    along: dict[Any, xr.Variable] = {}
    if rows is not None:
        values = labels.values[rows]
        along = {
            name: coord.variable.isel({dim: rows})
            for name, coord in like.coords.items()
            if coord.dims == (dim,)
            and name != dim
            and not str(name)[:1].isupper()
            and not str(name).startswith("source")
        }
    elif da.sizes[dim] > labels.size and extend and labels.dtype.kind in "iuf":
        step = labels.values[-1] - labels.values[-2] if labels.size > 1 else 1
        values = np.r_[labels.values, labels.values[-1] + step * np.arange(1, da.sizes[dim] - labels.size + 1)]
    else:
        return da
    da = da.drop_vars(dim, errors="ignore").assign_coords({dim: xr.Variable((dim,), values, labels.attrs)})
    return da.drop_indexes(dim).set_xindex(dim, TagIndex).assign_coords(along)


def _is_counted(da: xr.DataArray, dim: str) -> bool:
    """Return whether the labels of a dim are absent, or numbers without a unit: 0, 1, 2 ..., or made up by a reader."""
    if dim not in da.coords:
        return True
    labels = da.coords[dim]
    if labels.dtype.kind not in "iu" or "units" in labels.attrs:
        return False
    return are_counted_from_first(labels) or bool((labels.values == np.arange(labels.size)).all())


def _counted_partners(
    da: xr.DataArray, like: xr.DataArray, dim: str, numbers: NDArray[Any] | None, *, extend: bool
) -> NDArray[np.intp] | None:
    """Return the number of the template's volume for each of the image's, whose labels are mere numbers or absent.

    Raises
    ------
    PairingError
        If b-values or directions contradict the order, and do not tell another one.
    """
    count, theirs = da.sizes[dim], like.coords[dim].values
    agree = _diffusion_agrees(da, like, dim)
    # Numbers that a reader gave, and that are others now, are of volumes that were selected or sorted.
    in_order = numbers is None or bool((numbers == np.arange(count)).all())
    if agree is None or (extend and count > theirs.size):
        if numbers is not None and not in_order:
            raise PairingError(
                f"the volumes of the image are those numbered {_list(numbers)} in its file, and nothing tells which "
                f"of the template's {theirs.size} these are: select the template's like them and drop the numbers "
                "with image.drop_vars(...), and they correspond in their order"
            )
        return np.arange(count) if count == theirs.size else None
    ways = [np.arange(count)] if count == theirs.size and in_order else []
    if dim in da.coords and not are_counted_from_first(da.coords[dim]) and theirs.dtype.kind in "iuf":
        same = np.equal.outer(da.coords[dim].values, theirs)
        # First by the labels, which may be those of the volumes that were selected.
        ways = [*([same.argmax(axis=1)] if same.any(axis=1).all() else []), *ways]
    for rows in ways:
        if agree[range(count), rows].all():
            return rows
    if (agree.sum(axis=1) == 1).all() and agree.sum(axis=0).max() == 1:
        return np.asarray(agree.argmax(axis=1), np.intp)
    counts = agree.sum(axis=1)
    of_one = agree[:, agree.sum(axis=0).argmax()]  # those that claim the same volume of the template
    wrong = counts == 0 if (counts == 0).any() else counts > 1 if (counts > 1).any() else of_one
    raise _other_diffusion(da, like, dim, agree, int(wrong.argmax()))


def _diffusion_agrees(da: xr.DataArray, like: xr.DataArray, dim: str) -> NDArray[np.bool_] | None:
    """Return whether each volume of the image (rows) has b-value and direction of each of the template (columns).

    Of no volume is it known, and None is returned, where one of the two tells neither along the dim.
    """

    def told(image: xr.DataArray, *names: str) -> NDArray[np.float64] | None:
        coords = [image.coords[name] for name in names if name in image.coords]
        if len(coords) < len(names) or any(coord.dims != (dim,) or coord.dtype.kind not in "iuf" for coord in coords):
            return None
        values = np.stack([coord.values.astype(float) for coord in coords], axis=-1)
        return values if np.isfinite(values).any() else None

    agree = np.ones((da.sizes[dim], like.sizes[dim]), bool)
    b = [told(image, _name_of_b(image)) for image in (da, like)]
    directions = [told(image, "bx", "by", "bz") for image in (da, like)]
    weighted = np.ones_like(agree)
    if b[0] is not None and b[1] is not None:
        tolerance = TagIndex.for_dim("b", b[1][:, 0]).tolerance
        # An element that one volume has need not be in another, which then tells no b-value.
        agree &= _close(b[0], b[1], tolerance) | np.isnan(b[0]) | np.isnan(b[1][:, 0])
        weighted = ~((b[0] <= tolerance) & (b[1][:, 0] <= tolerance))
    elif directions[0] is None or directions[1] is None:
        return None
    if directions[0] is not None and directions[1] is not None:
        agree &= _close(directions[0], directions[1], SAME_DIRECTION) | ~weighted
    return agree


def _name_of_b(image: xr.DataArray) -> str:
    """Return the name of the coordinate of b-values: sorted by something else, an image has them as an element."""
    return "b" if "b" in image.coords else "DiffusionBValue"


def _close(mine: NDArray[np.float64], theirs: NDArray[np.float64], within: float) -> NDArray[np.bool_]:
    """Return which rows of one array are those of another, (n, m); NaN is NaN."""
    one, other = mine[:, None], theirs[None]
    same: NDArray[np.bool_] = (np.abs(one - other) <= within) | (np.isnan(one) & np.isnan(other))
    return np.asarray(same.all(axis=-1))


def _other_diffusion(
    da: xr.DataArray, like: xr.DataArray, dim: str, agree: NDArray[np.bool_], number: int
) -> PairingError:
    """Return the error for a volume of the image that no, another or more than one volume of the template is."""

    def shown(image: xr.DataArray) -> str:
        name = _name_of_b(image) if _name_of_b(image) in image.coords else "bx"
        return f"{name} {_list(np.atleast_1d(image.coords[name].values).ravel())}"

    same = np.flatnonzero(agree[number]).tolist()
    found = f"volumes {same} of the template have" if same else "no volume of the template has"
    return PairingError(
        f"the image has {shown(da)}, the template {shown(like)}: {found} b-value and direction of the image's volume "
        f"{number}. Sort or select the volumes of one like those of the other, as in template.isel({dim}=[...]); if "
        f"what the image tells of diffusion is wrong, drop it: image.drop_vars({list(DIFFUSION)}, errors='ignore')"
    )


def partners(da: xr.DataArray, like: xr.DataArray, dim: str, *, extend: bool) -> NDArray[np.intp] | None:
    """Return the number of the template's volume for each of the image's along a dim; None if they have none in common.

    Raises
    ------
    PairingError
        If a volume has no partner.
    """
    counted = dim in da.coords and are_counted_from_first(da.coords[dim])
    if dim not in like.coords or dim not in da.coords or (counted and _is_counted(da, dim)):
        sizes = da.sizes[dim], like.sizes[dim]
        if sizes[0] == sizes[1]:
            return np.arange(sizes[0])
        if extend and sizes[0] > sizes[1]:
            return None
        msg = (
            f"the image has {sizes[0]} along {dim}, the template {sizes[1]}, and no labels tell which correspond: "
            f"select those of the template, as in template.isel({dim}=[...])"
        )
        raise PairingError(msg)
    index = TagIndex.for_dim(dim, like.coords[dim].values)
    own = TagIndex.for_dim(dim, da.coords[dim].values)
    mine, theirs = own.index, index.index
    if mine.dtype.kind in "iuf" and theirs.dtype.kind in "iuf":
        start = float(theirs[0] - mine[0]) if counted else 0.0
        distance = np.abs(np.subtract.outer(mine.to_numpy(float) + start, theirs.to_numpy(float)))
        nearest = distance.argmin(axis=1)
        fits = distance[range(mine.size), nearest] <= index.tolerance
    else:
        nearest = theirs.get_indexer(mine)
        fits = nearest >= 0
    if extend and mine.size > theirs.size and fits[: theirs.size].all():
        return None
    if not (fits.all() and len(set(nearest.tolist())) == mine.size) or (counted and mine.size != theirs.size):
        raise _no_partners(mine, theirs, dim, counted=counted)
    agree = _diffusion_agrees(da, like, dim)
    if agree is not None and not (right := agree[range(mine.size), nearest]).all():
        raise _other_diffusion(da, like, dim, agree, int(right.argmin()))
    return np.asarray(nearest, np.intp)


def _no_partners(mine: pd.Index, theirs: pd.Index, dim: str, *, counted: bool) -> PairingError:
    """Return the error for labels that are not those of the template."""
    if counted:
        as_many = mine.size == theirs.size
        return PairingError(
            f"the image has {dim} {_list(mine)}, counted from the first volume by the step in its file, the template "
            f"{_list(theirs)}: only as many volumes at the same steps correspond. "
            + ("If they do nevertheless, open the image with order='volume'; else select " if as_many else "Select ")
            + f"those of the template, as in template.isel({dim}=[...])"
        )
    return PairingError(
        f"the image has {dim} {_list(mine)}, the template {_list(theirs)}: each volume of the image needs one of the "
        f"template. Select or relabel them, as in image.assign_coords({dim}=template.{dim}); more volumes are "
        "allowed with extend=True of open_series and copy_headers"
    )


def _list(labels: pd.Index | NDArray[Any]) -> str:
    shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in labels[:6].tolist()]
    return f"[{', '.join(shown)}{', ...' if len(labels) > 6 else ''}]"
