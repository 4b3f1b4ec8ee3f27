"""Files of many frames: for each frame the elements that a file of its own would have.

Enhanced files (PS3.3 C.7.6.16) say in functional groups what all frames share and what is of one. The elements in
these groups become elements of the frame; where both say it, its own win, then shared ones, then those at top level.
FrameType is what ImageType is in a file of one image. Real world values stay in the groups: they are kept, not applied.

Older files of many frames have vectors with one value a frame, named by FrameIncrementPointer. Their frames lie in
space only where a rule says how: dose grids (C.8.8.3.2) and reconstructed nuclear images (C.8.4.15); dynamic nuclear
images have times (C.8.4.14).

A segmentation (C.8.20) has frames of 0 and 1, or of fractions, whose rescale is 1 / MaximumFractionalValue; each frame
has the label of its segment; a label map has those of all.
"""

from __future__ import annotations

import struct
import warnings
from collections import ChainMap
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.dicom.damage import DAMAGE
from imagedata_xr.dicom.decode import DEFLATED
from imagedata_xr.dicom.groups import Items, Known, Raws, flat, read_sequences
from imagedata_xr.dicom.item_forms import Taken, flat_all
from imagedata_xr.dicom.walk import UNDEFINED, Alike, Elements, Kinds
from imagedata_xr.elements import Raw, Value, decode, encode, keyword, tag
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.options import OPTIONS
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.streams import status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from imagedata_xr.dicom.walk import Head

__all__ = ["PER_FRAME", "SHARED", "TELLS_FRAMES", "frame_bytes", "frame_elements", "is_multiframe"]

SHARED: Final = tag("SharedFunctionalGroupsSequence")
PER_FRAME: Final = tag("PerFrameFunctionalGroupsSequence")
_FRAMES: Final = tag("NumberOfFrames")
_POSITION, _ORIENTATION = tag("ImagePositionPatient"), tag("ImageOrientationPatient")
_OFFSETS, _SCALING = tag("GridFrameOffsetVector"), tag("DoseGridScaling")
TELLS_FRAMES: Final = frozenset((_FRAMES, SHARED, PER_FRAME, _SCALING))
"""Elements on which `is_multiframe` depends."""
_SLOPE, _INTERCEPT = tag("RescaleSlope"), tag("RescaleIntercept")
_DETECTOR, _SEGMENTS = tag("DetectorInformationSequence"), tag("SegmentSequence")
_PHASES, _SINCE_START = tag("PhaseInformationSequence"), tag("TemporalPositionTimeOffset")
_SEGMENT, _NUMBERS, _LABEL = tag("ReferencedSegmentNumber"), tag("SegmentNumber"), tag("SegmentLabel")
_SOP_CLASS: Final = tag("SOPClassUID")
_FRACTION: Final = tag("MaximumFractionalValue")
_FRAME_TYPE, _IMAGE_TYPE = tag("FrameType"), tag("ImageType")
_SEGMENTATION_TYPE: Final = tag("SegmentationType")
_ENHANCED: Final = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}".encode()
    for number in ("2.1", "2.2", "4.1", "4.3", "4.4", "12.1.1", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "128.1", "130")
)
"""Enhanced and legacy-converted CT, MR, XA, XRF and PET; 3D X-ray and tomosynthesis."""

_ENTRY: Final = 64
"""Bytes that an element takes in the dictionary of a frame."""


def is_multiframe(elements: Raws) -> bool:
    """Whether a file has frames that need elements of their own: it says so, has functional groups, or is a dose."""
    count = elements.get(_FRAMES)
    return (
        (count is not None and count.value.strip(b" \0") not in (b"", b"1"))
        or PER_FRAME in elements
        or SHARED in elements
        or _SCALING in elements
    )


def frame_bytes(head: Head) -> int:
    """Return the bytes of one frame in a file of plain pixels; 0 where frames do not lie in it byte by byte."""
    bits = _bits(head.elements.whole())
    return bits // 8 if bits % 8 == 0 and head.pixel_length != UNDEFINED and head.pixel_offset > 0 else 0


