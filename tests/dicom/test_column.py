"""A column says of each frame what a plain list of its bytes would say, however it was cut and joined."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imagedata_xr.dicom.column import Column, column_of, constant, stacked
from imagedata_xr.elements import Raw

VALUES = st.lists(st.sampled_from([b"", b"1", b"2", b"1 ", None]), min_size=1, max_size=12)
VRS = st.sampled_from(["DS", "LO", "SQ", ""])


def spelled_out(column: Column) -> list[Raw | None]:
    raws = column.raws()
    return [raws[code] for code in column.codes]


def plain(vr: str, values: list[bytes | None]) -> list[Raw | None]:
    """Return what a column of these values means: that a sequence is there, and nothing of what has no VR."""
    if vr == "SQ":
        return [Raw("SQ", b"")] * len(values)
    return [Raw(vr, value) if vr and value is not None else None for value in values]


def assert_distinct(column: Column) -> None:
    """No value is there twice, or is that of no frame."""
    raws = column.raws()
    assert len(set(raws)) == len(raws)
    assert set(column.codes.tolist()) == set(range(len(raws)))


@given(vr=VRS, values=VALUES)
def test_of_values(vr: str, values: list[bytes | None]) -> None:
    column = column_of(vr, values)
    assert spelled_out(column) == plain(vr, values)
    assert_distinct(column)


@given(vr=VRS, values=VALUES, data=st.data())
def test_part_of_the_frames(vr: str, values: list[bytes | None], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1))
    part = column_of(vr, values).take(np.asarray(rows, np.intp))
    assert spelled_out(part) == [plain(vr, values)[row] for row in rows]
    assert_distinct(part)


@given(parts=st.lists(st.tuples(VRS, VALUES), min_size=1, max_size=4), data=st.data())
def test_several_as_one(parts: list[tuple[str, list[bytes | None]]], data: st.DataObject) -> None:
    columns = [column_of(vr, values) for vr, values in parts]
    wanted = [raw for vr, values in parts for raw in plain(vr, values)]
    joined = stacked(columns)
    assert spelled_out(joined) == wanted
    assert_distinct(joined)
    places = data.draw(st.permutations(range(len(wanted))))
    ends = np.cumsum([len(values) for _, values in parts])
    rows = [places[end - len(values) : end] for end, (_, values) in zip(ends, parts, strict=True)]
    at_their_rows = spelled_out(stacked(columns, rows))
    assert [at_their_rows[place] for place in places] == wanted


def test_one_value_for_all() -> None:
    assert spelled_out(constant(Raw("DS", b"1"), 3)) == [Raw("DS", b"1")] * 3
    assert spelled_out(constant(None, 2)) == [None, None]
