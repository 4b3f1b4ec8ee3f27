"""The frames of a series to stacks: parallel frames of one size whose positions lie along one line."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from imagedata_xr.elements import tag
from imagedata_xr.errors import MixedSeriesError
from imagedata_xr.geometry import line_tolerance, patient_orientation, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.elements import Value

__all__ = [
    "PART_OF_STEP",
    "Stack",
    "by_instance",
    "describe_stacks",
    "is_segmentation",
    "only_stack",
    "split_stacks",
    "turns",
    "unreadable_place",
]

SAME_DIRECTION = 2e-3
"""Cosines that differ less belong to one orientation: scanners write noise of up to 1e-3."""
SAME_PLACE = 1e-2
"""Positions along the normal that differ less [mm] belong to one slice; only microscopes and OCT have thinner ones."""
_OF_A_STEP = 0.25
"""Part of the distance of pixels or slices, which is that small there, by which they differ less in any case."""
_SAME_SPACING = 1e-6
"""Pixel spacings that differ less [mm] are one that was rounded; writing leaves those of each frame as they are."""
PART_OF_STEP = 0.05
"""Part of the distance of slices by which a distance may differ from a multiple of it."""
_MOST_SLICES = 10_000
"""Slices of a segmentation with those that are empty: no scanner makes more."""
_STEEPEST = 1.0
"""Shear of a stack of slices of a tilted gantry: tilts are less than 45 degrees."""
_FEWEST_ON_A_LINE = 3
"""Slices that are a stack although they lie one beside the other: two always lie along some line."""
_MOST_LINES_TRIED, _MOST_DIRECTIONS = 1000, 3
"""Of the lines from a slice to the others as many are looked at, and these of them are tried with all slices."""
_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "PixelSpacing", "StackID")
_SEGMENTATIONS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""Segmentations, and label maps. Images of other kinds may have elements of these, where one went into them."""
_PROJECTIONS = {"1.2.840.10008.5.1.4.1.1.12.1.1", "1.2.840.10008.5.1.4.1.1.12.2.1"}
"""Enhanced XA and XRF."""
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_TELL_TIME = ("FrameTime", "FrameTimeVector")


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames that can be one volume, or several volumes of the same slices."""

    table: FrameTable
    orientation: NDArray[np.float64] | None
    """ImageOrientationPatient, shape (6,); None where the frames have no place in the patient."""
    positions: NDArray[np.float64] | None
    """ImagePositionPatient of each slice [mm, LPS+], shape (slice, 3), ascending along the normal."""
    slices: NDArray[np.intp]
    """Slice number of each frame."""

    @property
    def count(self) -> int:
        """Number of slices."""
        return int(self.slices.max()) + 1


def _vectors(table: FrameTable, name: str, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return vectors of `size` numbers, one a frame, and where they are complete."""
    codes, values = table.codes(name)
    found = [
        value
        if isinstance(value, list)
        and len(value) == size
        and all(isinstance(x, int | float) and isfinite(x) for x in value)
        else [np.nan] * size
        for value in values
    ]
    vectors = np.asarray(found, float)[codes]
    return vectors, ~np.isnan(vectors[:, 0])


def _clusters(vectors: NDArray[np.float64], tolerance: float) -> NDArray[np.intp]:
    """Return the number of the cluster of each vector; members differ from the first in no component by more."""
    label, centres = np.full(len(vectors), -1, np.intp), 0
    while (label < 0).any():
        first = vectors[int(np.argmax(label < 0))]
        label[(label < 0) & (np.abs(vectors - first) <= tolerance).all(axis=1)] = centres
        centres += 1
    return label


def _levels(values: NDArray[np.float64], tolerance: float) -> NDArray[np.intp]:
    """Return the rank of each number among those that differ by more than a tolerance."""
    order = np.argsort(values, kind="stable")
    step = np.diff(values[order]) > tolerance
    rank = np.empty(len(values), np.intp)
    rank[order] = np.concatenate([[0], np.cumsum(step)])
    return rank


