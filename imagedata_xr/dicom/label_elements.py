"""The labels of a frame along the tag dims to the elements that hold them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.dates import parse_time, time_text
from imagedata_xr.elements import tag, to_element, to_value, vr_of
from imagedata_xr.errors import MissingHeaderError
from imagedata_xr.keywords import is_keyword
from imagedata_xr.names import TAG_DIMS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    import xarray as xr
    from pydicom import Dataset

__all__ = ["GRADIENT", "LABELS", "SAME_LABEL", "label_element", "no_element", "set_labels"]

# Keyword of each tag dim or coordinate, and the factor from its unit to that of the element.
LABELS: Final = {
    "b": ("DiffusionBValue", 1.0),
    "te": ("EchoTime", 1.0),
    "fa": ("FlipAngle", 1.0),
    "triggertime": ("TriggerTime", 1000.0),
}
GRADIENT: Final = ("bx", "by", "bz")
SAME_LABEL: Final = {"te": "EffectiveEchoTime", "triggertime": "NominalCardiacTriggerDelayTime"}
"""Element that tells a label where its own is absent."""
_DAY: Final = 86_400
_NUMBERS: Final = ("DS", "IS", "FD", "FL", "US", "SS", "UL", "SL")


def set_labels(
    ds: Dataset,
    frame: xr.DataArray,
    tag_dims: Iterable[Hashable],
    *,
    described: bool,
    add: bool,
    new_diffusion: bool = False,
) -> None:
    """Put the labels of a frame along the tag dims in their standard elements, where these say otherwise.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    frame : DataArray
        The frame, with the labels as scalar coordinates.
    tag_dims : iterable of str
        Tag dims of the image.
    described : bool
        Whether the header was made from attrs and coordinates alone, so that the labels must all be in it.
    add : bool
        Whether elements that the header lacks are added, or only those changed that it has.
    new_diffusion : bool
        Whether the b-value is added in any case.

    Raises
    ------
    MissingHeaderError
        If no element can hold a label that would be lost.
    ValueError
        If a label is no time of day, as its element wants.
    """
    names = [*tag_dims, *(name for name in LABELS if name in frame.coords and name not in tag_dims)]
    for dim in map(str, names):
        label = frame.coords[dim].item() if dim in frame.coords else None
        if label is None or label != label:
            continue
        if dim == "image_type":
            if add:
                _set_kind(ds, str(label).split("_"))
            continue
        name, factor = label_element(frame.coords[dim])
        if not name:
            if described and dim not in TAG_DIMS:
                raise no_element(dim)
        elif name not in ds:
            # An original may have it elsewhere, and what does not is what the user has labelled.
            same = SAME_LABEL.get(dim, "")
            elsewhere = any(t.is_private for t in ds.keys()) if dim == "b" else same in ds  # noqa: SIM118 - a Dataset iterates over elements
            if same in ds and (add or dim == "te"):
                _set_label(ds, same, label, factor)
            if add or (new_diffusion and dim == "b") or not elsewhere:
                _set_label(ds, name, label, factor)
        elif dim != "triggertime":  # of a volume, whose slices may have each their own
            _set_label(ds, name, label, factor)
            if SAME_LABEL.get(dim, "") in ds:
                _set_label(ds, SAME_LABEL[dim], label, factor)


def label_element(labels: xr.DataArray) -> tuple[str, float]:
    """Return the keyword of the element that holds the labels of a dim, "" if none does, and the factor to its unit.

    It is the one that the dim is named after, or that a user has named the dim for: a number, in the element's unit.
    """
    dim = str(labels.name)
    if dim in LABELS:
        return LABELS[dim]
    if is_keyword(dim):
        return dim, 1.0
    element = str(labels.attrs.get("element", ""))
    if dim in TAG_DIMS or "units" in labels.attrs or not is_keyword(element) or vr_of(tag(element)) not in _NUMBERS:
        return "", 1.0
    return element, 1.0


def no_element(dim: Hashable) -> MissingHeaderError:
    """Return the error for a dim whose labels no element holds."""
    return MissingHeaderError(
        f"no DICOM element is named {dim!r}, so its labels would be lost: rename the dim to the "
        f"keyword it means, such as image.rename({dim}='InversionTime'), or give template="
    )


def _set_kind(ds: Dataset, label: list[str]) -> None:
    """Put the kind of an image in ImageType, from the third value on, unless that says it already."""
    found = ds.get("ImageType") or []
    kind = [str(part) for part in ([found] if isinstance(found, str) else found)]
    if not kind:
        ds.ImageType = ["DERIVED", "SECONDARY", *label]
    elif not set(label) <= set("_".join(kind).split("_")):
        ds.ImageType = [*[*kind[:2], "SECONDARY"][:2], *label, *kind[2 + len(label) :]]


def _set_label(ds: Dataset, name: str, label: Any, factor: float) -> None:
    """Set an element to a label, unless it says that already."""
    if not isinstance(label, int | float):
        ds.add(to_element(name, label))
    elif vr_of(tag(name)) == "TM":
        _set_time_of_day(ds, name, label)
    else:
        _set_number(ds, name, label * factor)


def _set_time_of_day(ds: Dataset, name: str, seconds: float) -> None:
    """Set an element to a time of day unless it is that already."""
    if not 0 <= seconds < _DAY:
        raise ValueError(f"{name} is a time of day, 0 to {_DAY} s, and cannot hold the label {seconds:g}")
    found = parse_time(str(ds.get(name) or ""))
    if found is None or abs(found - seconds) > 1e-6:
        ds.add(to_element(name, time_text(datetime.min + timedelta(seconds=seconds))))


def _set_number(ds: Dataset, name: str, value: float) -> None:
    """Set an element to a number unless it is that already."""
    if name in ds:
        found = to_value(ds[name])
        if isinstance(found, int | float) and abs(found - value) <= 1e-6 * abs(value):
            return
    ds.add(to_element(name, value))
