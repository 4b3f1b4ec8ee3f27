from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from imagedata_xr.montage import montage


def test_slices_run_right_and_down() -> None:
    da = xr.DataArray(np.arange(5.0)[:, None, None] * np.ones((5, 2, 3)), dims=("slice", "row", "col"))
    drawn = montage(da, columns=3, window=(2, 9.0))
    assert drawn.shape == (4, 9)
    assert drawn[[0, 0, 0, 2], [0, 3, 6, 0]].tolist() == sorted(set(drawn[:2].ravel()) | {drawn[2, 0]})
    assert (drawn[2:, 6:] == 0).all(), "where there is no slice"


def test_a_millimetre_is_as_long_either_way() -> None:
    da = xr.DataArray(np.ones((1, 4, 4)), dims=("slice", "row", "col"))
    da = da.assign_coords(slice=[0.0], row=np.arange(4) * 3.0, col=np.arange(4) * 1.0)
    assert montage(da).shape == (12, 4)


@pytest.mark.parametrize(("row", "col", "shape"), [(1.4, 1.0, (56, 40)), (1.0, 1.25, (40, 50)), (1.009, 1.0, (40, 40))])
def test_spacings_of_any_ratio_are_true_and_no_value_is_made_up(row: float, col: float, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, (1, 40, 40))
    da = xr.DataArray(values, dims=("slice", "row", "col"))
    placed = da.assign_coords(slice=[0.0], row=np.arange(40) * -row, col=np.arange(40) * col)
    drawn, plain = montage(placed, window=(128, 256)), montage(da, window=(128, 256))
    assert plain.shape == (40, 40)
    assert drawn.shape == shape
    down, right = ((np.arange(n) + 0.5) * 40 // n for n in shape)
    assert np.array_equal(drawn, plain[np.ix_(down.astype(int), right.astype(int))])


def test_one_volume_only() -> None:
    with pytest.raises(ValueError, match="one volume is drawn"):
        montage(xr.DataArray(np.ones((2, 1, 4, 4)), dims=("time", "slice", "row", "col")))


@pytest.mark.parametrize("columns", [0, -2])
def test_columns(columns: int) -> None:
    with pytest.raises(ValueError, match="at least 1 is wanted"):
        montage(xr.DataArray(np.ones((2, 4, 4)), dims=("slice", "row", "col")), columns=columns)
