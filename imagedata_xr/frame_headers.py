"""The header of one frame out of that of a file which holds many: its functional groups, or its tile of a mosaic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imagedata_xr.elements import tag, to_element
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.geometry import axis_directions, make_frame
from imagedata_xr.names import GROUPS_NOT_OF_THE_FRAME, LAYOUT_OF_TILES, NAME_OF_MAP, SPATIAL_DIMS, TILED, WITHIN_GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from pydicom import Dataset

__all__ = ["grouped_elements", "keep_frame", "of_one_frame", "own_groups"]

_SHARED, _PER_FRAME = tag("SharedFunctionalGroupsSequence"), tag("PerFrameFunctionalGroupsSequence")
_POSITION = tag("ImagePositionPatient")
_OF_THE_MOSAIC = (_POSITION, *map(tag, ("SliceLocation", "SmallestImagePixelValue", "LargestImagePixelValue")))


def of_one_frame(dataset: Dataset, frame: xr.DataArray, path: str) -> Dataset | None:
    """Return the header of one frame of a file of many: with its own functional groups only, and those that all share.

    Raises
    ------
    UnreadableFileError
        If the file has no such frame.
    """
    count, groups = int(dataset.get("NumberOfFrames") or 1), own_groups(dataset)
    if count == 1:
        kind = str(frame.coords.get("ImageType", frame.attrs.get("ImageType", "")))
        tiled = any(word in (dataset.get("ImageType") or ()) and word not in kind for word in TILED)
        return _of_one_slice(dataset, frame) if tiled else dataset
    if "source_frame" not in frame.coords:
        return None
    number = int(frame.coords["source_frame"].item())
    if not 1 <= number <= count or (groups and len(groups) != count):
        msg = f"{path} has no frame {number} with groups of its own; open the series again"
        raise UnreadableFileError(msg)
    keep_frame(dataset, groups, number)
    return dataset


def _of_one_slice(dataset: Dataset, frame: xr.DataArray) -> Dataset:
    """Return the header of one slice of a mosaic: with its own size and place, and without what tells the tiles."""
    tells = [t for t in dataset.keys() if t.element > 0xFF and t.element & 0xFF in LAYOUT_OF_TILES.get(t.group, ())]  # noqa: SIM118 - iterating a dataset decodes
    for number in (*tells, *_OF_THE_MOSAIC):
        dataset.pop(number, None)
    dataset.Rows, dataset.Columns = frame.sizes["row"], frame.sizes["col"]
    if all(dim in frame.coords for dim in SPATIAL_DIMS) and "ImageOrientationPatient" in frame.attrs:
        shear = frame.attrs.get("slice_shear", (0.0, 0.0))
        corner = np.asarray([float(frame.coords[dim].min()) for dim in SPATIAL_DIMS])
        position = corner @ axis_directions(make_frame(frame.attrs["ImageOrientationPatient"], shear))
        dataset[_POSITION] = to_element(_POSITION, position.tolist())
    return dataset


def own_groups(dataset: Dataset) -> list[Dataset]:
    """Return the functional groups of each frame; none where a file has no such."""
    return list(dataset[_PER_FRAME].value or ()) if _PER_FRAME in dataset else []


def keep_frame(dataset: Dataset, groups: Sequence[Dataset], number: int) -> None:
    """Change the header of a file of many frames to that of one (counted from 1), whose functional groups it keeps."""
    from pydicom import DataElement

    if groups:
        # A new element: the list in the old one is that of all frames.
        dataset[_PER_FRAME] = DataElement(_PER_FRAME, "SQ", [groups[number - 1]])
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = 1


def grouped_elements(dataset: Dataset) -> dict[str, tuple[Dataset, str]]:
    """Return where functional groups hold an element: keyword to item, and the keyword there; a frame's own first."""
    found: dict[str, tuple[Dataset, str]] = {}
    group, name = NAME_OF_MAP
    for sequence in (_SHARED, _PER_FRAME):
        for macros in (dataset[sequence].value or ())[:1] if sequence in dataset else ():
            for macro in macros:
                is_one = macro.VR == "SQ" and macro.value and len(macro.value) == 1
                if is_one and macro.keyword not in GROUPS_NOT_OF_THE_FRAME:
                    _collect(macro.value[0], found)
                elif is_one and macro.keyword == group and name in macro.value[0]:
                    found[name] = macro.value[0], name
    return found


def _collect(item: Dataset, found: dict[str, tuple[Dataset, str]]) -> None:
    """Add the elements of an item, and of the diffusion sequences in it."""
    for element in item:
        if element.keyword in WITHIN_GROUPS and element.value and len(element.value) == 1:
            _collect(element.value[0], found)
        elif element.keyword and element.VR != "SQ":
            # Of a file of one image ImageType is what FrameType is of a frame.
            found["ImageType" if element.keyword == "FrameType" else element.keyword] = (item, element.keyword)
