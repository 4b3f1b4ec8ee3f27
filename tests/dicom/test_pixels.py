"""Values come back from what DICOM can store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.valuerep import DS

from imagedata_xr.dicom.pixels import Rescale, choose_rescale, finite_values, stored_exactly, value_range
from imagedata_xr.errors import ValuesNotStorableError

SHAPE = (2, 3, 4)
finite = {"allow_nan": False, "allow_infinity": False}
floats64 = st.floats(-1e300, 1e300, **finite) | st.floats(-10, 10, **finite) | st.integers(-(10**9), 10**9).map(float)


def volumes(elements: st.SearchStrategy[Any] = floats64, dtype: str = "f8") -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(dtype, SHAPE, elements=elements, fill=st.nothing())


def read_back(rescale: Rescale, stored: np.ndarray) -> np.ndarray:
    """Return what a reader makes of it, in float64."""
    return stored * float(rescale.slope) + float(rescale.intercept)


def assert_within_half_a_step(values: np.ndarray, rescale: Rescale) -> None:
    for text in (rescale.slope, rescale.intercept):
        assert len(text) <= 16
        DS(text)
    error = np.abs(read_back(rescale, rescale.store(values)) - values.astype(float))
    # Half a step, and the last place of the largest number in it.
    limit = float(rescale.slope) * 0.5 * (1 + 1e-9) + 4 * np.spacing(np.abs(values.astype(float)).max())
    assert (error <= limit).all()


@given(volumes() | volumes(st.floats(width=32, **finite), "f4") | volumes(st.floats(width=16, **finite), "f2"))
@example(np.zeros(SHAPE, "f2"))
def test_floats_are_stored_to_within_half_a_step(values):
    rescale = choose_rescale(value_range(values), values.dtype)
    assert_within_half_a_step(values, rescale)


@given(volumes(st.floats(-1e30, 1e30, **finite)))
def test_the_step_is_the_finest_that_16_bits_allow(values):
    found = value_range(values)
    rescale = choose_rescale(found, values.dtype)
    span = found.high - found.low
    if float(rescale.slope) != 1 and span > 1e-9 * max(abs(found.low), abs(found.high)):
        # 65534 steps, a slope of five digits, and a few more of them until 0 is exactly 0.
        assert float(rescale.slope) <= max(span / 65534 * 1.005, 1e-300)


@given(volumes(st.floats(-100, 100, width=32, **finite), "f4"))
def test_zero_stays_zero(values):
    values = np.concatenate([values, np.zeros_like(values)])
    rescale = choose_rescale(value_range(values), values.dtype)
    assert (read_back(rescale, rescale.store(values))[2:] == 0).all()


@given(volumes(st.floats(-1e6, 1e6, **finite)))
def test_intercept_can_be_kept_at_zero(values):
    rescale = choose_rescale(value_range(values), values.dtype, intercept_is_zero=True)
    assert float(rescale.intercept) == 0
    assert_within_half_a_step(values, rescale)


@given(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]), st.data())
def test_integers_are_exact_or_refused(dtype, data):
    values = data.draw(hnp.arrays(dtype, SHAPE))
    if int(values.max()) - int(values.min()) <= 65535 and len(str(values.min())) <= 16:
        rescale = choose_rescale(value_range(values), values.dtype)
        stored = rescale.store(values)
        assert rescale.slope == "1"
        assert [int(v) + int(rescale.intercept) for v in stored.flat] == [int(v) for v in values.flat]
    else:
        with pytest.raises(ValuesNotStorableError, match="astype"):
            choose_rescale(value_range(values), values.dtype)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([True, False]), Rescale("1", "0", "u2")),
        (np.array([0, 255], "u1"), Rescale("1", "0", "u2")),
        (np.array([0, 40000], "i4"), Rescale("1", "0", "u2")),
        (np.array([-5, 40000], "i4"), Rescale("1", "-5", "u2")),
        (np.array([70000, 70001], "i4"), Rescale("1", "70000", "u2")),
        (np.array([0.0, 3.0], "f4"), Rescale("1", "0", "u2")),
        (np.array([7.25, 7.25]), Rescale("1", "7.25", "u2")),
        (np.array([0.0, 0.0]), Rescale("1", "0", "u2")),
        (np.array([-3.0, 3.0]), Rescale("1", "-3", "u2")),
    ],
)
def test_the_plainest_rescale_that_is_exact(values, expected):
    rescale = choose_rescale(value_range(values), values.dtype)
    assert rescale == expected
    assert (read_back(rescale, rescale.store(values)) == values).all()


def test_a_ct_keeps_its_intercept():
    like = Rescale("1", "-1024", "u2")
    assert choose_rescale(value_range(np.array([-1024, 3071], "i2")), np.dtype("i2"), like=like) == like
    below = choose_rescale(value_range(np.array([-2000, 3071], "i2")), np.dtype("i2"), like=like)
    assert below == Rescale("1", "-2000", "u2")


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4"])
@pytest.mark.parametrize("like", [None, Rescale("1", "-1024", "i2"), Rescale("1", "-1024", "u2")])
def test_all_volumes_of_a_series_are_stored_in_one_type(dtype, like):
    volumes = [np.array(v, dtype) for v in ([0, 0], [-5, 7], [-30000, 9], [5, 32000], [-20000, 30000])]
    volumes += [np.array([-0.5, 0.25], dtype)] * (dtype == "f4")
    assert len({choose_rescale(value_range(v), v.dtype, like=like).dtype for v in volumes}) == 1


def test_what_is_not_finite_is_counted_and_placed():
    values = np.ones(SHAPE, "f4")
    values[1, 2, 3] = np.nan
    values[1, 0, 0] = np.inf
    with pytest.raises(ValuesNotStorableError, match=r"2 of 24 values of time 3 .*index 1, 0, 0.*nan=0"):
        finite_values(values, name=" of time 3")
    filled = finite_values(values, nan=-1)
    assert filled.dtype == values.dtype
    assert filled[1, 2, 3] == filled[1, 0, 0] == -1
    assert np.isnan(values[1, 2, 3])


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.ones(2, "c8"), "abs"), (np.array(["a"]), "numbers"), (np.array(["2020"], "M8[D]"), "numbers")],
)
def test_what_is_no_real_number_is_refused(values, message):
    with pytest.raises(ValuesNotStorableError, match=message):
        finite_values(values)


def test_too_large_numbers_are_refused():
    with pytest.raises(ValuesNotStorableError, match="too large"):
        choose_rescale(value_range(np.array([0.5, 1e305])), np.dtype("f8"))


def test_values_outside_of_a_rescale_do_not_wrap():
    with pytest.raises(ValuesNotStorableError, match="do not fit"):
        Rescale("1", "0", "u2").store(np.array([-1]))


@given(
    hnp.arrays("u2", (3, 4)) | hnp.arrays("i2", (3, 4)),
    st.floats(1e-6, 1e4),
    st.floats(-1e4, 1e4),
    st.booleans(),
)
def test_an_original_gives_back_its_stored_values(stored, slope, offset, single):
    intercept = offset * slope
    values = stored * slope + intercept
    values = values.astype("f4") if single else values
    assert np.array_equal(stored_exactly(values, slope, intercept, stored.dtype, 16), stored)


@pytest.mark.parametrize("stored_type", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("shift", [-1024, 1, 200, 40_000, -70_000, 2**31, -(2**40), 2**63 - 5])
def test_whole_numbers_with_an_intercept(stored_type: str, shift: int) -> None:
    """In each type that holds the values, also where they are beyond the type that is stored."""
    dtype = np.dtype(stored_type)
    ends = np.iinfo(dtype)
    stored = np.array([[ends.min, ends.max, 0, 5, ends.max - 1]], dtype)
    for kind in ("i2", "i4", "i8", "u8"):
        wanted = [int(value) + shift for value in stored.ravel()]
        if np.iinfo(kind).min <= min(wanted) and max(wanted) <= np.iinfo(kind).max and float(shift) == shift:
            values = np.array([wanted], kind)
            found = stored_exactly(values, 1.0, float(shift), dtype, 8 * dtype.itemsize)
            assert found is not None
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, stored)


def test_changed_values_are_not_taken_for_stored_ones():
    u2, i2 = np.dtype("u2"), np.dtype("i2")
    assert stored_exactly(np.array([[0.5, 1.0]]), 1, 0, u2, 16) is None
    assert stored_exactly(np.array([[-1.0, 1.0]]), 1, 0, u2, 16) is None
    assert stored_exactly(np.array([[4096.0]]), 1, 0, u2, 12) is None
    assert stored_exactly(np.array([[2048]]), 1, 0, i2, 12) is None
    assert stored_exactly(np.array([[1.0]]), 0, 0, u2, 12) is None
    # float32 cannot tell stored values apart on so large an intercept
    assert stored_exactly(np.array([[1e8]], "f4"), 1, 1e8, u2, 16) is None
