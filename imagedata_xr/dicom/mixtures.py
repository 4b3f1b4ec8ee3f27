"""Volumes whose slices are of several: a grid may be full although its frames do not belong together.

So it is with what is left of volumes of which each lacks the slices of another, with a localizer among the slices,
where frames that have a further thing in which they differ are counted, and with two scans of which one lies between
the slices of the other.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.dicom.tags import tag_dim
from imagedata_xr.dicom.vendors import private_values
from imagedata_xr.elements import tag
from imagedata_xr.names import CT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imagedata_xr.dicom.sort import Grid
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.elements import Value

__all__ = ["warn_of_mixtures"]

_OF_VOLUMES: Final = {
    **{"ImageType": "image_type", "ComplexImageComponent": "image_type"},
    **{"EchoTime": "te", "EffectiveEchoTime": "te", "DiffusionBValue": "b", "FlipAngle": "fa"},
    **{name: name for name in ("InversionTime", "Units", "RescaleType", "DoseUnits")},
}
"""Elements that all slices of a volume share, and the orders that tell them apart."""
_OF_EACH_SLICE: Final = (
    *("CardiacCyclePosition", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers", "InversionTime"),
    *("SequenceName", "InPlanePhaseEncodingDirection", "ReceiveCoilName", "KVP", "ConvolutionKernel"),
    "ContrastBolusAgent",
)
"""Elements that volumes share where each slice has the same values of them. No times: slices may take turns."""
_SAME_VALUE: Final = 0.05
"""Part of the largest value by which numbers of slices may differ that are meant to be the same."""
_OF_A_STEP: Final = 0.75
"""Part of the time from volume to volume by which no slice is later in its volume than it is in others."""
_IN_PROPORTION: Final = 0.1
"""Part of the time to the next volume by which it is not later either."""
_OF_ONE_SCAN: Final = (
    *("SeriesInstanceUID", "SeriesNumber", "SeriesTime", "IrradiationEventUID", "AcquisitionNumber", "ProtocolName"),
    "SeriesDescription",
)
"""Elements that may tell one scan from another."""
_OF_ONE_CT_SCAN: Final = ("AcquisitionNumber", "IrradiationEventUID")
"""Elements of which no single scan of a CT has two values in turns, slice by slice."""
_SIEMENS: Final = "SIEMENS MR HEADER"
_FEWEST_SLICES: Final = 4
"""Of two scans, for each to have a distance of slices."""
_MAPS: Final = {"ADC", "EADC", "FA", "CBF", "CBV", "MTT", "TTP", "TMAX"}
"""Values of ImageType of maps, whose numbers are no signal."""
_FEWEST_OF_ONE: Final = 3
"""Slices of a scan that overlaps another in part, for its distances to be even."""


def warn_of_mixtures(table: FrameTable, grid: Grid, positions: NDArray[np.float64] | None) -> bool:
    """Warn where slices of one volume seem to be of several.

    Parameters
    ----------
    table : FrameTable
        Frames.
    grid : Grid
        Where each of them goes.
    positions : NDArray, optional
        Of the slices along the normal [mm], ascending; None where frames have no place.

    Returns
    -------
    bool
        Whether the slices are of two scans, so that their distances say nothing of slices that are missing.
    """
    if any(axis.name == "duplicate" for axis in grid.axes):
        return False  # whatever is at one place was asked for
    volumes = grid.rows.reshape(-1, grid.rows.shape[-1])
    for name, order in _OF_VOLUMES.items():
        if tag(name) not in table.varying:
            continue
        codes, values = table.codes(name)
        for rows in volumes:
            there = rows[rows >= 0]
            told = [values[code] for code in np.unique(codes[there]).tolist()]
            found = [value for value in told if value is not None and value != ""]
            follow = name == "InversionTime" and _follow([values[code] for code in codes[there].tolist()])
            if len(found) > 1 and _differ(found) and not follow:
                _warn(table, name, there, codes, f"order={order!r}")
                break
    of_two = _warn_of_scans_in_turn(table, volumes, positions) or _warn_of_overlap(table, volumes, positions)
    if len(volumes) > 1 and volumes.shape[1] > 1 and (volumes >= 0).all():
        for name in _OF_EACH_SLICE:
            if tag(name) in table.varying:
                _warn_of_exchange(table, name, volumes)
        _warn_of_long_volumes(table, grid)
    _warn_of_no_times(table, grid)
    return of_two


def _differ(values: list[Value]) -> bool:
    """Return whether values are not the same, numbers beyond what scanners let them vary."""
    if all(isinstance(value, int | float) for value in values):
        numbers = np.asarray(values, float)
        return bool(np.ptp(numbers) > _SAME_VALUE * np.abs(numbers).max())
    return len(set(map(repr, values))) > 1


def _follow(values: list[Value | None]) -> bool:
    """Return whether slices follow each other after an inversion: in even steps, as many slices at each time."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        return False
    times, counts = np.unique(numbers, return_counts=True)
    steps = np.diff(times)
    return len(times) > 2 and bool((counts == counts[0]).all() and np.ptp(steps) <= _SAME_VALUE * steps.mean())


