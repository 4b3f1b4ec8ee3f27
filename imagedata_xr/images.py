"""What is an image, and how one comes to it from what is none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import xarray as xr

__all__ = ["listed", "require_image", "require_pictures"]


def listed(images: object) -> list[Any]:
    """Return what was given as images as a list, for `require_image` to look at each.

    Parameters
    ----------
    images : DataArray or iterable of these
        One, or several; also what is none.

    Examples
    --------
    >>> len(listed(xr.DataArray([1, 2]))), len(listed([xr.DataArray(1)] * 2)), listed(3)
    (1, 2, [3])
    """
    if not isinstance(images, Iterable) or isinstance(images, xr.DataArray | xr.Dataset | xr.DataTree | str):
        return [images]
    return list(images)


def require_pictures(da: xr.DataArray) -> None:
    """Raise a ValueError for an array without rows or columns, whose slices lie along another dim, or without a voxel.

    Examples
    --------
    >>> require_pictures(xr.DataArray([1, 2], dims="col"))
    Traceback (most recent call last):
        ...
    ValueError: an image has the dims row and col, this one has ('col',): keep row as a dim of one, such as ...
    """
    missing = [dim for dim in ("row", "col") if dim not in da.dims]
    if missing:
        msg = (
            f"an image has the dims row and col, this one has {da.dims}: keep {missing[0]} as a dim of one, "
            f"such as image.isel({missing[0]}=[0]); before you project along {missing[0]} make it slices, "
            "image.dicom.to_patient_orientation(...)"
        )
        raise ValueError(msg)
    if "slice" not in da.dims and "slice" in da.coords and da.coords["slice"].ndim:
        along = str(da.coords["slice"].dims[0])
        if da.coords["slice"].ndim > 1:
            msg = (
                "voxels of one picture are of several slices, as where isel chose one for each: the image has no "
                "place. Give it one with image.drop_vars('slice').dicom.assign_geometry(other)"
            )
            raise ValueError(msg)
        msg = (
            f"slices lie along {along!r}: make slice a dim again, image.swap_dims({along}='slice'), or "
            f"image.unstack({along!r}) after stack"
        )
        raise ValueError(msg)
    if not da.size:
        msg = f"the image is empty, its sizes are {dict(da.sizes)}: select something"
        raise ValueError(msg)


def require_image(value: object, name: str = "this") -> None:
    """Raise a TypeError for what is no DataArray, which says how to come to one.

    Examples
    --------
    >>> require_image("a.nii", "the mask")
    Traceback (most recent call last):
        ...
    TypeError: a DataArray is wanted, the mask is of type str: imagedata_xr.open_series opens what is at a path
    """
    if isinstance(value, xr.DataArray):
        return
    if isinstance(value, xr.DataTree):
        nodes = [node.path for node in value.subtree if "image" in node.data_vars]
        one = f"tree[{nodes[0]!r}]['image']" if nodes else "tree[path]['image']"
        how = f"take its images one by one, as {one}; it has {len(nodes)}"
    elif isinstance(value, xr.Dataset):
        names = ", ".join(map(repr, value.data_vars)) or "none"
        how = f"take one of its variables, as dataset['image']; it has {names}"
    elif isinstance(value, str | os.PathLike):
        how = "imagedata_xr.open_series opens what is at a path"
    elif isinstance(value, list | tuple) and any(isinstance(one, xr.DataArray) for one in value):
        how = "take its images one by one, or imagedata_xr.concat(images, dim) to make one of them"
    elif value is None:
        how = "a function that returns nothing may have given it"
    else:
        how = (
            "imagedata_xr.from_array(values, template=image, geometry=image) makes one of plain values, with the "
            "header and the place of another"
        )
    msg = f"a DataArray is wanted, {name} is {'None' if value is None else f'of type {type(value).__name__}'}: {how}"
    raise TypeError(msg)
