"""Plain pictures show the values, at their window, and read no more than they show."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import TYPE_CHECKING

import dask.array
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import imagedata_xr as ixr
from imagedata_xr.errors import PairingError
from imagedata_xr.origins import origins
from imagedata_xr.viewer.panel import make_panel
from tests.generate import write_series
from tests.viewer.browsers import levels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOLUME = xr.DataArray(np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10, dims=("slice", "row", "col"))


def test_a_png_has_all_slices(tmp_path: Path) -> None:
    VOLUME.dicom.to_png(tmp_path / "a.png", columns=2, window=(128, 256))
    found = np.asarray(Image.open(tmp_path / "a.png"))
    assert found.shape == (3, 8)
    assert np.abs(found[:, :4].astype(int) - levels(VOLUME.values[0], 0, 256)).max() <= 1
    with pytest.raises(FileExistsError):
        VOLUME.dicom.to_png(tmp_path / "a.png")
    assert np.array_equal(np.asarray(VOLUME.dicom.plot.montage(columns=2, window=(128, 256))), found)


def test_a_gif_moves_along_a_dim(tmp_path: Path) -> None:
    series = xr.concat([VOLUME, VOLUME + 5, VOLUME + 9], "time")
    series.dicom.to_gif(tmp_path / "a.gif", center=128, width=256)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        picture.seek(2)
        found = np.asarray(picture.convert("L")).astype(int)
    assert np.abs(found - levels(VOLUME.values[1] + 9, 0, 256)).max() <= 2
    VOLUME.dicom.to_gif(tmp_path / "b.gif", dim="slice")
    with pytest.raises(ValueError, match="none of them is 'time'"):
        VOLUME.dicom.to_gif(tmp_path / "c.gif", dim="time")


def test_files_of_oblong_pixels_have_the_shape_of_the_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "in", slices=3, rows=20, cols=30, spacing=(2.0, 1.0))
    image = ixr.open_series(tmp_path / "in")
    image.dicom.to_png(tmp_path / "a.png", columns=1)
    image.dicom.to_gif(tmp_path / "a.gif")
    image.dicom.to_rgb().dicom.to_gif(tmp_path / "b.gif")
    for name, size in (("a.png", (30, 120)), ("a.gif", (30, 40)), ("b.gif", (30, 40))):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == size
            pixels = np.asarray(picture.convert("L"))
            assert np.array_equal(pixels[::2], pixels[1::2])


def test_a_palette_goes_from_the_smallest_to_the_largest_value_of_a_mask() -> None:
    first, last = [68, 1, 84], [253, 231, 36]
    for labels in ([0, 1, 2, 3], [0, 0.25, 0.5, 1.0], [-2, -1, 1, 2], [5, 7, 9, 4000]):
        mask = VOLUME * 0 + xr.DataArray(np.asarray(labels, float), dims="col")
        for shown in (mask, mask.assign_attrs(PhotometricInterpretation="MONOCHROME1"), mask.where(mask != 0)):
            fused = VOLUME.dicom.fuse_mask(shown, alpha=1.0, mask_colormap="Viridis256")
            colours = fused[0, 0].values.tolist()
            assert colours[-1] == last
            assert len({tuple(colour) for colour in colours}) == 4 or labels[-1] == 4000
            assert labels[0] == 0 or colours[0] == first
    nothing = VOLUME.dicom.fuse_mask(VOLUME * np.nan, mask_colormap="Viridis256")
    assert (nothing == VOLUME.dicom.to_rgb()).all()
    one = VOLUME.dicom.fuse_mask(VOLUME * 0 + 2, alpha=1.0, mask_colormap="Viridis256")
    assert np.unique(one.values.reshape(-1, 3), axis=0).shape == (1, 3)


def test_a_mask_of_monochrome1_shows_bright_what_is_true(tmp_path: Path) -> None:
    image = VOLUME.assign_attrs(PhotometricInterpretation="MONOCHROME1")
    mask = image > 100
    bright = (mask.values * 255).reshape(6, 4)
    assert make_panel(image).facts()["isInverted"]
    assert not make_panel(mask).facts()["isInverted"]
    assert np.array_equal(np.asarray(mask.dicom.plot.montage(columns=1)), bright)
    mask.dicom.to_png(tmp_path / "a.png", columns=1)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), bright)
    mask.dicom.to_gif(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        assert np.array_equal(np.asarray(picture.convert("L")), bright[:3])
    write_series(tmp_path / "in", slices=2, tags={"PhotometricInterpretation": "MONOCHROME1"})
    opened = ixr.open_series(tmp_path / "in")
    (opened > 20).dicom.write(tmp_path / "out")
    assert np.array_equal(ixr.open_series(tmp_path / "out").dicom.window(), (opened > 20).astype(float))
    fused = image.dicom.fuse_mask(mask, color=(255, 0, 0), alpha=1.0)
    assert ((fused.values == [255, 0, 0]).all(axis=-1) == mask.values).all()
    below = mask.dicom.fuse_mask(mask * 0, alpha=1.0)
    assert np.array_equal(below[..., 0].values.reshape(6, 4), bright)


def test_a_palette_that_there_is_not_is_refused_before_anything_is_read() -> None:
    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError

    lazy = xr.DataArray(dask.array.zeros((2, 3, 4)).map_blocks(read, dtype=float), dims=VOLUME.dims)
    for options in ({"colormap": "nosuch"}, {"mask_colormap": "nosuch"}):
        with pytest.raises(ValueError, match=r"'nosuch' is no palette of 256 colours; Blues256, .* Viridis256 are"):
            lazy.dicom.fuse_mask(VOLUME, **options)


def test_labels_that_are_times_are_readable() -> None:
    series = xr.concat([VOLUME, VOLUME + 5, VOLUME + 9], "time")
    spans = np.array([0, 2500, 61_000], "timedelta64[ms]")
    tag = make_panel(series.assign_coords(time=spans)).facts()["tags"][0]
    assert tag == {"name": "time", "unit": "s", "labels": ["0 s", "2.5 s", "61 s"], "values": [0.0, 2.5, 61.0]}
    spans[2] = "NaT"
    tag = make_panel(series.assign_coords(time=spans)).facts()["tags"][0]
    assert tag["labels"] == ["0 s", "2.5 s", "nan s"]
    assert tag["values"] is None
    moments = np.array(["2024-03-01", "2024-03-01T12:30:05.5", "NaT"], "datetime64[ms]")
    tag = make_panel(series.assign_coords(time=moments)).facts()["tags"][0]
    assert tag["labels"] == ["2024-03-01", "2024-03-01 12:30:05.5", "NaT"]
    assert (tag["unit"], tag["values"]) == ("", None)


def test_labels_that_tell_who_it_is_are_hidden(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=3, slices=2, rows=8, cols=8)
    series = ixr.open_series(tmp_path / "in", "time").load()
    moments = series.assign_coords(time=np.array(["2024-03-01T12", "2024-03-02", "2024-03-04"], "datetime64[s]"))
    days = (
        series.drop_vars("time").rename(time="StudyDate").assign_coords(StudyDate=["20240301", "20240302", "20240304"])
    )
    for image in (moments, days):
        told = json.dumps(make_panel(image).facts(hide_identity=True))
        assert "2024" not in told
        assert "2 of 3" in told
        assert "2024" in json.dumps(make_panel(image).facts())
    assert make_panel(series).facts(hide_identity=True)["tags"] == make_panel(series).facts()["tags"]


def test_a_viewer_shows_what_a_window_does(tmp_path: Path) -> None:
    header = {"WindowCenter": 40, "WindowWidth": 160, "Modality": "CT"}
    write_series(tmp_path / "ct", slices=3, rescale=(1, -1024), tags=header)
    image = ixr.open_series(tmp_path / "ct").load()
    assert image.dicom.view(show=False).windows == [(40.0, 160.0)]
    low, high = np.percentile((image.values / 1000)[1], [1.0, 99.5])
    assert (image / 1000).dicom.view(show=False).windows[0] == pytest.approx(((low + high) / 2, high - low), abs=1e-6)
    stored = ixr.open_series(tmp_path / "ct", rescale=False)
    assert stored.dicom.view(show=False).windows[0] != (40.0, 160.0)
    assert [make_panel(one).facts()["isCT"] for one in (image, stored)] == [True, False], "presets are in HU"
    assert stored.dicom.window().mean() == pytest.approx(float(image.drop_attrs().dicom.window().mean()), abs=1e-3)


def test_the_picture_that_a_viewer_opens_with_is_not_white_all_over() -> None:
    # b = 0 is brighter than the others, and the magnitude than the map that lies beside it.
    frame = np.linspace(0, 1, 3 * 20 * 20).reshape(3, 20, 20)
    for scales in ([1000, 100, 90, 80, 70], [2500, 100], [100, 1000, 900]):
        image = xr.DataArray(np.multiply.outer(scales, frame), dims=("volume", "slice", "row", "col"))
        panel = make_panel(image)
        shown, later = image[0, 1], image[len(scales) // 2, 1]
        assert float((shown > panel.high).mean()) < 0.05
        assert float((later > panel.high).mean()) < 0.05


@pytest.mark.parametrize("name", ["hide_identity", "link_windows", "roi_per_tag"])
def test_what_is_neither_true_nor_false_is_refused(name: str) -> None:
    """None would show who it is."""
    image = xr.DataArray(np.zeros((2, 3)), dims=("row", "col"))
    with pytest.raises(TypeError, match=f"{name}=None: True or False is wanted"):
        ixr.view(image, show=False, **{name: None})


def test_a_viewer_tells_the_date_of_birth_from_that_of_the_study() -> None:
    told = {"PatientName": "A^B", "PatientSex": "F", "StudyDate": "20240301"}
    image = xr.DataArray(np.zeros((2, 2)), dims=("row", "col"), attrs=told)
    assert make_panel(image).facts()["patient"] == "A^B\nF\nstudy 20240301"
    image.attrs["PatientBirthDate"] = "19700101"
    assert make_panel(image).facts()["patient"] == "A^B\nborn 19700101 F\nstudy 20240301"


def test_a_thumbnail_reads_one_frame(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=2, slices=5, rows=40, cols=30, spacing=(1.0, 1.0))
    image = ixr.open_series(tmp_path / "in", "time")
    kept = str(image.source.values[1, 2])
    for file in files:
        if str(file) != kept:
            file.unlink()
    assert image.dicom.plot.thumbnail(32).size == (24, 32)


def test_a_notebook_shows_a_thumbnail_of_one_frame(tmp_path: Path) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    files = write_series(tmp_path / "in", times=2, slices=5, rows=40, cols=30, spacing=(1.0, 1.0))
    image = ixr.open_series(tmp_path / "in", "time")
    plain = shell.display_formatter.format(image)[0]["text/html"]
    assert "<img" not in plain
    shell.run_line_magic("load_ext", "imagedata_xr")
    try:
        for file in files:
            if str(file) != str(image.source.values[1, 2]):
                file.unlink()
        told = shell.display_formatter.format(image)[0]["text/html"]
        assert "xr-wrap" in told
        assert Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', told)[1]))).size == (30, 40)
        # Nothing is computed for it, and an image that cannot be read any more is shown all the same.
        assert "<img" not in shell.display_formatter.format(image.chunk())[0]["text/html"]
        assert "<img" not in shell.display_formatter.format(image.isel(time=0))[0]["text/html"]
        assert "<img" not in shell.display_formatter.format(image.time)[0]["text/html"]
        texts = xr.DataArray([["a", "b"]], dims=("row", "col"))
        assert "<img" not in shell.display_formatter.format(texts)[0]["text/html"]
    finally:
        shell.run_line_magic("unload_ext", "imagedata_xr")
    assert "<img" not in shell.display_formatter.format(image)[0]["text/html"]


def test_a_mask_is_laid_over(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=1, slices=3, rows=8, cols=8)
    image = ixr.open_series(tmp_path / "in")
    fused = image.dicom.fuse_mask(image > 20, color=(0, 255, 0), alpha=0.5, center=20, width=40)
    assert fused.dims == (*image.dims, "rgb")
    assert fused.dtype == np.uint8
    below = image.dicom.to_rgb(center=20, width=40)
    inside = (image > 20).values
    assert (fused.values[~inside] == below.values[~inside]).all()
    wanted = (below.values[inside].astype(float) + np.array([0, 255, 0])) / 2
    assert np.abs(fused.values[inside] - wanted).max() <= 0.51
    assert fused.dicom.geometry_equal(image)
    moved = (image > 20).assign_coords(slice=image.slice.values + 1.0).dicom.index_positions()
    with pytest.raises(ValueError, match=r"different places: turn the mask, mask.dicom.turn_like\(image\)"):
        image.dicom.fuse_mask(moved)
    with pytest.raises(ValueError, match="alpha is 2"):
        image.dicom.fuse_mask(image > 20, alpha=2)
    with pytest.raises(ValueError, match=r"'col': 4\}, the mask .*'col': 3\}"):
        VOLUME.dicom.fuse_mask(VOLUME[..., 1:] > 20)


def test_colours_of_16_bits_are_shown_by_the_upper_8() -> None:
    rgb = xr.DataArray(np.array([[[34, 90, 4], [142, 130, 45]]], np.uint8), dims=("row", "col", "rgb"))
    wide = rgb.astype("uint16") * 257
    assert make_panel(wide).frame(0).tolist() == make_panel(rgb).frame(0).tolist()
    assert [make_panel(one).facts()["valueName"] for one in (rgb, wide)] == ["value", "shown as"]
    assert np.asarray(wide.dicom.plot.montage()).tolist() == rgb.values.tolist()


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "int32", "uint32", "bool"])
def test_colours_that_were_computed_are_refused(dtype: str, tmp_path: Path) -> None:
    # Which value is the brightest, and whether what is beyond it may go, only the user knows.
    rgb = xr.DataArray(np.ones((2, 1, 3, 4, 3), dtype), dims=("time", "slice", "row", "col", "rgb"))
    calls: list[Callable[[], object]] = [
        lambda: rgb.dicom.view(show=False),
        lambda: rgb[0].dicom.to_png(tmp_path / "a.png"),
        lambda: rgb.dicom.to_gif(tmp_path / "a.gif"),
        lambda: rgb.dicom.fuse_mask(rgb[..., 0] > 0),
        lambda: rgb[0].dicom.write(tmp_path / "b.png"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"colours are {dtype}.*clip\(0, 255\)\.astype\('uint8'\)"):
            call()
    advised = (rgb * 300).round().clip(0, 255).astype("uint8")[0]
    advised.dicom.to_png(tmp_path / "a.png")
    advised.dicom.write(tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as shown, Image.open(tmp_path / "b.png") as written:
        assert (np.asarray(shown) == np.asarray(written)).all()


def test_a_fused_image_has_the_header_of_the_image(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=3, slices=2, rows=8, cols=8)
    image = ixr.open_series(tmp_path / "in", "time")
    first, last = image.isel(time=0), image.isel(time=2)
    assert first.AcquisitionTime != last.AcquisitionTime
    fused = first.dicom.fuse_mask(last > 20)
    assert set(fused.coords) == set(first.coords)
    for name, coord in first.coords.items():
        assert (fused[name] == coord).all(), name
    assert fused.name == image.name
    fused.dicom.write(tmp_path / "out")
    again = ixr.open_series(tmp_path / "out")
    assert again.attrs["AcquisitionTime"] == first.AcquisitionTime


def test_a_mask_lies_over_every_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=3, slices=2, rows=8, cols=8)
    image = ixr.open_series(tmp_path / "in", "time").load()
    mask = image > 20
    whole = image.dicom.fuse_mask(mask)
    xr.testing.assert_identical(whole, image.dicom.fuse_mask(mask.isel(time=[2, 0, 1])))
    window = {"center": 20, "width": 40}
    assert (image[:2].dicom.fuse_mask(mask, **window) == image.dicom.fuse_mask(mask, **window)[:2]).all()
    with pytest.raises(PairingError, match=r"time the mask has volumes \[0, 2.5\] \(2\), and lacks \[5\] \(1\)"):
        image.dicom.fuse_mask(mask.isel(time=slice(0, 2)))
    with pytest.raises(PairingError, match="time the mask has 2 volumes and the image 3"):
        image.drop_vars("time").dicom.fuse_mask(mask.isel(time=slice(0, 2)))
    one = image.dicom.fuse_mask(mask.isel(time=1))
    assert one.dims == (*image.dims, "rgb")
    xr.testing.assert_identical(one, image.dicom.fuse_mask(mask.isel(time=[1])))


def test_volumes_of_a_mask_lie_over_one_image(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=3, slices=2, rows=8, cols=8)
    image = ixr.open_series(tmp_path / "in", "time").load()
    one = image.isel(time=1)
    fused = one.dicom.fuse_mask(image > 20)
    assert fused.dims == ("time", "slice", "row", "col", "rgb")
    assert fused.time.values.tolist() == image.time.values.tolist()
    assert fused.AcquisitionTime == one.AcquisitionTime
    assert (fused[2] == one.dicom.fuse_mask(image[2] > 20)).all()


def test_a_fused_image_tells_of_the_series_of_the_mask(tmp_path: Path) -> None:
    write_series(tmp_path / "a", slices=2, rows=8, cols=8)
    write_series(tmp_path / "b", slices=2, rows=8, cols=8, tags={"PatientID": "another"})
    a, b = (ixr.open_series(tmp_path / name) for name in "ab")
    fused = a.dicom.fuse_mask(b > 20)
    assert origins(fused) == origins(a) | origins(b)
    with pytest.raises(ValueError, match="series with 2 values of PatientID"):
        fused.dicom.write(tmp_path / "out")


def test_plot_says_what_to_call() -> None:
    assert repr(VOLUME.dicom.plot) == "image.dicom.plot has montage, thumbnail"
    with pytest.raises(TypeError, match=r"plot\.montage\(\) is a picture"):
        VOLUME.dicom.plot()


def test_values_have_a_unit_only_where_they_are_those_of_files() -> None:
    da = VOLUME.assign_attrs(RescaleType="HU")
    da.encoding["TransferSyntaxUID"] = "1.2.840.10008.1.2.1"
    units = [make_panel(image).facts()["unit"] for image in (da, da.assign_attrs(RescaleType="US"), da / da, da > 0)]
    assert units == ["HU", "", "", ""]
