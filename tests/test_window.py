from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from pydicom import Dataset
from pydicom.pixels.processing import apply_voi_lut

from imagedata_xr.dicom.derive import window_fits
from imagedata_xr.dicom.pixels import value_range
from imagedata_xr.window import header_window, is_inverted, to_rgb, window

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


def test_low_values_of_monochrome1_stay_white() -> None:
    da = VALUES.assign_attrs(PhotometricInterpretation="MONOCHROME1", WindowCenter=40.0, WindowWidth=400.0)
    white = float(window(da)[0])
    assert white == 1
    for computed in (da * 1, da.astype(np.float32), da.where(da > -9999), np.sqrt(abs(da)) - 1100, da - da * 2):
        assert is_inverted(computed)
        shown = window(computed).values
        assert shown[np.argmin(computed.values)] > shown[np.argmax(computed.values)]
    assert not is_inverted(window(da))
    assert np.array_equal(window(window(da), 0.5, 1, function="LINEAR_EXACT"), window(da))
    assert not is_inverted(to_rgb(da).isel(rgb=0))
    stored = da.copy()
    stored.encoding["PhotometricInterpretation"] = "MONOCHROME2"
    assert is_inverted(stored), "what is set in attrs wins"


def test_true_is_white_whatever_a_mask_was_computed_from() -> None:
    da = VALUES.assign_attrs(PhotometricInterpretation="MONOCHROME1")
    for mask in (da > 0, (da > 0).chunk(), ~(da <= 0)):
        assert not is_inverted(mask)
        assert np.array_equal(window(mask), (VALUES > 0).astype(np.float32))
        assert np.array_equal(to_rgb(mask).isel(rgb=0), (VALUES > 0) * 255)


def original(**attrs: object) -> xr.DataArray:
    da = VALUES.assign_attrs(attrs)
    da.encoding["TransferSyntaxUID"] = "1.2.840.10008.1.2.1"
    return da


def test_values_that_were_computed_have_the_headers_window_only_if_it_can_be_theirs() -> None:
    da = original(WindowCenter=40.0, WindowWidth=160.0)
    assert np.array_equal(window(da), window(VALUES, 40, 160))
    assert np.array_equal(window(da + 1), window(VALUES + 1, 40, 160))
    for computed in (da / 1000, da > 0, da * 0, da + 5000, da * np.nan):
        assert np.array_equal(window(computed), window(computed.drop_attrs()), equal_nan=True)
    shown = window(da / 1000)
    assert 0.9 < float(((shown > 0) & (shown < 1)).mean()) < 1
    narrow = da.where(da < -1000, drop=True)
    narrow.encoding = da.encoding
    assert np.array_equal(window(narrow), window(narrow.drop_attrs(), 40, 160)), (
        "an original is shown as its header says"
    )


@pytest.mark.parametrize(
    ("centers", "widths"),
    [(40.0, 160.0), ([40.0, 600.0], [160.0, 900.0]), ([40.0, 5000.0], [160.0, 900.0]), ([40.0, 50.0], 160.0)]
    + [(center, width) for center in (-1100.0, -1099.0, 1195.0, 1196.0, 0.0) for width in (10.0, 4591.0, 4593.0)],
)
def test_pictures_and_written_files_have_one_rule_for_the_window(centers: object, widths: object) -> None:
    da = VALUES.assign_attrs(WindowCenter=centers, WindowWidth=widths)
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth = centers, widths
    found = header_window(da, lambda: (float(da.min()), float(da.max())))
    assert (found is not None) == window_fits(ds, value_range(da.values))


def test_a_header_may_have_a_narrow_window() -> None:
    told = {"WindowCenter": 0.04, "WindowWidth": 0.4}
    exact = original(**told, VOILUTFunction="LINEAR_EXACT") / 1000
    assert np.array_equal(window(exact), window(VALUES / 1000, 0.04, 0.4, function="LINEAR_EXACT"))
    linear = original(**told)
    assert np.array_equal(window(linear), window(VALUES)), "less than 1 is no width of LINEAR"


def test_masks_and_complex_values_can_be_shown() -> None:
    mask = VALUES > 0
    assert np.array_equal(window(mask), mask.astype(np.float32))
    for same in (True, False):
        assert (window(xr.full_like(mask, same)) == same).all()
    assert np.array_equal(window(VALUES * 1j, 40, 400), window(abs(VALUES), 40, 400))


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
    with pytest.raises(ValueError, match="the centre of the window is nan"):
        window(VALUES, float("nan"), 400)
    # Of another function than was meant the grey levels are others, and nothing would tell.
    with pytest.raises(ValueError, match="function='sigmoid': it is 'LINEAR', 'LINEAR_EXACT', 'SIGMOID'"):
        VALUES.dicom.window(40, 400, function="sigmoid")


def test_colours() -> None:
    grey = to_rgb(VALUES, center=40, width=400)
    assert grey.dims == ("col", "rgb")
    assert (grey.isel(rgb=0) == grey.isel(rgb=2)).all()
    viridis = to_rgb(VALUES, "Viridis256", center=40, width=400)
    assert viridis[0].values.tolist() == [0x44, 0x01, 0x54]
    assert viridis[-1].values.tolist() == [0xFD, 0xE7, 0x24]
    for image in (VALUES, grey):
        with pytest.raises(ValueError, match=r"'Nonsense' is no palette of 256 colours; .*Plasma256, .*Viridis256 are"):
            to_rgb(image, "Nonsense")
    assert to_rgb(grey) is grey


@pytest.mark.parametrize("value", [0, 5, -1000, 3e9])
def test_of_one_value_nothing_is_seen_in_pictures_as_in_the_viewer(value: float) -> None:
    assert (to_rgb(xr.full_like(VALUES, value, float)) == 0).all()