def _warn_of_scans_in_turn(table: FrameTable, volumes: NDArray[np.intp], positions: NDArray[np.float64] | None) -> bool:
    """Warn where a second scan lies between the slices of the first, and return whether one does.

    Neighbours of one scan may well be of other times, as slices that lie side by side are not excited one after the
    other. So it takes two things: every second slice is as far from the next as the header says that slices are, and
    something tells these from the others. The slices of a CT may be thinner or thicker than their distance, which it
    need not tell; there a number of the acquisition that goes to and fro is enough.
    """
    if positions is None or len(positions) < _FEWEST_SLICES:
        return False
    names = ("SpacingBetweenSlices", "SliceThickness")
    told = [(name, n) for name in names if isinstance(n := table.first(name), int | float) and n > 0]
    steps = positions[2:] - positions[:-2]
    said = ""
    if told and np.abs(steps - told[0][1]).max() <= _SAME_VALUE * told[0][1]:
        said = f", and {told[0][0]} says {told[0][1]:.6g} mm"
    elif (
        table.first("SOPClassUID") != CT
        or "SpacingBetweenSlices" in dict(told)
        or np.ptp(steps) > _SAME_VALUE * steps.mean()
    ):
        return False
    for rows in volumes:
        element = None if (rows < 0).any() else _of_every_second(table, rows, is_told=bool(said))
        if element is not None:
            values = table.values(element)
            one, two = (_text(values[row]) for row in rows[:2])
            msg = (
                f"slices are {positions[1] - positions[0]:.6g} mm apart{said}; every second one differs from the "
                f"others in {element} ({one}, {two}): they may be of two scans, of which one lies between the slices "
                "of the other. Open one of them with where="
            )
            warnings.warn(msg, stacklevel=7)
            return True
    return False


def _warn_of_overlap(table: FrameTable, volumes: NDArray[np.intp], positions: NDArray[np.float64] | None) -> bool:
    """Warn where two scans overlap in part, and return whether they do.

    All slices together are unevenly spaced, and those of each value of an element are not. Concatenations of one scan
    together are even, unless slices are missing; then the smallest distance is the one that the header tells.
    """
    if positions is None or len(positions) < 2 * _FEWEST_OF_ONE or _are_even(positions):
        return False
    told = table.first("SpacingBetweenSlices")
    smallest = float(np.diff(positions).min())
    if isinstance(told, int | float) and abs(told - smallest) <= _SAME_VALUE * smallest:
        return False
    rows = next((rows for rows in volumes if (rows >= 0).all()), None)
    if rows is None:
        return False
    for name in _OF_ONE_SCAN:
        if tag(name) not in table.varying:
            continue
        codes, values = table.codes(name)
        scans = [(code, positions[codes[rows] == code]) for code in np.unique(codes[rows]).tolist()]
        if not all(len(places) >= _FEWEST_OF_ONE and _are_even(places) for _, places in scans):
            continue
        scans.sort(key=lambda scan: scan[1][0])
        for (one, lower), (other, upper) in pairwise(scans):
            if upper[0] < lower[-1]:
                msg = (
                    f"slices of {name} {_text(values[one])} ({_extent(lower)}) lie between those of "
                    f"{_text(values[other])} ({_extent(upper)}): they may be of two scans that overlap. Open one of "
                    "them with where="
                )
                warnings.warn(msg, stacklevel=7)
                return True
    return False


def _are_even(positions: NDArray[np.float64]) -> bool:
    """Whether slices are evenly spaced."""
    steps = np.diff(positions)
    return bool(np.ptp(steps) <= _SAME_VALUE * steps.mean())


def _extent(positions: NDArray[np.float64]) -> str:
    """Return from where to where evenly spaced slices reach, and how far they are apart."""
    return f"{positions[0]:.6g} to {positions[-1]:.6g} mm, {positions[1] - positions[0]:.6g} mm apart"


def _of_every_second(table: FrameTable, rows: NDArray[np.intp], *, is_told: bool) -> str | None:
    """Return an element that tells every second slice from the others; None where none does.

    Where the header does not tell that every second slice is the next of its scan it takes more than a time.
    """
    for name in _OF_ONE_SCAN if is_told else _OF_ONE_CT_SCAN:
        if tag(name) in table.varying:
            values = [repr(value) for value in table.values(name)]
            one, two = ({values[row] for row in rows[first::2]} for first in (0, 1))
            if len(one) == len(two) == 1 and one != two:
                return name
    if not is_told:
        return None
    for way in tag_dim("time").ways:
        labels = way.labels(table) if way.is_clock else [None]
        if None not in labels:
            seconds = np.asarray(labels, float)[rows]
            first, second = seconds[0::2], seconds[1::2]
            if first.max() < second.min() or second.max() < first.min():
                return way.elements.split(" + ")[-1]
    return None