def frame_elements(path: str, head: Head) -> list[Elements | Alike]:
    """Return the elements of the frames of a file, as files of their own would have them.

    Parameters
    ----------
    path : str
        The file.
    head : Head
        Its head; one for which `is_multiframe` holds.

    Raises
    ------
    UnreadableFileError
        If functional groups or vectors are not as many as frames, or the file is too short for its frames.
    """
    count = _count(path, head)
    _refuse_tiles(path, head.elements.whole(), count)
    common = {number: raw for number, raw in head.elements.whole().items() if number != _FRAMES}
    if PER_FRAME in common or SHARED in common:
        frames = _enhanced(path, head, common, count)
    else:
        if common.get(_SOP_CLASS, Raw("UI", b"")).value.strip(b" \0") in _ENHANCED:
            warnings.warn(
                f"{path} is an enhanced file without functional groups: its {count} frames are numbered as they "
                "lie in it, and have no place in the patient",
                stacklevel=2,
            )
        frames = [Elements(elements) for elements in _classic(path, head, common, count)]
    if _SCALING in common:
        scaled = {_SLOPE: Raw("DS", common[_SCALING].value), _INTERCEPT: Raw("DS", b"0")}
        each = [e for frame in frames for e in (frame.each() if isinstance(frame, Alike) else [frame])]
        frames = [Elements(elements.whole() | scaled) for elements in each]
    return frames


def _refuse_tiles(path: str, elements: Raws, count: int) -> None:
    """Raise UnreadableFileError if frames are tiles of one picture (PS3.3 C.7.6.17.3), which are no slices.

    One frame may be a tile, too, where a picture is split over files.
    """
    rows, columns = (_integer(elements, f"TotalPixelMatrix{name}", 0) for name in ("Rows", "Columns"))
    if rows > _integer(elements, "Rows", 0) or columns > _integer(elements, "Columns", 0):
        are = f"{count} frames are tiles" if count > 1 else "frame is a tile"
        raise _error(
            path,
            f"is a whole slide image: its {are} of one picture of {rows} × {columns} pixels, and no "
            "slices of a volume. Open it with a program for such pictures, as wsidicom or highdicom, or leave it out "
            "with errors='warn'",
        )


def _error(path: str, what: str) -> UnreadableFileError:
    return UnreadableFileError(f"{path} {what}")


def _integer(elements: Mapping[int, Raw], name: str, default: int) -> int:
    """Return the number an element holds, or the default."""
    raw = elements.get(tag(name))
    value = None if raw is None else decode(tag(name), raw)
    return value if isinstance(value, int) else default


def _bits(elements: Raws) -> int:
    """Return the bits of one frame of plain pixels."""
    samples = _integer(elements, "SamplesPerPixel", 1)
    raw = elements.get(tag("PhotometricInterpretation"))
    if samples == 3 and raw is not None and raw.value.strip(b" \0") in (b"YBR_FULL_422", b"YBR_PARTIAL_422"):
        samples = 2  # two pixels share their colour
    pixels = _integer(elements, "Rows", 0) * _integer(elements, "Columns", 0)
    return pixels * samples * _integer(elements, "BitsAllocated", 0)


