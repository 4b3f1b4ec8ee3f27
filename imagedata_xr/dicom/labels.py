"""The labels of an image along ``time`` and ``triggertime`` to the elements that tell when a frame was acquired."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.dates import date_text, parse_date, parse_time, parse_zone, time_text
from imagedata_xr.dicom.moments import CLOCK, MOMENTS, NewTimes, moment_of, moments_of, move, zone_of
from imagedata_xr.dicom.start import (
    CINE,
    COUNTS,
    FLOWING,
    NUMBERS_OF_TIME,
    are_counted,
    first_moment,
    has_no_clock,
    parsed,
    start_of,
    vary,
)
from imagedata_xr.elements import to_element
from imagedata_xr.headers import source_dataset
from imagedata_xr.origins import origins
from imagedata_xr.times import AS_READ

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

    Header = Dataset | Mapping[str, Any]

__all__ = ["TimeLabels", "dates_stayed", "move_dates", "new_times", "put_times", "set_time"]

_DAY: Final = 86400.0
_ONE_DAY: Final = timedelta(days=1)
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
        self._start, self._after = start_of(da)
        start = coords["AcquisitionDateTime"].attrs if self._start else {}
        are_read = "time" in coords and "element" in coords["time"].attrs
        self._may_be_cut = are_read and start.get(AS_READ) == self._start
        self.zone = parse_zone(str(start.get("timezone", "")))
        """What the clock of dates and times is ahead of UTC, where `start` is told in UTC; None where it is not."""
        self.told_zone = "" if self.zone is None else str(start["timezone"])
        self._zones_vary = "TimezoneOffsetFromUTC" in coords and bool(coords["TimezoneOffsetFromUTC"].ndim)
        can_be_told = self.zone is not None or not self._zones_vary
        self.has_times = self.count > 1 and "time" in coords and can_be_told

    @cached_property
    def start(self) -> datetime | None:
        """From when on times count.

        Labels that a user gave to copies of a volume have no such coordinate: they count from the time of its header.
        Not so where a number tells the time, or only the order of frames.
        """
        if "T" in self._start:
            return datetime.fromisoformat(self._start)
        if self.count == 1 or self._has_no_clock:
            return None
        return next(filter(None, map(first_moment, self._images)), None)

    @cached_property
    def _has_no_clock(self) -> bool:
        """Whether labels were made of something that is no moment, or numbers tell them."""
        return has_no_clock(self._da) or any(vary(image, (*NUMBERS_OF_TIME, *COUNTS)) for image in self._images)

    @cached_property
    def are_counted(self) -> bool:
        """Whether labels say nothing but the order of volumes."""
        return are_counted(self._da)

    @cached_property
    def are_of_several(self) -> bool:
        """Whether volumes are of several series, of which each counts its own."""
        return len({origin.SeriesInstanceUID for origin in origins(self._images[-1])}) > 1

    @cached_property
    def repeats(self) -> bool:
        """Whether several volumes along ``time`` start from one header, which tells the time of one at most."""
        whose = self._images[-1]
        return self.count > 1 and not vary(whose, ("source", "SOPInstanceUID", *_TELL_TIME))

    @cached_property
    def are_of_writing(self) -> bool:
        """Whether volumes have labels that no header tells, and nothing tells from when on these count."""
        if self.count == 1 or "time" not in self._da.coords or self.start is not None:
            return False
        is_told = self._has_no_clock or any(vary(image, _TELL_TIME) for image in self._images)
        return self.repeats or not is_told

    def vary(self, name: str) -> bool:
        """Return whether the image tells another value of an element for each volume along ``time``."""
        return vary(self._da, (name,))

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

    def moment(self, index: Mapping[str, int], seconds: float) -> datetime:
        """Return when so many seconds have gone by since the start of a volume."""
        assert self.start is not None
        after = self._after.isel({dim: index[str(dim)] for dim in self._after.dims})
        return self.start + timedelta(seconds=seconds + float(after.values))

    def label(self, index: Mapping[str, int]) -> float | None:
        """Return the label of a volume along ``time``, or that of the whole image; None where there is none."""
        if "time" not in self._da.coords:
            return None
        return float(self._da.coords["time"].values) if not self.has_dim else self.of("time", index)[0]

    def goes_on_with(self, name: str, teller: str) -> bool:
        """Return whether an element tells as a number what another tells as a moment."""
        numbers, told = self._column(name), self._seconds(teller)
        of_frames = self._column("FrameReferenceDateTime")
        if name == "FrameReferenceTime" and numbers is None and of_frames is not None:
            return "time" in of_frames.dims  # of an enhanced file, see `imagedata_xr.dicom.classic`
        if numbers is None or told is None or "time" not in numbers.dims or numbers.dtype.kind not in "iuf":
            return False
        if name in FLOWING:
            return True
        late = (numbers * NUMBERS_OF_TIME[name] - told).values.ravel()
        late = (late - late[0] + _DAY / 2) % _DAY - _DAY / 2  # dates may stay behind
        firsts = np.unique(told.min([dim for dim in told.dims if dim != "time"]).values)
        return bool(np.ptp(late) <= max(CLOCK, float(np.diff(firsts).min(initial=0)) / 4))

    def number_of(self, name: str, index: Mapping[str, int]) -> float:
        """Return the label of a volume as an element tells it whose first value stays."""
        first = self._column(name)
        assert first is not None
        after = self.of("time", index)[0] - float(self._da.coords["time"].min())
        return float(first.min()) + after / NUMBERS_OF_TIME[name]

    @cached_property
    def are_counted_in_order(self) -> bool:
        """Whether TemporalPositionIdentifier ascends as labels along ``time`` do."""
        told = self._column(COUNTS[0])
        if told is None or "time" not in told.dims or told.dtype.kind not in "iuf":
            return told is None
        others = [dim for dim in told.dims if dim != "time"]
        order = np.argsort(self._da.coords["time"].values)
        first, last = told.min(others).values[order], told.max(others).values[order]
        return bool((last[:-1] < first[1:]).all())

    def are_steps(self, milliseconds: Any) -> bool:
        """Return whether labels along ``time`` go on in steps of a FrameTime."""
        if not isinstance(milliseconds, int | float | str):
            return False
        steps = np.diff(np.sort(self._da.coords["time"].values.astype(float)))
        return bool((np.abs(steps - float(milliseconds) * 1e-3) <= 1e-6).all())

    def position(self, index: Mapping[str, int]) -> int:
        """Return which volume it is in the order of time, from 1."""
        label = self.label(index)
        return index["time"] + 1 if label is None else sum(one <= label for one in self._known["time"][0])

    def until(self, index: Mapping[str, int]) -> float:
        """Return how long after the label of a volume along ``time`` its first slice may have been acquired."""
        return self.of("time", index)[1] if self._may_be_cut else 2 * CLOCK

    def of(self, dim: str, index: Mapping[str, int]) -> tuple[float, float]:
        """Return the label of a volume along a dim, and the smallest step between labels."""
        if dim not in self._known:
            values = np.asarray(self._da.coords[dim].values, float)
            step = float(np.diff(np.unique(values)).min(initial=np.inf))
            self._known[dim] = [float(value) for value in values], step
        labels, step = self._known[dim]
        return labels[index[dim]], step

    def are_told_by(self, name: str) -> bool | None:
        """Return whether an element tells all labels along ``time``; None where that is not known.

        Volumes may all be later than their labels by the same, less than a step, where their first slices were left
        out; not where the user has set labels or start, which look the same. Dates may stay behind when a series runs
        past midnight.
        """
        told = self._seconds(name)
        if told is None:
            return None
        if name not in self._told:
            self._told[name] = "time" in told.dims and self._agrees(told)
        return self._told[name]

    def is_one_moment(self, name: str) -> bool:
        """Return whether an element tells the same for all volumes."""
        told = self._seconds(name)
        return self.repeats if told is None else "time" not in told.dims

    def _agrees(self, told: xr.Variable) -> bool:
        labels = self._da.coords["time"].variable.astype(float) + self._after
        begin = (self._begin - self._midnight).total_seconds()
        late = told - begin - labels
        days = np.floor((late + CLOCK) / _DAY)
        if not bool(((days == 0) | ((days == -1) & (told < begin))).all()):
            return False
        late = late - days * _DAY
        first = late.min("slice") if "slice" in late.dims else late
        least, spread = first.min("time"), first.max("time") - first.min("time")
        step = self.of("time", {"time": 0})[1]
        have_own = "slice" in late.dims or self._da.sizes.get("slice", 1) == 1
        is_cut = (least > 2 * spread) & (least + spread < step) & (have_own and float(labels.min()) >= 0)
        return bool(((least + spread <= CLOCK) | (is_cut & self._may_be_cut)).all())

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
            return parsed(of_frames, of_moment)
        if name == "AcquisitionDateTime":
            return parsed(self._moments_in_files(), of_moment)
        if name.endswith("DateTime"):
            return parsed(self._column(name), of_moment)
        if self.zone is not None and self._zones_vary:
            return None
        seconds, days = parsed(self._column(f"{name}Time"), parse_time), self._column(f"{name}Date")
        if seconds is None or days is None or "time" not in days.dims:
            return seconds  # of that day, if one date is told
        midnights = parsed(days, of_day)
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
        if self.start is not None or self.are_counted:
            return None
        wanted, told = np.asarray(labels.values, float), {}
        for name in (*NUMBERS_OF_TIME, *COUNTS):
            coord = self._da.coords.get(name)
            if coord is not None and "time" in coord.dims and coord.dtype.kind in "iuf":
                told[name] = coord.min([dim for dim in coord.dims if dim != "time"]).values.astype(float)
        step = self._da.attrs.get("TemporalResolution")
        for name, values in told.items():
            factors = [NUMBERS_OF_TIME.get(name, 1.0)]
            factors += [step * 1e-3] if name == COUNTS[0] and isinstance(step, int | float) else []
            # Where slices have each their own, the first may have been left out.
            own = self._da.coords[name].ndim > 1
            within = max(CLOCK, float(np.diff(np.unique(wanted)).min(initial=0)) / 4) if own else CLOCK
            if any(np.ptp(values * factor - wanted) <= within for factor in factors):
                return None
        if not told:
            return None
        name = next((name for name in NUMBERS_OF_TIME if name in told), "TemporalPositionTimeOffset")
        factor, first = NUMBERS_OF_TIME[name], float(np.nanmin(told.get(name, 0.0)))
        return name, first + (wanted - wanted.min()) / factor

    def number(self, index: Mapping[str, int]) -> tuple[str, float] | None:
        """Return keyword and value of an element that has to tell the time of a volume, and does not."""
        found = self._numbers if self.count > 1 and "time" in self._da.coords else None
        return None if found is None else (found[0], float(found[1][index["time"]]))


def put_times(ds: Dataset, labels: TimeLabels, new: NewTimes) -> None:
    """Put new labels of a volume along ``time`` and ``triggertime`` in the header of one of its frames."""
    if new.position is not None:
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = new.position, labels.count
    if new.trigger is not None:
        ds.add(to_element("TriggerTime", new.trigger))
    for number in new.numbers:
        ds.add(to_element(*number))
    if new.moment is not None:
        move(ds, labels.zone, new.moment, is_content=labels.are_of_content)
        for name in CINE:
            if name in ds and not labels.are_steps(ds[name].value):
                del ds[name]


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
        if not -1e-6 <= min(map(float, triggers)) * 1e-3 - label < until:  # other slices may be later
            trigger = label * 1e3
    number = labels.number(index)
    is_counted = any(ds.get(COUNTS[0]) for ds in headers)
    is_copy = labels.repeats and is_counted and not labels.vary(COUNTS[0])
    is_copy |= is_counted and labels.has_times and labels.are_of_several and not labels.are_counted_in_order
    unmoved = NewTimes(trigger, None, (number,) if number else (), labels.position(index) if is_copy else None)
    if not labels.has_times or labels.start is None:
        return unmoved  # told by an element that counts volumes, or by none
    told = [moments_of(ds, labels.zone) for ds in headers]
    names = set(told[0]).intersection(*told)
    if not names and not labels.repeats:
        return unmoved
    wanted = labels.moment(index, labels.of("time", index)[0])
    name = _teller(told, {name for name in names if not labels.is_one_moment(name)})
    is_told = name is not None and labels.are_told_by(name)
    if name is not None and is_told is not False:
        late = (min(moments[name] for moments in told) - wanted).total_seconds() + CLOCK
        days = late // _DAY
        # Only times of day were compared, where one date is told.
        is_told = (is_dated or days in (0, -1)) and (bool(is_told) or late % _DAY < labels.until(index))
    if is_told:
        return unmoved
    if name is not None:
        moments = [(wanted - moments[name]).total_seconds() for moments in told]
        unmoved = unmoved._replace(numbers=tuple(_moved_numbers(headers, labels, index, name, moments)))
    # Volumes of a cine may have no place: then only what counts them tells that they are none of slices.
    is_cine = not is_counted and any(ds.get(cine) for ds in headers for cine in CINE)
    if is_cine or (is_counted and not labels.are_counted_in_order):
        unmoved = unmoved._replace(position=labels.position(index))
    return unmoved._replace(moment=wanted)


def _moved_numbers(
    headers: Sequence[Header], labels: TimeLabels, index: Mapping[str, int], teller: str, moved: Sequence[float]
) -> Iterator[tuple[str, float]]:
    """Yield the elements that tell the time of a volume once more, as a number, and their new values.

    Those that count from a moment of the series move as much as the frames; triggers begin with the first volume.
    """
    for name, factor in NUMBERS_OF_TIME.items():
        values: list[Any] = [ds.get(name) for ds in headers]
        if any(value in (None, "") for value in values) or not labels.goes_on_with(name, teller):
            continue
        if name in FLOWING:
            value = min(float(value) + seconds / factor for value, seconds in zip(values, moved, strict=True))
        else:
            value = labels.number_of(name, index)
        yield name, round(value, 6)


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
        ds.add(to_element(f"{name}Date", date_text(moments_of(ds, None)[name] + _ONE_DAY)))


def dates_stayed(ds: Header, labels: TimeLabels) -> list[str]:
    """Return which pairs of date and time in a header have the date of the day before, where no other frame tells so.

    Scanners leave the date as it was when a series runs past midnight. A reader finds that out by the volumes from
    before midnight, but not where these were left out.
    """
    if labels.first is None:
        return []
    first = labels.first + zone_of(ds, labels.zone)
    days = (parse_date(str(ds.get(f"{name}Date") or "")) for name in MOMENTS[2:])
    if all(day is None or first.date() - day != _ONE_DAY for day in days):
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
    ContentTime count from the moment of writing, and TemporalPositionIdentifier numbers the volumes; it alone where
    labels only count them.

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
    # A trigger is no clock: what lies between volumes has one, but no moment.
    told = [name for name in _TELL_TIME if labels.start is None or name != "TriggerTime"]
    if label is None or any(map(labels.vary, told)):
        return
    if labels.start is not None:
        if labels.told_zone and not ds.get("TimezoneOffsetFromUTC"):
            ds.TimezoneOffsetFromUTC = labels.told_zone
        moment = labels.moment(index, label) + zone_of(ds, labels.zone)
        ds.AcquisitionDate, ds.AcquisitionTime = date_text(moment), time_text(moment)
    elif labels.has_dim:
        if not labels.are_counted:
            moment = now + timedelta(seconds=label)
            ds.ContentDate, ds.ContentTime = date_text(moment), time_text(moment)
        if "TemporalPositionIdentifier" not in ds:
            ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = labels.position(index), labels.count
