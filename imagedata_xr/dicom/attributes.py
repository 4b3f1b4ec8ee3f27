"""Attributes of an image of several series that are those of one of them alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from imagedata_xr.dicom.basis import as_text
from imagedata_xr.dicom.identity import OF_SERIES, several_series
from imagedata_xr.dicom.label_elements import SAME_LABEL, label_element
from imagedata_xr.elements import to_value
from imagedata_xr.errors import ConflictingOriginError
from imagedata_xr.frame_headers import grouped_elements
from imagedata_xr.headers import header_values, source_dataset
from imagedata_xr.names import WINDOW_KEYWORDS
from imagedata_xr.origins import OF_UNITS, assign_origins, origins
from imagedata_xr.streams import dcmread

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator

    import xarray as xr
    from pydicom import Dataset

__all__ = ["check_attributes"]

_MAY_DIFFER: Final = frozenset(
    (
        *OF_SERIES,  # a new series has one value of each
        *("SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber", "InstanceCreationDate", "InstanceCreationTime"),
        *("SpecificCharacterSet", "ImageOrientationPatient", "FrameOfReferenceUID"),
        *("IssuerOfPatientID", "AccessionNumber"),
        *WINDOW_KEYWORDS,
    )
)
"""Elements that are written anew, are looked at elsewhere, or say nothing of values."""
_OF_EXAMINATION: Final = ("Patient", "Study")
"""How keywords begin of elements that are of the patient or study, and so of all series."""


def check_attributes(
    image: xr.DataArray, *, template: xr.DataArray | None = None, only: Collection[str] | None = None
) -> None:
    """Raise ConflictingOriginError where an attribute is that of one series alone, and frames are of several.

    `xarray.concat` keeps the attributes of the first image for all, and so do ``where``, ``fillna`` and
    ``combine_first``, after which units of values are looked at: no header tells them.

    Parameters
    ----------
    image : DataArray
        With the dims (tag dims..., ``slice``, ``row``, ``col``).
    template : DataArray, optional
        Image whose headers are used: a unit that it has, too, is meant.
    only : collection of str, optional
        The attributes that are written; None if all are.
    """
    _check_units(image, template, OF_UNITS if only is None else only)
    if not several_series(image) or "source" not in image.coords:
        return
    left_out = {*_MAY_DIFFER, *_of_labels(image), *image.coords}
    names = [
        str(name)
        for name in header_values(image)
        if name in image.attrs and name not in left_out and not name.startswith(_OF_EXAMINATION)
    ]
    if only is not None:
        names = [name for name in names if name in only]
    told: dict[str, dict[str, set[str]]] = {}
    for ds in _headers(image):
        of_series = told.setdefault(str(ds.get("SeriesInstanceUID", "")), {name: set() for name in names})
        groups = grouped_elements(ds)
        for name in names:
            item, keyword = groups.get(name, (ds, name))
            of_series[name].add(as_text(to_value(item[keyword])) if keyword in item else "")
    found = {}
    for name in names:
        are_told = [as_text(image.attrs[name]) in of_series[name] for of_series in told.values()]
        if any(are_told) and not all(are_told):
            found[name] = set().union(*(of_series[name] for of_series in told.values()))
    if not found:
        return
    name, *others = found
    values = ", ".join(text or "nothing" for text in sorted(found[name])[:4])
    raise ConflictingOriginError(
        f"the attribute {name} is {image.attrs[name]!r}, but files of the {len(told)} series that frames are of tell "
        f"{values}{'; likewise ' + ', '.join(others) if others else ''}. xarray.concat keeps the attributes of the "
        "first image for all, imagedata_xr.concat those of each. Where one is right for all say so by a coordinate, "
        f"image.assign_coords({name}=...)"
    )


def _check_units(image: xr.DataArray, template: xr.DataArray | None, written: Collection[str]) -> None:
    """Raise where an image of series in several units has the unit of one of them.

    Nothing tells whether voxels of another are in it, or it was only a mask, as in ``image.where(other > 5)``. A CT,
    whose unit is another element, is taken for a mask of a PET unless values are below 0, as those of HU are and
    activity is not.
    """
    told = [origin.Unit.partition(" ") for origin in origins(image)]
    for name in OF_UNITS:
        known = sorted({unit for element, _, unit in told if element == name})
        unit = image.attrs.get(name)
        is_meant = template is not None and template.attrs.get(name) == unit
        if len(known) > 1 and unit in known and name in written and name not in image.coords and not is_meant:
            raise ConflictingOriginError(
                f"the attribute {name} is {unit!r}, but the image was made of series in {', '.join(known)}: where, "
                "fillna and combine_first keep the unit of the first image, and a further operand brings back its own. "
                "So does a mask, whose unit is none of the values. "
                f"Say which values are in by a coordinate, image.assign_coords({name}={unit!r}) if they are in this"
            )
        is_one = not is_meant and unit in known and name in written and name not in image.coords
        is_of_ct = name == "Units" and ("RescaleType", " ", "HU") in told
        if is_of_ct and is_one and image.dtype.kind in "if" and bool((image.variable < 0).any()):
            raise ConflictingOriginError(
                f"the attribute Units is {unit!r}, but the image was made of a CT in HU, too, and has values below 0, "
                "as where and fillna leave an image into which they put HU. Say which values are in by a coordinate, "
                f"image.assign_coords(Units={unit!r}) if they are in this, as those of a difference are"
            )


def _of_labels(image: xr.DataArray) -> set[str]:
    """Return the elements that labels tell."""
    dims = [dim for dim in image.dims[: image.dims.index("slice")] if dim in image.coords]
    return {label_element(image.coords[dim])[0] for dim in dims} | {SAME_LABEL.get(str(dim), "") for dim in dims}


def _headers(image: xr.DataArray) -> Iterator[Dataset]:
    """Yield a header of each file along one line of each dim; what was put together along it is seen there."""
    source = image.coords["source"]
    alone = assign_origins(image, [])  # a frame made of several series is taken for one that has no file
    first: dict[Hashable, int] = {dim: 0 for dim in image.dims if dim not in ("row", "col")}
    known = {""}
    for dim in source.dims:
        line = source.isel({other: 0 for other in source.dims if other != dim})
        for number, path in enumerate(map(str, line.values.tolist())):
            if path in known:
                continue
            known.add(path)
            with suppress(OSError):
                frame = alone.isel({**first, dim: number})
                if "SOPInstanceUID" in frame.attrs:  # of a file of many frames, and so of the first image, too
                    uid = dcmread(path, stop_before_pixels=True, force=True).get("SOPInstanceUID", "")
                    frame = frame.assign_attrs(SOPInstanceUID=str(uid))
                ds = source_dataset(frame)
                if ds is not None:
                    yield ds
