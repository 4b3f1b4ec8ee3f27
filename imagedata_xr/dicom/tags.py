"""What an `order` asks for: names of tag dims, and how each frame's value along them is found."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from imagedata_xr.arguments import ask_header
from imagedata_xr.dates import parse_date, parse_datetime, parse_time, parse_zone
from imagedata_xr.dicom.vendors import diffusion, image_kinds
from imagedata_xr.elements import keyword, tag, vr_of
from imagedata_xr.errors import OrderError
from imagedata_xr.frame_headers import keep_frame, own_groups
from imagedata_xr.keywords import keyword_meant
from imagedata_xr.names import SPATIAL_DIMS, TAG_DIMS, TAG_UNITS
from imagedata_xr.streams import dcmread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.elements import Value

__all__ = [
    "AUTO",
    "EPOCH",
    "Label",
    "Order",
    "TagDim",
    "WayToTell",
    "has_segments",
    "meant",
    "parse_order",
    "tag_dim",
    "zone_of",
]

Label = float | int | str
Order = str | int | Callable[["Dataset"], Label] | Sequence[Any] | Mapping[str, Any]
AUTO: Final = "auto"
_PART: Final = re.compile(r"(?:[^,=]+=\s*)?\(?\b[0-9A-Fa-f]{4}\s*,\s*[0-9A-Fa-f]{4}\b\)?|[^,]+")
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
    on_request: bool = False
    """Whether it counts volumes more than it tells them, and is used only for a user who names the dim."""


@dataclass(frozen=True)
class TagDim:
    """A tag dim: its name, and the ways to tell it, best first."""

    name: str
    ways: tuple[WayToTell, ...]
    flows: bool = False
    """Whether labels go on from slice to slice within a volume, as times do; volumes then are counted per slice."""
    numbered: Literal["", "bvector", "dti"] = ""
    """Whether labels are numbers, of gradient directions or of diffusion volumes, with coordinates that say more."""


def _number(table: FrameTable, name: str, scale: float = 1.0) -> list[Label | None]:
    codes, values = table.codes(name)
    numbers = [v * scale if isinstance(v, int | float) else None for v in values]
    return [numbers[code] for code in codes.tolist()]


def _numbers(name: str, units: str | None = None, scale: float = 1.0) -> WayToTell:
    return WayToTell(name, lambda table: _number(table, name, scale), units)


def _seconds(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(seconds=1)


def _moments(table: FrameTable, name: str) -> list[Label | None]:
    """Return the seconds since the epoch of a DT element; none at all where only some name their time zone.

    TimezoneOffsetFromUTC is that of the moments without one of their own (PS3.3 C.12.1.1.8).
    """
    codes, values = table.codes(name)
    if not any(values):
        return [None] * len(table)
    texts = [str(v) if v else "" for v in values]
    if any(map(_names_zone, texts)) or _zones(table) is not None:
        zones = [str(zone or "").strip() for zone in table.values("TimezoneOffsetFromUTC")]
        each = [(texts[code], zone) for code, zone in zip(codes.tolist(), zones, strict=True)]
        texts = [text if not text or _names_zone(text) else text.strip() + zone for text, zone in each]
        if any(text and not _names_zone(text) for text in texts):
            return [None] * len(table)
        codes = np.arange(len(table))
    parsed = [None if moment is None else _seconds(moment) for moment in map(parse_datetime, texts)]
    return [parsed[code] for code in codes.tolist()]


def _names_zone(text: str) -> bool:
    return "+" in text or "-" in text


def zone_of(table: FrameTable, elements: str, row: int) -> str:
    """Return the time zone of a frame's dates and times, where its moments are told in UTC; "" where they are not.

    Parameters
    ----------
    table : FrameTable
        Frames.
    elements : str
        Of the way that tells their moments.
    row : int
        The frame.
    """
    is_utc, own = _zones(table) is not None, ""
    if "+" not in elements:
        texts = [str(value or "") for value in table.values(elements)]
        is_utc, own = is_utc or any(map(_names_zone, texts)), texts[row].strip()[-5:]
    zone = str(table.values("TimezoneOffsetFromUTC")[row] or own).strip()
    return zone if is_utc and parse_zone(zone) is not None else ""


def _temporal_positions(table: FrameTable) -> list[Label | None]:
    """Return the seconds since the first temporal position, where TemporalResolution [ms] tells their distance."""
    step = table.value("TemporalResolution")
    if not isinstance(step, int | float) or not step > 0:
        return [None] * len(table)
    return [(v - 1) * step * 1e-3 if isinstance(v, int) else None for v in table.values("TemporalPositionIdentifier")]


def _zones(table: FrameTable) -> NDArray[np.float64] | None:
    """Return the seconds by which each frame's clock is ahead of UTC; None unless all frames tell their time zone.

    Not only where it varies, as at the end of summer time: the part of a series that has one zone starts at the same
    moment as it does in the whole.
    """
    codes, values = table.codes("TimezoneOffsetFromUTC")
    ahead = [parse_zone(str(v or "")) for v in values]
    known = [zone.total_seconds() for zone in ahead if zone is not None]
    return np.asarray(known)[codes] if len(known) == len(ahead) else None


def _midnight(day: Value | None) -> float:
    """Return the seconds since the epoch at which a day begins, NaN of one that is not told."""
    date = parse_date(day) if isinstance(day, str) else None
    return math.nan if date is None else _seconds(datetime(date.year, date.month, date.day))


def _since_midnight(time: Value | None) -> float:
    """Return the seconds since midnight, NaN of a time that is not told."""
    seconds = parse_time(time) if isinstance(time, str) else None
    return math.nan if seconds is None else seconds


def _clock(table: FrameTable, day: str, time: str) -> list[Label | None]:
    """Return the seconds since the epoch of a DA and a TM element.

    Scanners leave the date as it was when a series runs past midnight. No series lasts half a day: where the times of
    one day lie further apart than that, the early ones are of the next day. Where only some frames have a date, the
    others have no moment: their times of day alone would put them before all of these.
    """
    (of_day, days), (of_time, times) = table.codes(day), table.codes(time)
    seconds = np.asarray([_since_midnight(value) for value in times])[of_time]
    begins = np.asarray([_midnight(value) for value in days])
    if np.isnan(begins).all():
        begins[:] = 0.0
    found = begins[of_day] + seconds
    zones = _zones(table)
    if zones is not None:
        found -= zones
    there = np.unique(found[~np.isnan(found)]).tolist()
    if there and there[-1] - there[0] > 43200 and len(set(map(str, days))) == 1:
        gap, before = max((b - a, b) for a, b in itertools.pairwise(there))
        if gap > 43200:
            found = np.where(found < before, found + 86400, found)
    return [None if v != v else v for v in found.tolist()]


def _frame_times(table: FrameTable) -> list[Label | None]:
    """Return the seconds since the first frame of a cine of constant frame time; none if others are pointed to."""
    vector = f"{tag('FrameTimeVector'):08X}"
    are_others = [vector in str(value).upper() for value in table.values("FrameIncrementPointer")]
    times = zip(table.values("FrameTime"), are_others, table.frames.tolist(), strict=True)
    return [
        v * number * 1e-3 if isinstance(v, int | float) and v > 0 and not others else None
        for v, others, number in times
    ]


def _summed_frame_times(table: FrameTable) -> list[Label | None]:
    """Return the seconds since the first frame of a cine with the time of each frame after the one before."""
    found: list[Label | None] = []
    for steps, number in zip(table.values("FrameTimeVector"), table.frames.tolist(), strict=True):
        known = isinstance(steps, list) and number < len(steps) and all(isinstance(v, int | float) for v in steps)
        found.append(sum(float(v) for v in steps[1 : number + 1]) * 1e-3 if known and isinstance(steps, list) else None)
    return found


def _time_ways() -> tuple[WayToTell, ...]:
    def clock(name: str) -> WayToTell:
        return WayToTell(
            f"{name}Date + {name}Time", lambda t: _clock(t, f"{name}Date", f"{name}Time"), "s", is_clock=True
        )

    def moment(name: str) -> WayToTell:
        return WayToTell(name, lambda t: _moments(t, name), "s", is_clock=True)

    return (
        moment("FrameAcquisitionDateTime"),
        moment("FrameReferenceDateTime"),
        _numbers("TemporalPositionTimeOffset", "s"),
        moment("AcquisitionDateTime"),
        clock("Acquisition"),
        _numbers("FrameReferenceTime", "s", 1e-3),
        _numbers("TriggerTime", "s", 1e-3),
        clock("Content"),
        WayToTell("FrameTime", _frame_times, "s"),
        WayToTell("FrameTimeVector", _summed_frame_times, "s"),
        WayToTell("TemporalPositionIdentifier * TemporalResolution", _temporal_positions, "s"),
        _numbers("TemporalPositionIdentifier"),
        _numbers("TemporalPositionIndex"),
        replace(_numbers("AcquisitionNumber"), on_request=True),
    )


def _image_types(table: FrameTable) -> list[Label | None]:
    """Return the components of ImageType that differ between frames, joined by "_"; also M, P, R, I if these do."""
    types = [v if isinstance(v, list) else [v or ""] for v in table.values("ImageType")]
    width = max((len(t) for t in types), default=0)
    padded = [[str(p) for p in t] + [""] * (width - len(t)) for t in types]
    vary = [k for k in range(width) if len({p[k] for p in padded}) > 1]
    # Where nothing differs, the third value is what tells magnitude from phase in most series (PS3.3 C.8.3.1.1.1).
    chosen = vary or ([2] if width > 2 else list(range(width)))
    labels = ["_".join(p[k] for k in chosen if p[k]) for p in padded]
    kinds = image_kinds(table)
    if len(set(zip(labels, kinds, strict=True))) > len(set(labels)):
        labels = [f"{a}_{b}" if a and b and vary else b or a for a, b in zip(labels, kinds, strict=True)]
    return list(labels)


def _b_values(table: FrameTable) -> list[Label | None]:
    return list(diffusion(table).b)


def _directions(table: FrameTable) -> list[Label | None]:
    return [None if d is None else "\\".join(map(str, d)) for d in diffusion(table).directions]


_B_VALUE: Final = WayToTell("DiffusionBValue", _b_values, TAG_UNITS["b"])
_DIRECTION: Final = WayToTell("DiffusionGradientOrientation", _directions)


_KNOWN: Final = {
    "time": TagDim("time", _time_ways(), flows=True),
    "triggertime": TagDim(
        "triggertime",
        (_numbers("TriggerTime", "s", 1e-3), _numbers("NominalCardiacTriggerDelayTime", "s", 1e-3)),
        flows=True,
    ),
    "b": TagDim("b", (_B_VALUE,)),
    "bvector": TagDim("bvector", (_DIRECTION,), numbered="bvector"),
    "dti": TagDim("dti", (_B_VALUE,), numbered="dti"),
    "fa": TagDim("fa", (_numbers("FlipAngle", TAG_UNITS["fa"]),)),
    "te": TagDim("te", (_numbers("EchoTime", TAG_UNITS["te"]), _numbers("EffectiveEchoTime", TAG_UNITS["te"]))),
    "image_type": TagDim("image_type", (WayToTell("ImageType", _image_types),)),
    "segment": TagDim("segment", (_numbers("ReferencedSegmentNumber"),)),
}


def has_segments(table: FrameTable) -> bool:
    """Whether frames show one segment each; those of a segment that are empty may be absent (PS3.3 C.8.20.2)."""
    return all(raw is not None for raw in table.distinct_raws(tag("ReferencedSegmentNumber")))


_OTHER_NAMES: Final = {
    **dict.fromkeys(("bval", "bvals", "bvalue", "bvalues"), "b"),
    "flip": "fa",
    "t": "time",
    "ti": "InversionTime",
    "tr": "RepetitionTime",
}
"""What others call these orders, in small letters alone."""


def meant(order: str) -> str:
    """Return what to say of an order that is probably a slip of another; "" where it is like none.

    Examples
    --------
    >>> meant("Time"), meant("b-value"), meant("time")
    ("; 'time' may be meant", "; 'b' may be meant", '')
    """
    plain = "".join(filter(str.isalpha, order.lower()))
    named = [_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else []
    found = named or get_close_matches(order.lower(), _KNOWN, n=1, cutoff=0.7) or [keyword_meant(order)]
    return f"; {found[0]!r} may be meant" if found[0] not in ("", order) else ""


def _element_dim(name: str, element: str | int) -> TagDim:
    """Return the dim of an element named by keyword or tag."""
    try:
        number = tag(element)
    except ValueError as err:
        msg = (
            f"order {name!r}: {err}{meant(str(element))}. Known orders are none, auto, {', '.join(_KNOWN)}; others "
            "are given as keyword, tag, or {name: keyword, tag or function}"
        )
        raise OrderError(msg) from None
    told = keyword(number) or f"({number >> 16:04x},{number & 0xFFFF:04x})"

    def labels(table: FrameTable) -> list[Label | None]:
        if (number >> 16) & 1 and not (table.frames.any() and any(table.distinct_raws(number))):
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
    groups: list[Dataset]
    path, dataset, groups = "", pydicom.Dataset(), []
    for at, number in zip(table.paths, table.frames.tolist(), strict=True):
        if at != path:
            path, dataset = at, dcmread(at, stop_before_pixels=True, force=True)
            groups = own_groups(dataset)
        keep_frame(dataset, groups, number + 1)
        label = ask_header(function, dataset, path)
        found.append(None if label is None else _plain_label(label))
    return found


def tag_dim(name: str, how: Any = None) -> TagDim:
    """Return the tag dim of a name, told by the element, tag or function `how`, or as the name says.

    Raises
    ------
    OrderError
        If the name is neither a known dim nor an element, or is that of a dim of space.
    """
    if name in SPATIAL_DIMS:
        msg = f"{name!r} cannot be a tag dim: it is a dim of the image itself"
        raise OrderError(msg)
    if callable(how):
        return TagDim(name, (WayToTell(getattr(how, "__name__", "a function"), lambda t: _by_dataset(t, how)),))
    if isinstance(how, str) and how in _KNOWN:
        known = _KNOWN[how]
        return replace(known, name=name)
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
        ``{"ti": "InversionTime"}`` or ``"ti=InversionTime"`` to name the dim, or several: ``"time,te"``,
        ``["time", {"ti": 0x00180082}]``.

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


def _told_dim(text: str) -> TagDim:
    """Return the tag dim of a part of an order: a name, or a name and what tells it, as ``"ti=InversionTime"``.

    Raises
    ------
    OrderError
        As `tag_dim`, or if one of the two is absent.
    """
    name, named, how = (part.strip() for part in text.partition("="))
    if named and not (name and how):
        msg = f"order {text!r}: a name and what tells it are wanted, as ti=InversionTime"
        raise OrderError(msg)
    return tag_dim(name, how) if named else tag_dim(name)


def _dims(order: Order) -> list[TagDim]:
    if isinstance(order, str):
        names = [part.strip() for part in _PART.findall(order)]
        return [_told_dim(name) for name in names if name not in ("", "none")]
    if isinstance(order, Mapping):
        return [tag_dim(str(name), how) for name, how in order.items()]
    if isinstance(order, int):
        return [tag_dim(keyword(order) or f"{order:08X}", order)]
    if callable(order):
        return [tag_dim(order.__name__, order)]
    if isinstance(order, Sequence):
        return [dim for part in order for dim in _dims(part)]
    msg = (
        f"order is a name, tag, function, mapping or sequence of these, not {type(order).__name__}: 'auto' finds the "
        "dims that vary, 'none' is for a single volume"
    )
    raise OrderError(msg)