def split_stacks(table: FrameTable) -> list[Stack]:
    """Return the stacks that the frames of a series form, in the order of their first frame.

    Frames belong together when they have the same rows, columns, samples, StackID and (but for rounding, where they
    have a place) pixel spacing, the same ImageOrientationPatient within 0.002, and positions within 0.1 mm, or half a
    pixel if that is less, of one line (which need not be the normal: a tilted gantry gives a sheared stack). A dose
    grid is a whole: those that have other planes are stacks of their own.
    """
    n = len(table)
    orientations, oriented = _vectors(table, "ImageOrientationPatient", 6)
    positions, placed = _vectors(table, "ImagePositionPatient", 3)
    placed &= oriented
    keys: dict[tuple[str, ...], list[int]] = {}
    doses = _planes_of_doses(table)
    if doses or any(name in table.varying for name in map(tag, _SHAPE)):
        shapes = [*(table.values(name) for name in _SHAPE), *doses]
        if placed.all():
            shapes[_SHAPE.index("PixelSpacing")] = _rounded_spacings(table)
        for row in range(n):
            keys.setdefault(tuple(repr(column[row]) for column in shapes), []).append(row)
    else:
        keys[()] = list(range(n))
    stacks: list[Stack] = []
    for rows in map(np.asarray, keys.values()):
        stacks += _parallel(table, rows[placed[rows]], orientations, positions)
        nowhere = rows[~placed[rows]]
        if nowhere.size:
            stacks += [Stack(part, None, None, _without_place(part)) for part in _files(table.take(nowhere))]
    return stacks


def _rounded_spacings(table: FrameTable) -> list[Value | None]:
    """Return PixelSpacing of each frame, the first one where others differ by no more than rounding."""
    codes, values = table.codes("PixelSpacing")
    numbers, told = _vectors(table, "PixelSpacing", 2)
    if len(values) < 2 or not told.all():
        return table.values("PixelSpacing")
    cluster = _clusters(numbers, _SAME_SPACING)
    first = {int(number): int(row) for row, number in reversed([*enumerate(cluster)])}
    return [values[codes[first[int(number)]]] for number in cluster]


def _planes_of_doses(table: FrameTable) -> list[list[Value | None]]:
    """Return of each frame where the planes of its file lie, if these are dose grids; else nothing.

    Planes of two doses that lie in turns, or one after the other, are no dose.
    """
    if not table.frames.any() or table.distinct("SOPClassUID") != [_DOSE]:
        return []
    places: dict[str, list[str]] = {}
    for path, place in zip(table.paths, table.values("ImagePositionPatient"), strict=True):
        places.setdefault(path, []).append(repr(place))
    return [[" ".join(sorted(places[path])) for path in table.paths]]


def only_stack(table: FrameTable) -> Stack:
    """Return the one stack that the frames of a series form.

    Raises
    ------
    MixedSeriesError
        If there are several; the error lists them.
    """
    stacks = split_stacks(table)
    if len(stacks) > 1:
        files = [set(stack.table.paths) for stack in stacks]
        are_apart = sum(map(len, files)) == len(set().union(*files))
        msg = (
            f"the series has {len(stacks)} stacks, where one was wanted:\n{describe_stacks(stacks)}\n"
            f"Open them one by one with open_study(source){', or give the files of one as a list' * are_apart}"
        )
        raise MixedSeriesError(msg)
    return stacks[0]


def _files(table: FrameTable) -> list[FrameTable]:
    """Return frames without a place file by file where files hold several: nothing says that two belong together."""
    if not table.frames.any():
        return [table]
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(table.paths):
        rows.setdefault(path, []).append(row)
    return [table.take(chosen) for chosen in rows.values()]


def _without_place(table: FrameTable) -> NDArray[np.intp]:
    """Return the slice number of frames without a place: one for all of a cine, else one each."""
    numbered = _numbers_in_volumes(table)
    if numbered is not None:
        return numbered
    tells_time = table.frames.any() and any(raw for name in _TELL_TIME for raw in table.distinct_raws(tag(name)))
    if tells_time or _is_cine_of_projections(table) or _is_dynamic(table) or _is_cine_of_files(table):
        return np.zeros(len(table), np.intp)
    return np.argsort(by_instance(table))


def _numbers_in_volumes(table: FrameTable) -> NDArray[np.intp] | None:
    """Return the slice number of frames of several volumes in one file; None where it does not number their slices."""
    numbers = [number for number in table.values("InStackPositionNumber") if isinstance(number, int)]
    if not table.frames.any() or len(numbers) < len(table) or not 1 < len(set(numbers)) < len(table):
        return None
    _, rank, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return rank.astype(np.intp) if len(set(counts.tolist())) == 1 else None


def _is_cine_of_projections(table: FrameTable) -> bool:
    """Whether frames are those of an enhanced angiography, each with a moment of its own: they have no slices."""
    moments = set(table.values("FrameAcquisitionDateTime")) if len(table) > 1 and table.frames.any() else set()
    return len(moments) == len(table) and None not in moments and set(table.distinct("SOPClassUID")) <= _PROJECTIONS


