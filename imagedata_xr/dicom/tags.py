"""What an `order` asks for: names of tag dims, and how each frame's value along them is found."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.elements import keyword, parse_date, parse_datetime, parse_time, tag, vr_of
from imagedata_xr.errors import OrderError
from imagedata_xr.names import SPATIAL_DIMS, TAG_DIMS, TAG_UNITS

if TYPE_CHECKING:
    from pydicom import Dataset

    from imagedata_xr.dicom.scan import FrameTable

__all__ = ["AUTO", "EPOCH", "Label", "Order", "TagDim", "WayToTell", "parse_order", "tag_dim"]

Label = float | int | str
Order = str | int | Callable[["Dataset"], Label] | Sequence[Any] | Mapping[str, Any]
AUTO: Final = "auto"
_PART: Final = re.compile(r"\(?\b[0-9A-Fa-f]{4}\s*,\s*[0-9A-Fa-f]{4}\b\)?|[^,]+")
"""A part of an order; a tag has a comma of its own."""
EPOCH: Final = datetime(1970, 1, 1)


@dataclass(frozen=True)
class WayToTell:
    """One way to tell the label of a frame along a dim."""

    elements: str
    """The DICOM elements it looks at."""
    labels: Callable[[FrameTable], list[Label | None]]
    units: str | None = None
    """None where the labels are numbers without a unit, or names."""
    is_clock: bool = False
    """Whether labels are seconds since `EPOCH`."""


@dataclass(frozen=True)
class TagDim:
    """A tag dim: its name, and the ways to tell it, best first."""

    name: str
    ways: tuple[WayToTell, ...]
    flows: bool = False
    """Whether labels go on from slice to slice within a volume, as times do; volumes then are counted per slice."""


def _number(table: FrameTable, name: str, scale: float = 1.0) -> list[Label | None]:
    return [v * scale if isinstance(v, int | float) else None for v in table.values(name)]


def _numbers(name: str, units: str | None = None, scale: float = 1.0) -> WayToTell:
    return WayToTell(name, lambda table: _number(table, name, scale), units)


def _seconds(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(seconds=1)


def _moments(table: FrameTable, name: str) -> list[Label | None]:
    """Return the seconds since the epoch of a DT element."""
    parsed = (parse_datetime(v) if isinstance(v, str) else None for v in table.values(name))
    return [None if moment is None else _seconds(moment) for moment in parsed]


def _clock(table: FrameTable, day: str, time: str) -> list[Label | None]:
    """Return the seconds since the epoch of a DA and a TM element.

    Scanners leave the date as it was when a series runs past midnight. No series lasts half a day: where the times of
    one day lie further apart than that, the early ones are of the next day.
    """
    days, times = table.values(day), table.values(time)
    found: list[float | None] = []
    for d, t in zip(days, times, strict=True):
        seconds = parse_time(t) if isinstance(t, str) else None
        date = parse_date(d) if isinstance(d, str) else None
        start = 0.0 if date is None else _seconds(datetime(date.year, date.month, date.day))
        found.append(None if seconds is None else start + seconds)
    there = sorted({v for v in found if v is not None})
    if there and there[-1] - there[0] > 43200 and len(set(map(str, days))) == 1:
        gap, before = max((b - a, b) for a, b in itertools.pairwise(there))
        if gap > 43200:
            found = [v + 86400 if v is not None and v < before else v for v in found]
    return list(found)


def _time_ways() -> tuple[WayToTell, ...]:
    def clock(name: str) -> WayToTell:
        return WayToTell(
            f"{name}Date + {name}Time", lambda t: _clock(t, f"{name}Date", f"{name}Time"), "s", is_clock=True
        )

    def moment(name: str) -> WayToTell:
        return WayToTell(name, lambda t: _moments(t, name), "s", is_clock=True)

    return (
        moment("AcquisitionDateTime"),
        clock("Acquisition"),
        _numbers("TriggerTime", "s", 1e-3),
        clock("Content"),
        _numbers("TemporalPositionIdentifier"),
    )


def _image_types(table: FrameTable) -> list[Label | None]:
    """Return of each ImageType the components that differ between frames, joined by "_"."""
    types = [v if isinstance(v, list) else [v or ""] for v in table.values("ImageType")]
    width = max((len(t) for t in types), default=0)
    padded = [[str(p) for p in t] + [""] * (width - len(t)) for t in types]
    vary = [k for k in range(width) if len({p[k] for p in padded}) > 1]
    # Where nothing differs, the third value is what tells magnitude from phase in most series (PS3.3 C.8.3.1.1.1).
    chosen = vary or ([2] if width > 2 else list(range(width)))
    return ["_".join(p[k] for k in chosen if p[k]) for p in padded]


_KNOWN: Final = {
    "time": TagDim("time", _time_ways(), flows=True),
    "triggertime": TagDim(
        "triggertime",
        (_numbers("TriggerTime", "s", 1e-3), _numbers("NominalCardiacTriggerDelayTime", "s", 1e-3)),
        flows=True,
    ),
    "b": TagDim("b", (_numbers("DiffusionBValue", TAG_UNITS["b"]),)),
    "fa": TagDim("fa", (_numbers("FlipAngle", TAG_UNITS["fa"]),)),
    "te": TagDim("te", (_numbers("EchoTime", TAG_UNITS["te"]), _numbers("EffectiveEchoTime", TAG_UNITS["te"]))),
    "image_type": TagDim("image_type", (WayToTell("ImageType", _image_types),)),
}


def _element_dim(name: str, element: str | int) -> TagDim:
    """Return the dim of an element named by keyword or tag."""
    try:
        number = tag(element)
    except ValueError as err:
        msg = (
            f"order {name!r}: {err}. Known orders are none, auto, {', '.join(_KNOWN)}; others are given as keyword, "
            "tag, or {name: keyword, tag or function}"
        )
        raise OrderError(msg) from None
    told = keyword(number) or f"({number >> 16:04x},{number & 0xFFFF:04x})"

    def labels(table: FrameTable) -> list[Label | None]:
        if (number >> 16) & 1:
            return _by_dataset(table, lambda ds: _plain_label(ds[number].value) if number in ds else None)
        values = table.values(number)
        if vr_of(number) == "TM":
            return [parse_time(v) if isinstance(v, str) else None for v in values]
        return [None if v is None or v == "" else _plain_label(v) for v in values]

    return TagDim(name, (WayToTell(told, labels, "s" if vr_of(number) == "TM" else None),))


def _plain_label(value: Any) -> Label:
    """Return a value as a label: a number, or text (several values joined by a backslash)."""
    if isinstance(value, bool | int | float):
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, list | tuple) or (hasattr(value, "__iter__") and not isinstance(value, str | bytes)):
        return "\\".join(str(_plain_label(v)) for v in value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _by_dataset(table: FrameTable, function: Callable[[Dataset], Any]) -> list[Label | None]:
    """Return what a function says of the header of each frame."""
    import pydicom

    found: list[Label | None] = []
    for path in table.paths:
        label = function(pydicom.dcmread(path, stop_before_pixels=True, force=True))
        found.append(None if label is None else _plain_label(label))
    return found


def tag_dim(name: str, how: Any = None) -> TagDim:
    """Return the tag dim of a name, told by the element, tag or function `how`, or as the name says."""
    if name in SPATIAL_DIMS:
        msg = f"{name!r} cannot be a tag dim: it is a dim of the image itself"
        raise OrderError(msg)
    if callable(how):
        return TagDim(name, (WayToTell(getattr(how, "__name__", "a function"), lambda t: _by_dataset(t, how)),))
    if isinstance(how, str) and how in _KNOWN:
        known = _KNOWN[how]
        return TagDim(name, known.ways, known.flows)
    if how is None and name in _KNOWN:
        return _KNOWN[name]
    if how is None and name in TAG_DIMS:
        msg = f"order {name!r} is not known for these files"
        raise OrderError(msg)
    return _element_dim(name, name if how is None else how)


def parse_order(order: Order) -> tuple[TagDim, ...] | None:
    """Return the tag dims of an order, none for ``"none"``; None for ``"auto"``.

    Parameters
    ----------
    order : str, int, callable, mapping, or sequence of these
        ``"none"``, ``"auto"``, a known dim (``"time"``), a DICOM keyword, a tag, a function of a `pydicom.Dataset`,
        ``{"ti": "InversionTime"}`` to name the dim, or several: ``"time,te"``, ``["time", {"ti": 0x00180082}]``.

    Raises
    ------
    OrderError
        If a part of it is none of these, or comes twice.

    Examples
    --------
    >>> [dim.name for dim in parse_order("time,te")], parse_order("none"), parse_order("auto")
    (['time', 'te'], (), None)
    """
    if isinstance(order, str) and order.strip() == AUTO:
        return None
    dims = tuple(_dims(order))
    names = [dim.name for dim in dims]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        msg = f"order names {', '.join(sorted(twice))} more than once"
        raise OrderError(msg)
    return dims


def _dims(order: Order) -> list[TagDim]:
    if isinstance(order, str):
        names = [part.strip() for part in _PART.findall(order)]
        return [tag_dim(name) for name in names if name not in ("", "none")]
    if isinstance(order, Mapping):
        return [tag_dim(str(name), how) for name, how in order.items()]
    if isinstance(order, int):
        return [tag_dim(keyword(order) or f"{order:08X}", order)]
    if callable(order):
        return [tag_dim(order.__name__, order)]
    if isinstance(order, Sequence):
        return [dim for part in order for dim in _dims(part)]
    msg = f"order is a name, tag, function, mapping or sequence of these, not {type(order).__name__}"
    raise OrderError(msg)