def _count(path: str, head: Head) -> int:
    """Return the number of frames, which the file must be long enough to hold.

    Raises
    ------
    UnreadableFileError
        If it is no number, or more frames than the file can hold or there is to be memory for.
    """
    raw = head.elements.get(_FRAMES)
    count = 1 if raw is None or not raw.value.strip(b" \0") else decode(_FRAMES, raw)
    if not isinstance(count, int) or count < 1:
        raise _error(path, f"has {count!r} as its NumberOfFrames; a number of at least 1 is wanted")
    size = status(path, is_listed=True).size
    elements = head.elements.whole()
    bits = _bits(elements)
    if not _integer(elements, "Rows", 0) * _integer(elements, "Columns", 0):
        raise _error(path, "has frames of no size: at least one of Rows and of Columns is wanted")
    if head.pixel_length == UNDEFINED or head.syntax == DEFLATED:
        # A compressed frame takes at least the 8 bytes of an item; a deflated one at least a thousandth of its bytes.
        needed = 8 * count if head.pixel_length == UNDEFINED else max(count, bits // 8 * count) // 1032
        fits = needed <= size
    else:
        needed, size = -(-bits * count // 8), head.pixel_length if head.pixel_offset > 0 else size
        # What is read by pydicom may be compressed.
        fits = needed <= size or (head.pixel_offset <= 0 and 8 * count <= size)
    if not fits:
        raise _error(
            path,
            f"is cut short: its {count} frames need at least {needed} bytes, {size} are there. "
            "Get it again, or leave it out with errors='warn'",
        )
    table, most = count * len(elements) * _ENTRY, OPTIONS["largest_header"]
    if table > most:
        raise _error(
            path,
            f"has {count} frames, whose headers would take {table} bytes; at most {most} are read, unless "
            "imagedata_xr.set_options(largest_header=...) allows more",
        )
    return count


# --- enhanced files


def _enhanced(path: str, head: Head, common: Raws, count: int) -> list[Elements | Alike]:
    """Return the elements of each frame of a file with functional groups.

    Raises
    ------
    UnreadableFileError
        If there are not as many items as frames, or some frames have a position and others none.
    """
    signed = _integer(common, "PixelRepresentation", 0) == 1
    try:
        with filtered_warnings():
            known: Known = {}
            taken: dict[int, Callable[[Items], list[Any]]] = {
                SHARED: lambda items: [flat(item, known) for item in items.items()],
                PER_FRAME: lambda items: flat_all(items, known),
                _SEGMENTS: lambda items: [(i.raw(_NUMBERS), i.raw(_LABEL)) for i in items.items()],
            }
            shared, per_frame, segments = read_sequences(path, head, taken, signed=signed)
            items = sum(len(values) for _, values in per_frame)
            if items != count and (items or count > 1):
                raise _error(
                    path,
                    f"has {items} items in PerFrameFunctionalGroupsSequence for its {count} frames; "
                    "without one item a frame they cannot be told apart. Get it again",
                )
    except UnreadableFileError:
        raise
    except (*DAMAGE, OSError) as err:
        raise _error(path, f"is a damaged DICOM file: {type(err).__name__} in its functional groups") from err
    base = common | (shared[0] if shared else {})
    own: list[Taken] = per_frame or [((), [()])]
    labels = _labels(path, segments)
    if labels:
        # All that are described, in each frame: some may have none.
        base[_NUMBERS] = Raw("US", b"".join(labels))
    have_position = [_POSITION in dict(kinds) for kinds, _ in own]
    if len(set(have_position)) > 1:
        of_frames = [has for has, (_, values) in zip(have_position, own, strict=True) for _ in values]
        lacking = [k for k, has in enumerate(of_frames) if not has]
        raise _error(
            path,
            f"has {len(lacking)} of {count} frames without ImagePositionPatient in PlanePositionSequence "
            f"(frame {lacking[0] + 1} is the first)",
        )
    kind = base.pop(_FRAME_TYPE, None)
    if kind is not None:
        base[_IMAGE_TYPE] = kind
    named: dict[Kinds, Kinds | None] = {}
    frames: list[Elements | Alike] = []
    for kinds, run in own:
        if kinds not in named:
            there = {number for number, _ in kinds}
            depends = labels or {_FRACTION} & (base.keys() | there)
            named[kinds] = None if depends else _named(kinds, there, has_kind=kind is not None)
        names = named[kinds]
        if names is None:
            wholes = [dict(Elements({}, kinds, values).whole()) for values in run]
            frames += [_frame(base, whole, labels, has_kind=kind is not None) for whole in wholes]
        else:
            frames.append(Alike(base, names, run))
    return frames


def _labels(path: str, segments: list[tuple[Raw | None, Raw | None]]) -> dict[bytes, Raw]:
    """Return the label of each segment by its number, both as bytes.

    Raises
    ------
    UnreadableFileError
        If two segments have one number.
    """
    labels: dict[bytes, Raw] = {}
    for number, label in segments:
        if number is not None and label is not None and labels.setdefault(number.value, label) != label:
            one, two = (repr(raw.value.strip().decode("utf-8", "replace")) for raw in (labels[number.value], label))
            told = decode(_NUMBERS, number)
            raise _error(path, f"calls segment {told} {one} and {two}: one number has to be of one segment")
    return labels


def _named(kinds: Kinds, there: set[int], *, has_kind: bool) -> Kinds | None:
    """Return the kinds of elements by the names they have in a file of one image; None where one is to be left out."""
    if _IMAGE_TYPE in there and (has_kind or _FRAME_TYPE in there):
        return None
    return tuple((_IMAGE_TYPE if number == _FRAME_TYPE else number, vr) for number, vr in kinds)


def _frame(base: Raws, own: Raws, labels: dict[bytes, Raw], *, has_kind: bool) -> Elements:
    """Return the elements of a frame by the names they have in a file of one image, and those of its segment."""
    if _FRAME_TYPE in own:
        own[_IMAGE_TYPE] = own.pop(_FRAME_TYPE)
    elif has_kind:
        own.pop(_IMAGE_TYPE, None)
    frame = ChainMap(own, base)
    segment = frame.get(_SEGMENT)
    if segment is not None and segment.value in labels:
        own[_LABEL] = labels[segment.value]
    elif segment is None and labels:
        # A label map: its values are the numbers of segments.
        own[_LABEL] = Raw("LO", b"\\".join(raw.value.strip() for raw in labels.values()))
    largest = _integer(frame, "MaximumFractionalValue", 0)
    if largest and frame.get(_SEGMENTATION_TYPE, Raw("CS", b"")).value.strip() == b"FRACTIONAL":
        # As a double, for the largest value to come out as 1: a decimal string has 16 characters only.
        own[_SLOPE], own[_INTERCEPT] = Raw("FD", struct.pack("<d", 1 / largest)), Raw("DS", b"0")
    return Elements(base, tuple((number, raw.vr) for number, raw in own.items()), [raw.value for raw in own.values()])


# --- older files


def _classic(path: str, head: Head, common: Raws, count: int) -> list[Raws]:
    """Return the elements of each frame of a file without functional groups."""
    frames: list[Raws] = [dict(common) for _ in range(count)]
    for number in _pointers(common):
        raw = common.get(number)
        values = None if raw is None else decode(number, raw)
        if isinstance(values, list) and len(values) == count and count > 1 and number != tag("FrameTimeVector"):
            for frame, value in zip(frames, values, strict=True):
                frame[number] = encode(number, value)
    if _OFFSETS in common or (_SCALING in common and count > 1):  # a dose that does not tell its planes is an error
        _place_dose(path, common, frames)
    elif _DETECTOR in common and count > 1:
        _place_nuclear(path, head, frames)
        if _PHASES in common:
            _time_nuclear(path, head, frames)
    return frames


def _pointers(elements: Raws) -> list[int]:
    """Return the elements that have one value a frame."""
    raw = elements.get(tag("FrameIncrementPointer"))
    value = None if raw is None else decode(tag("FrameIncrementPointer"), raw)
    names = value if isinstance(value, list) else [value]
    return [int(name, 16) for name in names if isinstance(name, str) and name]


def _vector(value: Value | None, size: int) -> NDArray[np.float64] | None:
    """Return so many finite numbers; None for anything else."""
    parts = value if isinstance(value, list) else [value]
    numbers = [float(p) for p in parts if isinstance(p, int | float) and np.isfinite(p)]
    return np.asarray(numbers) if len(numbers) == size == len(parts) else None


def _place_dose(path: str, common: Raws, frames: list[Raws]) -> None:
    """Give each plane of a dose grid its position (PS3.3 C.8.8.3.2).

    Raises
    ------
    UnreadableFileError
        If there is not one offset a plane, or it is unknown from where they count.
    """

    def numbers(number: int, size: int) -> NDArray[np.float64]:
        value = decode(number, common[number]) if number in common else None
        vector = _vector(value, size)
        if vector is None:
            found = len(value) if isinstance(value, list) else repr(value)
            raise _error(path, f"is a dose grid with {found} in {keyword(number)}; {size} numbers are wanted")
        return vector

    offsets = numbers(_OFFSETS, len(frames))
    corner, direction = numbers(_POSITION, 3), numbers(_ORIENTATION, 6)
    normal = np.cross(direction[:3], direction[3:])
    if offsets[0]:
        # Offsets may be z of the patient itself, for planes across it only.
        if not np.allclose(np.abs(direction), (1, 0, 0, 0, 1, 0), atol=1e-4) or abs(offsets[0] - corner[2]) > 1e-2:
            raise _error(
                path,
                f"is a dose grid whose GridFrameOffsetVector begins with {offsets[0]:g} mm; 0, or z of its "
                f"ImagePositionPatient ({corner[2]:g} mm), is wanted",
            )
        positions = np.broadcast_to(corner, (len(offsets), 3)).copy()
        positions[:, 2] = offsets
    else:
        positions = corner + offsets[:, np.newaxis] * normal
    for frame, position, offset in zip(frames, positions, offsets, strict=True):
        frame[_POSITION] = encode(_POSITION, position.tolist())
        frame[_OFFSETS] = encode(_OFFSETS, float(offset))


def _place_nuclear(path: str, head: Head, frames: list[Raws]) -> None:
    """Give each slice of a reconstructed nuclear image its position: step by step along the normal (PS3.3 C.8.4.15)."""
    slices = [_integer(frame, "SliceVector", 0) for frame in frames]
    detectors = _raws_of_items(path, head, _DETECTOR, (_POSITION, _ORIENTATION))
    which = [_detector(frame) for frame in frames]
    if not all(slices) or not set(which) <= set(range(1, len(detectors) + 1)):
        return
    spacing = frames[0].get(tag("SpacingBetweenSlices"))
    step = None if spacing is None else _vector(decode(tag("SpacingBetweenSlices"), spacing), 1)
    places = {}
    for detector in set(which):
        corner, direction = (
            None if raw is None else _vector(decode(number, raw), size)
            for number, raw, size in zip((_POSITION, _ORIENTATION), detectors[detector - 1], (3, 6), strict=True)
        )
        if corner is None or direction is None or step is None:
            return
        places[detector] = corner, direction, step[0] * np.cross(direction[:3], direction[3:])
    for frame, number, detector in zip(frames, slices, which, strict=True):
        corner, direction, to_next = places[detector]
        frame[_POSITION] = encode(_POSITION, (corner + (number - 1) * to_next).tolist())
        frame[_ORIENTATION] = encode(_ORIENTATION, direction.tolist())


def _raws_of_items(path: str, head: Head, sequence: int, numbers: tuple[int, ...]) -> list[list[Raw | None]]:
    """Return some elements of each item of a sequence.

    Raises
    ------
    UnreadableFileError
        If it is damaged.
    """
    take = {sequence: lambda items: [[item.raw(number) for number in numbers] for item in items.items()]}
    try:
        with filtered_warnings():
            (found,) = read_sequences(path, head, take, signed=False)
    except UnreadableFileError:
        raise
    except (*DAMAGE, OSError) as err:
        raise _error(path, f"is a damaged DICOM file: {type(err).__name__} in {keyword(sequence)}") from err
    return found


def _detector(frame: Raws) -> int:
    """Return the number of the detector of a frame of a nuclear image; 0 where it may be one of several."""
    raw = frame.get(tag("DetectorVector"))
    value = 1 if raw is None else decode(tag("DetectorVector"), raw)
    numbers = set(value) if isinstance(value, list) else {value}
    number = numbers.pop()
    return number if isinstance(number, int) and not numbers else 0


def _time_nuclear(path: str, head: Head, frames: list[Raws]) -> None:
    """Give each frame of a dynamic nuclear image the time at which it begins, from its phases (PS3.3 C.8.4.14)."""
    names = ("PhaseDelay", "ActualFrameDuration", "PauseBetweenFrames", "NumberOfFramesInPhase")
    phases = _raws_of_items(path, head, _PHASES, tuple(map(tag, names)))
    begins: dict[tuple[int, int], int] = {}
    now = 0
    for number, raws in enumerate(phases, 1):
        told = {name: raw for name, raw in zip(map(tag, names), raws, strict=True) if raw is not None}
        delay, duration, pause, count = (_integer(told, name, 0) for name in names)
        if min(delay, pause) < 0 or duration < 1 or not 1 <= count <= len(frames):
            return
        now += delay
        for k in range(1, count + 1):
            begins[number, k] = now
            now += duration + pause * (k < count)
    which = [(_integer(frame, "PhaseVector", 1), _integer(frame, "TimeSliceVector", 0)) for frame in frames]
    if set(which) <= begins.keys():
        for frame, key in zip(frames, which, strict=True):
            frame[_SINCE_START] = Raw("FD", struct.pack("<d", begins[key] / 1000))