def _is_dynamic(table: FrameTable) -> bool:
    """Whether frames are those of a dynamic nuclear image: several time slices, whose times are told."""
    slices = {value for value in table.values("TimeSliceVector") if isinstance(value, int)}
    return len(slices) > 1 and None not in table.distinct("TemporalPositionTimeOffset")


def _is_cine_of_files(table: FrameTable) -> bool:
    """Whether files of one frame are a cine: each tells it, and is at a temporal position of its own.

    Times that differ are no evidence, since still pictures have them as well; and several frames at one temporal
    position may be slices.
    """
    moments = table.values("TemporalPositionIdentifier")
    if len(table) < 2 or None in moments or len(set(map(repr, moments))) < len(table):
        return False
    told = zip(*(table.values(name) for name in (*_TELL_TIME, "NumberOfTemporalPositions")), strict=True)
    return all(any(value not in (None, "") for value in frame) for frame in told)


def _parallel(
    table: FrameTable, rows: NDArray[np.intp], orientations: NDArray[np.float64], positions: NDArray[np.float64]
) -> list[Stack]:
    """Return the stacks of frames that have a place."""
    stacks: list[Stack] = []
    if not rows.size:
        return stacks
    direction = _clusters(orientations[rows], SAME_DIRECTION)
    pixels = _distances(table, rows, "PixelSpacing")
    thickness = _distances(table, rows, "SpacingBetweenSlices") or _distances(table, rows, "SliceThickness")
    same_place = min([SAME_PLACE, *(_OF_A_STEP * step for step in (*pixels, *thickness))])
    for number in range(int(direction.max()) + 1):
        group = rows[direction == number]
        orientation = np.median(orientations[group], axis=0)
        placed = positions[group] @ unit_vectors(orientation).T
        for members in _lines(placed, same_place, line_tolerance(pixels)):
            rank = _levels(placed[members, 0], same_place)
            centres = _medians(positions[group[members]], rank)
            part = table if len(members) == len(table) else table.take(group[members])
            if is_segmentation(part):
                centres, rank = _with_empty(part, centres, rank, unit_vectors(orientation)[0])
            stacks.append(Stack(part, orientation, centres, rank))
    return stacks


def _distances(table: FrameTable, rows: NDArray[np.intp], name: str) -> list[float]:
    """Return the distances [mm] that an element of the first of some frames tells, none where it tells none."""
    told = table.values(name)[rows[0]]
    numbers = told if isinstance(told, list) else [told]
    return [abs(float(number)) for number in numbers if isinstance(number, int | float) and number and isfinite(number)]


def is_segmentation(table: FrameTable) -> bool:
    """Whether frames are of a segmentation: those without a voxel of their segments may be absent (PS3.3 C.8.20.2)."""
    return set(table.distinct("SOPClassUID")) <= _SEGMENTATIONS


def _with_empty(
    table: FrameTable, centres: NDArray[np.float64], rank: NDArray[np.intp], normal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return positions and slice numbers with the empty slices between, where the distance of slices tells of them."""
    told = table.distinct("SpacingBetweenSlices")
    step = abs(told[0]) if len(told) == 1 and isinstance(told[0], int | float) else 0.0
    if not step > 0 or len(centres) < 2:
        return centres, rank
    times = np.diff(centres @ normal) / step
    number = np.concatenate([[0.0], np.cumsum(times.round())])
    if (np.abs(times - times.round()) > PART_OF_STEP).any() or (times < 0.5).any() or number[-1] >= _MOST_SLICES:
        return centres, rank
    every = np.arange(number[-1] + 1)
    full = np.stack([np.interp(every, number, along) for along in centres.T], axis=1)
    return full, number.astype(np.intp)[rank]


def _medians(vectors: NDArray[np.float64], rank: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the median, component by component, of the vectors of each rank, shape (rank, component)."""
    counts = np.bincount(rank)
    first = np.cumsum(counts) - counts
    found = np.empty((len(counts), vectors.shape[1]))
    for axis, values in enumerate(vectors.T):
        ordered = values[np.lexsort((values, rank))]
        found[:, axis] = (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]) / 2
    return found


def _lines(placed: NDArray[np.float64], same_place: float, same_line: float) -> list[NDArray[np.intp]]:
    """Return the frames that lie along each line; `placed` is (slice, row, col) of each frame [mm]."""
    everything = np.arange(len(placed))
    s = placed[:, 0]
    if np.ptp(s) <= same_place:
        off = np.abs(placed - placed[0]).max()
    else:
        low, high = int(s.argmin()), int(s.argmax())
        slope = (placed[high] - placed[low]) / (s[high] - s[low])
        off = np.abs(placed - placed[low] - np.outer(s - s[low], slope)).max()
    if off <= same_line:
        return [everything]
    label = _along_lines(placed, same_place, same_line)
    return [everything[label == k] for k in range(int(label.max()) + 1)]


