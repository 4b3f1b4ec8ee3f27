"""Mosaics: the slices of one volume side by side in one big image, as Siemens and United Imaging write them.

Tile k is slice k, row by row from the upper left; the last tiles may be empty. Each slice gets the elements that a
file of its own would have.

Siemens (ImageType has MOSAIC) says how many slices there are in (0019,xx0A) or the CSA header, and gives the position
of the big image as if it were one slice: its centre is that of the first slice. The next ones follow along
SliceNormalVector of the CSA header, which points against the normal where slices are numbered from head to foot.

United Imaging (ImageType has VFRAME) has a private sequence, (0065,xx51), with a short header for each slice.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil, isqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.dates import date_text, parse_datetime, time_text
from imagedata_xr.dicom.csa import CREATOR, csa
from imagedata_xr.dicom.damage import read_elements
from imagedata_xr.dicom.stored import Tile
from imagedata_xr.elements import WITHOUT_VALUE, Raw, Value, decimal_string, decode, encode, tag, to_value
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.names import LAYOUT_OF_TILES, TILED

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

__all__ = ["TELLS_TILES", "tiles_of"]

Slices = list[tuple[dict[int, Raw], Tile]]

_IMAGE_TYPE, _POSITION = tag("ImageType"), tag("ImagePositionPatient")
TELLS_TILES: Final = frozenset((_IMAGE_TYPE,))
"""Elements that tell whether a file is a mosaic."""
_DATE, _TIME, _MOMENT = tag("AcquisitionDate"), tag("AcquisitionTime"), tag("AcquisitionDateTime")
_SIEMENS: Final = "SIEMENS MR HEADER"
_UIH: Final = "Image Private Header"
_PUBLIC: Final = (
    *("ImageType", "Rows", "Columns", "AcquisitionMatrix", "PixelSpacing", "SpacingBetweenSlices", "RepetitionTime"),
    *("ImagePositionPatient", "ImageOrientationPatient", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
)
_OF_THE_WHOLE: Final = tuple(
    map(tag, ("SliceLocation", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"))
)
"""Elements that are not true of one slice."""
_PARALLEL: Final = 1e-3
"""How much the direction in which slices follow may differ from the normal, as a cosine."""
_MOST_SLICES: Final = 4096


def tiles_of(path: str, elements: dict[int, Raw]) -> Slices:
    """Return elements and tile of each slice of a mosaic; nothing for a file of another kind.

    Parameters
    ----------
    path : str
        The file, of one frame.
    elements : dict
        Its elements.

    Raises
    ------
    UnreadableFileError
        If it is a mosaic and does not say how many slices it has, or where they are.
    """
    raw = elements.get(_IMAGE_TYPE)
    if raw is None or (b"MOSAIC" not in raw.value and b"VFRAME" not in raw.value):
        return []
    kinds = decode(_IMAGE_TYPE, raw)
    if not isinstance(kinds, list):
        return []
    if "MOSAIC" in kinds:
        return _siemens(path, elements, _dataset(path, {0x0019: LAYOUT_OF_TILES[0x0019], 0x0029: (0x10,)}))
    if "VFRAME" in kinds:
        return _united_imaging(path, elements, _dataset(path, {0x0065: LAYOUT_OF_TILES[0x0065]}))
    return []


def _dataset(path: str, private: dict[int, tuple[int, ...]]) -> Dataset:
    """Return the elements that tell where slices are; of private groups those with the given last bytes."""
    wanted = [tag(name) for name in _PUBLIC]
    for group, last in private.items():
        wanted += [group << 16 | creator for creator in range(0x10, 0x20)]
        wanted += [group << 16 | creator << 8 | byte for creator in range(0x10, 0x20) for byte in last]
    return read_elements(path, wanted)


def _private(dataset: Dataset, group: int, creator: str, byte: int) -> Any:
    """Return the value of a private element; None where it is absent."""
    try:
        element = dataset.private_block(group, creator)[byte]
    except KeyError:
        return None
    if element.VR == "UN" and isinstance(element.value, bytes):
        return decode(int(element.tag), Raw("US" if byte == 0x0A else "FD", element.value))
    return element.value


def _numbers(path: str, dataset: Dataset, name: str, count: int) -> list[float]:
    """Return the numbers of an element.

    Raises
    ------
    UnreadableFileError
        If there are not as many as wanted.
    """
    value: Value | None = to_value(dataset[name]) if name in dataset else None
    parts = value if isinstance(value, list) else [value]
    found = [float(p) for p in parts if isinstance(p, int | float) and np.isfinite(p)]
    if len(found) != count:
        msg = f"{path} is a mosaic whose {name} is {value!r}; {count} numbers are wanted to place its slices"
        raise UnreadableFileError(msg)
    return found


def _siemens(path: str, elements: dict[int, Raw], dataset: Dataset) -> Slices:
    """Return the slices of a Siemens mosaic."""
    header = csa(dataset)
    count = _private(dataset, 0x0019, _SIEMENS, 0x0A)
    if not isinstance(count, int):
        named = header.get("NumberOfImagesInMosaic", [])
        count = int(named[0]) if len(named) == 1 and named[0].isdecimal() else None
    if count is None and _is_one_slice(dataset):
        return []
    if count is None:
        msg = (
            f"{path} is a Siemens mosaic without the number of its slices: neither (0019,xx0A) of {_SIEMENS!r} nor "
            f"NumberOfImagesInMosaic of {CREATOR!r} is there; ask for files whose private elements were not removed"
        )
        raise UnreadableFileError(msg)
    if count == 1:
        return []
    rows, columns, tiles = _grid(path, dataset, count, square=True)
    normal = _slice_normal(path, dataset, header)
    direction = np.reshape(_numbers(path, dataset, "ImageOrientationPatient", 6), (2, 3))
    down_mm, right_mm = _numbers(path, dataset, "PixelSpacing", 2)
    (step,) = _numbers(path, dataset, "SpacingBetweenSlices", 1)
    corner = np.asarray(_numbers(path, dataset, "ImagePositionPatient", 3))
    # The position given is that of a slice as large as the mosaic, with the centre of the first slice.
    corner = corner + direction[0] * right_mm * (tiles[0].columns - columns) / 2
    corner = corner + direction[1] * down_mm * (tiles[0].rows - rows) / 2
    times = _slice_times(dataset, header, count)
    common = _of_one_slice(elements, rows, columns)
    found: Slices = []
    for k, tile in enumerate(tiles):
        position = map(decimal_string, (corner + k * step * normal).tolist())
        placed = Raw("DS", "\\".join(position).encode("ascii"))
        found.append(({**common, _POSITION: placed, **times[k]}, tile))
    return found


def _is_one_slice(dataset: Dataset) -> bool:
    """Whether the image is as large as what was acquired.

    Scanners that unpack mosaics leave the word MOSAIC in ImageType.
    """
    acquired = to_value(dataset["AcquisitionMatrix"]) if "AcquisitionMatrix" in dataset else None
    sizes = [int(v) for v in acquired if isinstance(v, int)] if isinstance(acquired, list) else []
    return max(sizes, default=0) >= max(int(dataset.Rows), int(dataset.Columns))


def _slice_normal(path: str, dataset: Dataset, header: dict[str, list[str]]) -> NDArray[np.float64]:
    """Return the direction in which slices follow each other: the normal or its reverse.

    Raises
    ------
    UnreadableFileError
        If the header does not tell which.
    """
    given = header.get("SliceNormalVector", [])
    try:
        told = np.asarray(given, float)
    except ValueError:
        told = np.empty(0)
    if told.shape != (3,):
        found = f"is {given!r}" if given else "is not there"
        msg = (
            f"{path} is a Siemens mosaic whose SliceNormalVector of {CREATOR!r} {found}; without it the order of its "
            "slices is unknown. Ask for files whose private elements were not removed"
        )
        raise UnreadableFileError(msg)
    right, down = np.reshape(_numbers(path, dataset, "ImageOrientationPatient", 6), (2, 3))
    normal = np.cross(right, down)
    cosine = float(normal @ told)
    if not abs(abs(cosine) - 1) <= _PARALLEL:
        msg = (
            f"{path} is a Siemens mosaic whose SliceNormalVector {told.tolist()} is not along the normal "
            f"{normal.round(5).tolist()} of ImageOrientationPatient; its slices cannot be placed"
        )
        raise UnreadableFileError(msg)
    unit: NDArray[np.float64] = np.sign(cosine) * normal / np.linalg.norm(normal)
    return unit


def _slice_times(dataset: Dataset, header: dict[str, list[str]], count: int) -> list[dict[int, Raw]]:
    """Return for each slice the elements that tell when it was acquired, where the file says it [ms after the start].

    What is no time within a repetition is not believed; the slices then keep the time of the volume.
    """
    given = _private(dataset, 0x0019, _SIEMENS, 0x29) or header.get("MosaicRefAcqTimes", [])
    try:
        offsets = np.asarray(list(given), float)
    except (TypeError, ValueError):
        offsets = np.empty(0)
    start = parse_datetime(f"{dataset.get('AcquisitionDate', '')}{dataset.get('AcquisitionTime', '')}")
    longest = dataset.get("RepetitionTime")
    believed = offsets.shape == (count,) and bool((offsets >= 0).all()) and start is not None and longest
    if not believed or start is None or not bool((offsets <= float(longest)).all()):
        return [{} for _ in range(count)]
    found = []
    for offset in offsets:
        moment = start + timedelta(milliseconds=float(offset))
        date, time = date_text(moment).encode(), time_text(moment).encode()
        at = {_DATE: Raw("DA", date), _TIME: Raw("TM", time)}
        if dataset.get("AcquisitionDateTime"):
            at[_MOMENT] = Raw("DT", date + time)
        found.append(at)
    return found


def _united_imaging(path: str, elements: dict[int, Raw], dataset: Dataset) -> Slices:
    """Return the slices of a United Imaging grid."""
    headers = _private(dataset, 0x0065, _UIH, 0x51)
    count = _private(dataset, 0x0065, _UIH, 0x50)
    if headers is None and count is None and "ImagePositionPatient" in dataset:
        return []
    if isinstance(headers, bytes) or not headers or count is None or int(count) != len(headers):
        found = "no slices" if not headers or isinstance(headers, bytes) else f"{len(headers)} headers of slices"
        msg = (
            f"{path} is a United Imaging grid with {found} in (0065,xx51) and a count of {count} in (0065,xx50) of "
            f"{_UIH!r}; as many headers as slices are wanted. Ask for files whose private elements were not removed"
        )
        raise UnreadableFileError(msg)
    rows, columns, tiles = _grid(path, dataset, len(headers), square=False)
    common = _of_one_slice(elements, rows, columns)
    slices: Slices = []
    for number, (item, tile) in enumerate(zip(headers, tiles, strict=True)):
        own = {
            int(element.tag): encode(int(element.tag), value)
            for element in item
            if not element.tag.is_private and element.VR not in WITHOUT_VALUE
            if (value := to_value(element)) is not None
        }
        if _POSITION not in own:
            msg = f"{path} is a United Imaging grid without ImagePositionPatient of slice {number}"
            raise UnreadableFileError(msg)
        slices.append(({**common, **own}, tile))
    return slices


def _of_one_slice(elements: dict[int, Raw], rows: int, columns: int) -> dict[int, Raw]:
    """Return the elements that all slices share."""
    common = {t: raw for t, raw in elements.items() if t not in _OF_THE_WHOLE and not _tells_layout(t)}
    common[tag("Rows")], common[tag("Columns")] = encode("Rows", rows), encode("Columns", columns)
    kinds = decode(_IMAGE_TYPE, elements[_IMAGE_TYPE])
    if isinstance(kinds, list):
        common[_IMAGE_TYPE] = encode("ImageType", [str(k) for k in kinds if k not in TILED])
    return common


def _tells_layout(number: int) -> bool:
    """Whether a private element says how slices lie in the mosaic."""
    return number & 0xFF00 > 0 and number & 0xFF in LAYOUT_OF_TILES.get(number >> 16, ())


def _grid(path: str, dataset: Dataset, count: int, *, square: bool) -> tuple[int, int, list[Tile]]:
    """Return rows and columns of a slice, and the tile of each: as many across as needed for a square of tiles.

    Raises
    ------
    UnreadableFileError
        If the image cannot be divided so.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 1 <= count <= _MOST_SLICES:
        msg = f"{path} is a mosaic of {count} slices; 1 to {_MOST_SLICES} can be"
        raise UnreadableFileError(msg)
    across = isqrt(count - 1) + 1
    downwards = across if square else ceil(count / across)
    if rows % downwards or columns % across:
        size = f"{rows}×{columns}"
        msg = f"{path} is a mosaic of {count} slices; {downwards} by {across} tiles do not fill its {size} pixels"
        raise UnreadableFileError(msg)
    high, wide = rows // downwards, columns // across
    return high, wide, [Tile(k // across * high, k % across * wide, rows, columns) for k in range(count)]