def _warn_of_exchange(table: FrameTable, name: str, volumes: NDArray[np.intp]) -> None:
    """Warn where all slices have the same values of an element, and a volume has several: slices are exchanged."""
    codes, _ = table.codes(name)
    told = codes[volumes]
    each = np.sort(told, axis=0)
    mixed = (told != told[:, :1]).any(axis=1)
    if mixed.any() and (each == each[:, :1]).all():
        _warn(table, name, volumes[int(np.argmax(mixed))], codes, f"a further {name!r} in order=")


def _warn(table: FrameTable, name: str, rows: NDArray[np.intp], codes: NDArray[np.intp], order: str) -> None:
    numbers, values = table.values("InstanceNumber"), table.values(name)
    other = rows[np.argmax(codes[rows] != codes[rows[0]])]
    one, two = (_text(values[row]) for row in (rows[0], other))
    msg = (
        f"slices of one volume differ in {name} ({one}, {two}), as those of InstanceNumber {numbers[rows[0]]} and "
        f"{numbers[other]}: they may be of several volumes. Sort by it, with {order} and missing='fill', or leave some "
        "out with where="
    )
    warnings.warn(msg, stacklevel=8)


def _text(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)


def _warn_of_no_times(table: FrameTable, grid: Grid) -> None:
    """Warn where volumes along time are no moments: maps beside images, and coils that only Siemens tells apart.

    Each has a time all the same, at which it was computed.
    """
    axis = next((k for k, axis in enumerate(grid.axes) if axis.name == "time"), None)
    if axis is None or "units" not in grid.axes[axis].attrs or any(axis.name == "image_type" for axis in grid.axes):
        return
    rows = [there[there >= 0] for there in np.moveaxis(grid.rows, axis, 0)]
    types = table.values("ImageType")
    maps = [""]
    if tag("ImageType") in table.varying:
        maps = [
            " ".join(sorted(_MAPS & {part for k in there for part in _text(types[k]).split("\\")})) for there in rows
        ]
    if len(set(maps)) > 1:
        one, two = 0, next(k for k, name in enumerate(maps) if name != maps[0])
        msg = (
            f"volumes along time are of several kinds: ImageType is {_text(types[rows[one][0]])} at "
            f"{grid.axes[axis].labels[one]:g} s and {_text(types[rows[two][0]])} at {grid.axes[axis].labels[two]:g} s. "
            "Leave some out with where="
        )
        warnings.warn(msg, stacklevel=7)
    if not str(grid.axes[axis].attrs["element"]).startswith("Content"):
        return
    coils = private_values(table, 0x0051, _SIEMENS, 0x0F, "LO", "SIEMENS")
    of_volumes = [{str(coils[row] or "") for row in there} for there in rows]
    told = {next(iter(names)) for names in of_volumes if len(names) == 1} - {""}
    if len(told) == len(rows):
        msg = (
            "volumes along time are of one coil each, as Siemens' element (0051,100F) says "
            f"({', '.join(sorted(told)[:4])}), and ContentTime is when they were computed. Sort by coils, with "
            "order={'coil': '(0051,100F)'}"
        )
        warnings.warn(msg, stacklevel=7)


def _usual(late: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is usual among volumes; of two, of which the middle is neither, the lower."""
    return np.asarray(np.median(late, axis=0) if len(late) > 2 else late.min(axis=0))


def _warn_of_long_volumes(table: FrameTable, grid: Grid) -> None:
    """Warn where a slice comes later in one volume than in the others, by about the time from volume to volume.

    Frames of each slice are counted: where one slice lacks that of one volume, and another that of the next, nothing
    else tells it.
    """
    axis = next((k for k, axis in enumerate(grid.axes) if axis.name == "time"), None)
    if axis is None or grid.rows.shape[axis] < 2 or "units" not in grid.axes[axis].attrs:
        return
    way = next(way for way in tag_dim("time").ways if way.elements == grid.axes[axis].attrs["element"])
    seconds = np.asarray(way.labels(table), float)[np.moveaxis(grid.rows, axis, 0)]
    seconds = seconds.reshape(len(seconds), -1, seconds.shape[-1])
    begins = seconds.min(axis=-1, keepdims=True)
    late = seconds - begins
    steps = np.abs(np.diff(begins, axis=0))
    before, after = np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])
    # Of a scan that gets slower, as of a PET over several beds, all slices are later, in proportion.
    beyond = (late - _usual(late) > _OF_A_STEP * np.minimum(before, after)) & (
        late / after - _usual(late / after) > _IN_PROPORTION
    )
    beyond = beyond.any(axis=(1, 2))
    if not beyond.any():
        return
    number = int(np.argmax(beyond))
    times = late.max(axis=(1, 2))
    begin = grid.axes[axis].labels[number]
    msg = (
        f"slices of volume {number} (time {begin:g} s) were acquired within {times[number]:g} s, those of others "
        f"within {np.median(times):g} s: if frames are missing, it may be made of two volumes. See {way.elements} of "
        "its slices"
    )
    warnings.warn(msg, stacklevel=7)
