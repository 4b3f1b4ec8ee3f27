from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from pydicom import Dataset
from pydicom.pixels.processing import apply_voi_lut

from imagedata_xr.window import to_rgb, window

VALUES = xr.DataArray(np.arange(-1100, 1200, 7).astype(np.int16), dims="col")


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (0.0, 100.0), (-600.0, 1500.0)])
def test_is_pydicoms_window(function: str, center: float, width: float) -> None:
    ds = Dataset()
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 16, 1
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = center, width, function
    theirs = apply_voi_lut(VALUES.values, ds)
    low, high = -(2.0**15), 2.0**15 - 1
    ours = window(VALUES, center, width, function=function)  # type: ignore[arg-type]
    assert np.allclose(ours, (theirs - low) / (high - low), atol=1e-4)


def test_the_headers_window_is_the_first_of_several() -> None:
    da = VALUES.assign_attrs(WindowCenter=[40, 600], WindowWidth=[400, 1500])
    assert np.array_equal(window(da), window(VALUES, 40, 400))


def test_low_values_of_monochrome1_are_white() -> None:
    da = VALUES.copy()
    da.encoding["PhotometricInterpretation"] = "MONOCHROME1"
    assert np.allclose(window(da, 40, 400), 1 - window(VALUES, 40, 400))


def test_without_a_window_nearly_all_values_show() -> None:
    shown = window(VALUES)
    assert 0.9 < float(((shown > 0) & (shown < 1)).mean()) < 1
    assert float(window(xr.zeros_like(VALUES)).max()) <= 0.5
    assert np.isfinite(window(VALUES.astype(float).where(VALUES > 0))).any()


def test_wrong_windows() -> None:
    with pytest.raises(ValueError, match="a centre and a width"):
        window(VALUES, 40)
    with pytest.raises(ValueError, match=r"width of a LINEAR window is 0\.5"):
        window(VALUES, 40, 0.5)


def test_colours() -> None:
    grey = to_rgb(VALUES, center=40, width=400)
    assert grey.dims == ("col", "rgb")
    assert (grey.isel(rgb=0) == grey.isel(rgb=2)).all()
    viridis = to_rgb(VALUES, "Viridis256", center=40, width=400)
    assert viridis[0].values.tolist() == [0x44, 0x01, 0x54]
    assert viridis[-1].values.tolist() == [0xFD, 0xE7, 0x24]
    with pytest.raises(ValueError, match="no palette of 256"):
        to_rgb(VALUES, "Nonsense")
    assert to_rgb(grey) is grey
