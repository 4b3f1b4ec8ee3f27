"""The labels of an image along ``time`` and ``triggertime`` to the elements that tell when a frame was acquired."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr

from imagedata_xr.dicom.moments import CLOCK, MOMENTS, moment_of, moments_of, move, time_of_day, zone_of
from imagedata_xr.dicom.start import first_moment
from imagedata_xr.elements import parse_date, parse_time, to_element
from imagedata_xr.headers import source_dataset
from imagedata_xr.times import parse_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

    Header = Dataset | Mapping[str, Any]

__all__ = ["UNCHANGED", "NewTimes", "TimeLabels", "dates_stayed", "move_dates", "new_times", "put_times", "set_time"]

_DAY: Final = 86400.0
_ONE_DAY: Final = timedelta(days=1)
_NUMBERS_OF_TIME: Final = {"TemporalPositionTimeOffset": 1.0, "FrameReferenceTime": 1e-3, "TriggerTime": 1e-3}
"""Elements that tell time as a number, and the factor from their unit to seconds."""
_COUNTS: Final = ("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber")
_TELL_TIME: Final = (
    *("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime", "TriggerTime", "ContentTime"),
)


class TimeLabels:
    """The labels of an image along ``time`` and ``triggertime``; `template` is that whose headers it gets, if any."""

    def __init__(self, da: xr.DataArray, template: xr.DataArray | None = None) -> None:
        self._da = da
        self._images = (da,) if template is None else (da, template)
        self._known: dict[str, tuple[list[float], float]] = {}
        self._told: dict[str, bool] = {}
        self._columns: dict[str, xr.Variable | None] = {}
        coords = da.coords
        self.has_dim = "time" in da.dims
        self.count = da.sizes.get("time", 1)
        self.has_triggers = da.sizes.get("triggertime", 1) > 1
        start = coords["AcquisitionDateTime"].attrs if "AcquisitionDateTime" in coords else {}
        self.zone = parse_zone(str(start.get("timezone", "")))
        self.told_zone = "" if self.zone is None else str(start["timezone"])
        """What the clock of dates and times is ahead of UTC, where `start` is told in UTC; None where it is not."""
        self._zones_vary = "TimezoneOffsetFromUTC" in coords and bool(coords["TimezoneOffsetFromUTC"].ndim)
        can_be_told = self.zone is not None or not self._zones_vary
        self.has_times = self.count > 1 and "time" in coords and can_be_told

    @cached_property
    def start(self) -> datetime | None:
        """From when on times count.

        Labels that a user gave to copies of a volume have no such coordinate: they count from the time of its header.
        Not so where a number tells the time, or only the order of frames.
        """
        text = str(self._da.coords["AcquisitionDateTime"].values) if "AcquisitionDateTime" in self._da.coords else ""
        if "T" in text:
            return datetime.fromisoformat(text)
        if self.count == 1 or any(map(_has_no_clock, self._images)):
            return None
        return next(filter(None, map(first_moment, self._images)), None)

    @cached_property
    def repeats(self) -> bool:
        """Whether several volumes along ``time`` start from one header, which tells the time of one at most."""
        whose = self._images[-1]
        return self.count > 1 and not _vary(whose, ("source", "SOPInstanceUID", *_TELL_TIME))

    @property
    def are_of_writing(self) -> bool:
        """Whether volumes that start from one header have labels, and nothing tells from when on these count."""
        return self.repeats and self.start is None

    def vary(self, name: str) -> bool:
        """Return whether the image tells another value of an element for each volume along ``time``."""
        return _vary(self._da, (name,))

    @cached_property
    def are_of_content(self) -> bool:
        """Whether ContentTime is the only time of day that differs between volumes."""
        names = [name if name.endswith("DateTime") else f"{name}Time" for name in MOMENTS]
        return [n for n in names if n in self._da.coords and "time" in self._da.coords[n].dims] == ["ContentTime"]

    @cached_property
    def first(self) -> datetime | None:
        """When the first volume was acquired."""
        if self.start is None or "time" not in self._da.coords:
            return None
        return self.start + timedelta(seconds=float(self._da.coords["time"].min()))

    def label(self, index: Mapping[str, int]) -> float | None:
        """Return the label of a volume along ``time``, or that of the whole image; None where there is none."""
        if "time" not in self._da.coords:
            return None
        return float(self._da.coords["time"].values) if not self.has_dim else self.of("time", index)[0]

    def position(self, index: Mapping[str, int]) -> int:
        """Return which volume it is in the order of time, from 1."""
        label = self.label(index)
        return index["time"] + 1 if label is None else sum(one <= label for one in self._known["time"][0])

    def of(self, dim: str, index: Mapping[str, int]) -> tuple[float, float]:
        """Return the label of a volume along a dim, and how long after it its last slice may be: the smallest step."""
        if dim not in self._known:
            values = np.asarray(self._da.coords[dim].values, float)
            step = float(np.diff(np.unique(values)).min(initial=np.inf))
            self._known[dim] = [float(value) for value in values], step
        labels, step = self._known[dim]
        return labels[index[dim]], step

    def are_told_by(self, name: str) -> bool | None:
        """Return whether an element tells all labels along ``time``; None where that is not known.

        Volumes may all be later than their labels by the same, less than a step, where their first slices were left
        out. Dates may stay behind when a series runs past midnight.
        """
        told = self._seconds(name)
        if told is None:
            return None
        if name not in self._told:
            self._told[name] = "time" in told.dims and self._agrees(told)
        return self._told[name]

    def is_onemoment_of(self, name: str) -> bool:
        """Return whether an element tells the same for all volumes."""
        told = self._seconds(name)
        return self.repeats if told is None else "time" not in told.dims

    def _agrees(self, told: xr.Variable) -> bool:
        labels = self._da.coords["time"].variable.astype(float)
        begin = (self._begin - self._midnight).total_seconds()
        late = told - begin - labels
        days = np.floor((late + CLOCK) / _DAY)
        if not bool(((days == 0) | ((days == -1) & (told < begin))).all()):
            return False
        late = late - days * _DAY
        first = late.min("slice") if "slice" in late.dims else late
        least, spread = first.min("time"), first.max("time") - first.min("time")
        step = self.of("time", {"time": 0})[1]
        is_cut = (least > 2 * spread) & (least + spread < step) & (float(labels.min()) >= 0)
        return bool(((least + spread <= CLOCK) | is_cut).all())

    @cached_property
    def _begin(self) -> datetime:
        """`start` in the clock of the scanner; the first day there is where it is not known."""
        return (self.start or datetime.min) + (self.zone or timedelta(0))

    @property
    def _midnight(self) -> datetime:
        return datetime(self._begin.year, self._begin.month, self._begin.day)

    def _seconds(self, name: str) -> xr.Variable | None:
        """Return when frames were acquired, as an element tells, or None where it is not known.

        In seconds from the midnight before `start` on.
        """
        if name not in self._columns:
            self._columns[name] = self._seconds_told(name)
        return self._columns[name]

    def _seconds_told(self, name: str) -> xr.Variable | None:
        def of_moment(text: str) -> float | None:
            moment = moment_of(text, self.zone)
            return None if moment is None else (moment + (self.zone or timedelta(0)) - self._midnight).total_seconds()

        def of_day(text: str) -> float | None:
            day = parse_date(text)
            return None if day is None else (datetime(day.year, day.month, day.day) - self._midnight).total_seconds()

        # What the header of a frame of an enhanced file becomes, see `imagedata_xr.dicom.classic`.
        of_frames = self._column("FrameAcquisitionDateTime")
        if of_frames is not None and name in ("AcquisitionDateTime", "Acquisition"):
            return _parsed(of_frames, of_moment)
        if name == "AcquisitionDateTime":
            return _parsed(self._moments_in_files(), of_moment)
        if name.endswith("DateTime"):
            return _parsed(self._column(name), of_moment)
        if self.zone is not None and self._zones_vary:
            return None
        seconds, days = _parsed(self._column(f"{name}Time"), parse_time), self._column(f"{name}Date")
        if seconds is None or days is None or "time" not in days.dims:
            return seconds  # of that day, if one date is told
        midnights = _parsed(days, of_day)
        return None if midnights is None else seconds + midnights

    def _column(self, name: str) -> xr.Variable | None:
        """Return the values of an element that headers get: the image's own, else the template's."""
        for image in self._images:
            if name in image.coords:
                column: xr.Variable = image.coords[name].variable
                return column
            if name in image.attrs:
                return xr.Variable((), image.attrs[name])
        return None

    def _moments_in_files(self) -> xr.Variable | None:
        """Return AcquisitionDateTime of the first frame of each volume: the coordinate of this name is the start."""
        whose = self._images[-1]
        if "time" not in whose.dims:
            return xr.Variable((), "2000")  # one for all, whatever it is
        frames = whose.isel({dim: 0 for dim in whose.dims if dim not in ("time", "row", "col")})
        found = [source_dataset(frames.isel(time=k)) for k in range(self.count)]
        return xr.Variable(("time",), ["" if ds is None else str(ds.get("AcquisitionDateTime") or "") for ds in found])

    @cached_property
    def _numbers(self) -> tuple[str, NDArray[np.float64]] | None:
        """Keyword of the element that has to tell the labels along ``time``, and its values.

        None where one tells them already, but for a constant, or the element that does is none of these.
        """
        labels = self._da.coords["time"]
        if self.start is not None or labels.attrs.get("element") == "InstanceNumber":
            return None
        wanted, told = np.asarray(labels.values, float), {}
        for name in (*_NUMBERS_OF_TIME, *_COUNTS):
            coord = self._da.coords.get(name)
            if coord is not None and "time" in coord.dims and coord.dtype.kind in "iuf":
                told[name] = coord.min([dim for dim in coord.dims if dim != "time"]).values.astype(float)
        step = self._da.attrs.get("TemporalResolution")
        for name, values in told.items():
            factors = [_NUMBERS_OF_TIME.get(name, 1.0)]
            factors += [step * 1e-3] if name == _COUNTS[0] and isinstance(step, int | float) else []
            # Where slices have each their own, the first may have been left out.
            own = self._da.coords[name].ndim > 1
            within = max(CLOCK, float(np.diff(np.unique(wanted)).min(initial=0)) / 4) if own else CLOCK
            if any(np.ptp(values * factor - wanted) <= within for factor in factors):
                return None
        if not told:
            return None
        name = next((name for name in _NUMBERS_OF_TIME if name in told), "TemporalPositionTimeOffset")
        factor, first = _NUMBERS_OF_TIME[name], float(np.nanmin(told.get(name, 0.0)))
        return name, first + (wanted - wanted.min()) / factor

    def number(self, index: Mapping[str, int]) -> tuple[str, float] | None:
        """Return keyword and value of an element that has to tell the time of a volume, and does not."""
        found = self._numbers if self.count > 1 and "time" in self._da.coords else None
        return None if found is None else (found[0], float(found[1][index["time"]]))


def _parsed(texts: xr.Variable | None, parse: Callable[[str], float | None]) -> xr.Variable | None:
    """Return the numbers that texts tell; None where one tells none."""
    if texts is None:
        return None
    known = {text: parse(text) for text in set(map(str, texts.values.ravel().tolist()))}
    if None in known.values():
        return None
    numbers = [known[text] for text in map(str, texts.values.ravel().tolist())]
    return xr.Variable(texts.dims, np.reshape(np.asarray(numbers, float), texts.shape))


def _vary(image: xr.DataArray, names: Iterable[str]) -> bool:
    """Return whether one of some coordinates varies along ``time``."""
    return any(name in image.coords and "time" in image.coords[name].dims for name in names)


def _has_no_clock(image: xr.DataArray) -> bool:
    """Return whether the labels of an image along ``time`` were made of something that is no moment."""
    made_of = str(image.coords["time"].attrs.get("element", "")) if "time" in image.coords else ""
    no_moment = made_of and made_of.partition(" + ")[0].removesuffix("Date") not in (*MOMENTS, _TELL_TIME[1])
    return bool(no_moment) or _vary(image, (*_NUMBERS_OF_TIME, *_COUNTS))


class NewTimes(NamedTuple):
    """What labels along ``time`` and ``triggertime`` tell that the headers of a volume do not."""

    trigger: float | None
    """TriggerTime [ms]; None where it stays."""
    moment: datetime | None
    """When the volume was acquired; None where it stays."""
    number: tuple[str, float] | None
    """Another element that tells the time of the volume, and its value; None where none has to."""
    position: int | None = None
    """TemporalPositionIdentifier; None where it stays."""


UNCHANGED: Final = NewTimes(None, None, None)


def put_times(ds: Dataset, labels: TimeLabels, new: NewTimes) -> None:
    """Put new labels of a volume along ``time`` and ``triggertime`` in the header of one of its frames."""
    if new.position is not None:
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = new.position, labels.count
    if new.trigger is not None:
        ds.add(to_element("TriggerTime", new.trigger))
    if new.number is not None:
        ds.add(to_element(*new.number))
    if new.moment is not None:
        move(ds, labels.zone, new.moment, is_content=labels.are_of_content)


def new_times(
    headers: Sequence[Header], labels: TimeLabels, index: Mapping[str, int], *, is_dated: bool = False
) -> NewTimes:
    """Return the labels of a volume along ``time`` and ``triggertime`` that its headers do not tell.

    The slices of a volume have each their own time, from the label on until the next volume; these are left alone.

    Parameters
    ----------
    headers : sequence of Dataset or mapping
        Of the frames of one volume; elements that tell times are enough.
    labels : TimeLabels
        Of the image.
    index : mapping
        Number of the volume along each tag dim.
    is_dated : bool
        Whether the user has set the date, so that it may be another than the labels'.
    """
    trigger = None
    triggers: list[Any] = [ds.get("TriggerTime") for ds in headers] if labels.has_triggers else [None]
    if all(found not in (None, "") for found in triggers):
        label, until = labels.of("triggertime", index)
        if not -1e-6 <= min(map(float, triggers)) * 1e-3 - label < until:
            trigger = label * 1e3
    number = labels.number(index)
    is_counted = labels.repeats and not labels.vary(_COUNTS[0]) and any(ds.get(_COUNTS[0]) for ds in headers)
    unmoved = NewTimes(trigger, None, number, labels.position(index) if is_counted else None)
    if not labels.has_times or labels.start is None:
        return unmoved  # told by an element that counts volumes, or by none
    told = [moments_of(ds, labels.zone) for ds in headers]
    names = set(told[0]).intersection(*told)
    if not names and not labels.repeats:
        return unmoved
    label, until = labels.of("time", index)
    wanted = labels.start + timedelta(seconds=label)
    name = _teller(told, {name for name in names if not labels.is_onemoment_of(name)})
    is_told = name is not None and labels.are_told_by(name)
    if name is not None and is_told is not False:
        late = (min(moments[name] for moments in told) - wanted).total_seconds() + CLOCK
        days = late // _DAY
        # Only times of day were compared, where one date is told.
        is_told = (is_dated or days in (0, -1)) and (bool(is_told) or late % _DAY < until)
    return unmoved if is_told else unmoved._replace(moment=wanted)


def _teller(told: Sequence[Mapping[str, datetime]], names: Container[str]) -> str | None:
    """Return the element that a reader takes the times of frames from, of those that all of them have."""
    there = [name for name in MOMENTS if name in names]
    both = ("AcquisitionDateTime", "Acquisition")
    if all(name in there for name in both) and all(
        abs((moments[both[0]] - moments[both[1]]).total_seconds()) <= CLOCK for moments in told
    ):
        there.remove(both[0])  # the other says the same, and coordinates tell that of all volumes
    return there[0] if there else None


def move_dates(ds: Dataset, labels: TimeLabels) -> None:
    """Put the dates of a header a day on where the scanner left them behind, see `dates_stayed`."""
    for name in dates_stayed(ds, labels):
        ds.add(to_element(f"{name}Date", f"{moments_of(ds, None)[name] + _ONE_DAY:%Y%m%d}"))


def dates_stayed(ds: Header, labels: TimeLabels) -> list[str]:
    """Return which pairs of date and time in a header have the date of the day before, where no other frame tells so.

    Scanners leave the date as it was when a series runs past midnight. A reader finds that out by the volumes from
    before midnight, but not where these were left out.
    """
    if labels.first is None:
        return []
    first = labels.first + zone_of(ds, labels.zone)
    before = f"{first - _ONE_DAY:%Y%m%d}"
    if all(parse_date(str(ds.get(f"{name}Date") or "")) != parse_date(before) for name in MOMENTS[2:]):
        return []  # as nearly always, and asked of every frame
    told = {name: moment for name, moment in moments_of(ds, None).items() if name in MOMENTS[2:]}
    # No series lasts half a day: a label that is further away is what the user has set.
    return [
        name
        for name, moment in told.items()
        if first.date() - moment.date() == _ONE_DAY and abs(moment + _ONE_DAY - first) < _ONE_DAY / 2
    ]


def set_time(ds: Dataset, labels: TimeLabels, index: Mapping[str, int], now: datetime) -> None:
    """Put the time of a frame in a header, where nothing else tells it.

    With the start known it is the acquisition's date and time. Else, as in the mean of two series, ContentDate and
    ContentTime count from the moment of writing, and TemporalPositionIdentifier numbers the volumes.

    Parameters
    ----------
    ds : Dataset
        Header; changed.
    labels : TimeLabels
        Of the image.
    index : mapping
        Number of the volume along each tag dim.
    now : datetime
        The moment of writing.
    """
    label = labels.label(index)
    if label is None or any(map(labels.vary, _TELL_TIME)):
        return
    seconds = timedelta(seconds=label)
    if labels.start is not None:
        if labels.told_zone and not ds.get("TimezoneOffsetFromUTC"):
            ds.TimezoneOffsetFromUTC = labels.told_zone
        moment = labels.start + zone_of(ds, labels.zone) + seconds
        ds.AcquisitionDate, ds.AcquisitionTime = f"{moment:%Y%m%d}", time_of_day(moment)
    elif labels.has_dim:
        moment = now + seconds
        ds.ContentDate, ds.ContentTime = f"{moment:%Y%m%d}", time_of_day(moment)
        if "TemporalPositionIdentifier" not in ds:
            ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = labels.position(index), labels.count