def _along_lines(placed: NDArray[np.float64], same_place: float, same_line: float) -> NDArray[np.intp]:
    """Return the number of the line of each frame, of several: along the normal, or all in one direction beside it.

    Blocks of a tilted gantry are sheared alike, since the table moves in one direction. One that is not the normal has
    to explain most slices: other slices may be anywhere, and two of them always lie along a line.
    """
    best = _clusters(placed[:, 1:], same_line)
    places = np.unique(placed.round(3), axis=0)
    for end in (places[0], places[-1]):
        steps = places - end
        further = steps[np.abs(steps[:, 0]) > same_place]
        # The slice furthest along a line tells its direction best.
        further = further[np.argsort(-np.abs(further[:, 0]), kind="stable")]
        shears = further[:, 1:] / further[:, :1]
        shears = shears[(np.abs(shears) <= _STEEPEST).all(axis=1)]
        shears = shears[:: len(shears) // _MOST_LINES_TRIED + 1]
        along = [int((np.abs(steps[:, 1:] - np.outer(steps[:, 0], a)) <= same_line).all(axis=1).sum()) for a in shears]
        for shear in shears[np.argsort([-n for n in along], kind="stable")[:_MOST_DIRECTIONS]]:
            label = _clusters(placed[:, 1:] - np.outer(placed[:, 0], shear), same_line)
            count = int(label.max()) + 1
            if count <= best.max() and count * _FEWEST_ON_A_LINE <= len(places):
                best = label
    return best


def by_instance(table: FrameTable) -> list[int]:
    """Return the frames in the order of InstanceNumber, then of SliceLocation, files' names and frames in them."""
    keys = list(zip(turns(table), table.paths, table.frames.tolist(), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def turns(table: FrameTable) -> list[tuple[int, float]]:
    """Return InstanceNumber and SliceLocation of each frame, 0 for none: they order frames without a place."""
    numbers = [v if isinstance(v, int) else 0 for v in table.values("InstanceNumber")]
    locations = [float(v) if isinstance(v, int | float) else 0.0 for v in table.values("SliceLocation")]
    return list(zip(numbers, locations, strict=True))


def _words(value: Value | None) -> str:
    """Return a value as it is in the file; numbers with all digits, since stacks may differ in the last."""
    if value is None or value == "":
        return "none"
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)


def unreadable_place(table: FrameTable) -> str:
    """Return what is told of a place that is not numbers, as with a comma in them; "" where there is no such."""
    for name, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        for value in table.distinct(name):
            parts = value if isinstance(value, list) else [value]
            numbers = [part for part in parts if isinstance(part, int | float) and isfinite(part)]
            if value not in (None, "") and not len(numbers) == len(parts) == size:
                return f"{name} is {value!r}, where {size} numbers are wanted"
    return ""


def _extent(positions: NDArray[np.float64] | None) -> str:
    """Return where the first and the last slice are: orientations and sizes may be the same of all stacks."""
    if positions is None:
        return ""
    ends = dict.fromkeys("(" + ", ".join(f"{x:.6g}" for x in end) + ")" for end in positions[[0, -1]])
    return f"{'from' if len(ends) > 1 else 'at'} {' to '.join(ends)} mm, "


def describe_stacks(stacks: Sequence[Stack]) -> str:
    """Return one line a stack: frames, slices, size, place, where it faces, and what else of it is not of all."""
    lines = []
    differ = [name for name in _SHAPE[2:] if len({repr(stack.table.first(name)) for stack in stacks}) > 1]
    for stack in stacks:
        table = stack.table
        size = f"{table.values('Rows')[0]}×{table.values('Columns')[0]}"
        if stack.orientation is None:
            where = ", ".join(filter(None, ["no place in the patient", unreadable_place(table)]))
        else:
            letters = "".join(patient_orientation(unit_vectors(stack.orientation)))
            where = f"{stack.count} slice{'s' * (stack.count != 1)}, {_extent(stack.positions)}"
            where += f"axes (slice, row, col) towards {letters}"
        own = "".join(f", {name} {_words(table.first(name))}" for name in differ)
        lines.append(f"  {len(table)} frame{'s' * (len(table) != 1)} of {size}, {where}{own}")
    return "\n".join(lines)
