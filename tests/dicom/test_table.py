"""Tables of frames, as they grow file by file."""

from __future__ import annotations

from imagedata_xr.dicom.expand import Frames
from imagedata_xr.dicom.table import TableBuilder
from imagedata_xr.dicom.walk import Elements, Head
from imagedata_xr.elements import Raw, tag


def head(name: str) -> Head:
    return Head(
        "1.2.840.10008.1.2.1", Elements({tag("SeriesDescription"): Raw("LO", name.encode())}), 0x7FE00010, 1000, 96
    )


def test_files_of_one_frame_many_frames_and_slices_of_a_mosaic_in_one_series():
    """Each frame knows its file, its number in it, where its pixels begin, and what part of them it takes."""
    one, many, mosaic, elsewhere = map(head, ("one", "many", "mosaic", "far"))
    tiles = [(0, 0, 4, 4), (0, 4, 4, 4)]
    builder = TableBuilder()
    builder.add("/1", 1096, 11, one, Frames([one.elements], 1000, 0, 96, 0x7FE00010))
    builder.add("/3", 1096, 13, many, Frames([many.elements] * 3, 1000, 32, 32, 0x7FE00010))
    builder.add("/m", 1096, 17, mosaic, Frames([mosaic.elements] * 2, 1000, 0, 96, 0x7FE00010, tiles))
    builder.add("/c", 500, 19, elsewhere, Frames([elsewhere.elements] * 2, -1, 0, 0, 0x7FE00010))
    table = builder.table()
    assert table.paths == ["/1", "/3", "/3", "/3", "/m", "/m", "/c", "/c"]
    assert table.mtimes.tolist() == [11, 13, 13, 13, 17, 17, 19, 19]
    assert table.frames.tolist() == [0, 0, 1, 2, 0, 1, 0, 1]
    assert table.offsets.tolist() == [1000, 1000, 1032, 1064, 1000, 1000, -1, -1]
    assert table.lengths.tolist() == [96, 32, 32, 32, 96, 96, 0, 0]
    assert table.tiles.tolist() == [[0, 0, 0, 0]] * 4 + [[0, 0, 4, 4], [0, 4, 4, 4]] + [[0, 0, 0, 0]] * 2
    assert table.values("SeriesDescription") == ["one", "many", "many", "many", "mosaic", "mosaic", "far", "far"]
