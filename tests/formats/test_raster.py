"""Pictures: what Pillow reads is what the window says, and no picture gets a place by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import imagedata_xr as ixr
from imagedata_xr.errors import (
    GeometryError,
    MixedSeriesError,
    OrderError,
    UnreadableFileError,
    ValuesNotStorableError,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_of_windowed_pictures(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "ct")
    files = ixr.write(image, tmp_path / "png", format="raster", window=(40, 400))
    assert len(files) == image.sizes["slice"]
    shown = np.asarray(Image.open(files[3]))
    expected = np.clip((image[3].values - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 0.51
    back = ixr.open_series(tmp_path / "png")
    assert back.dims == ("slice", "row", "col")
    assert np.array_equal(back.values[3], shown)
    assert "slice" not in back.coords
    with pytest.raises(GeometryError):
        back.dicom.affine  # noqa: B018 - raises


def test_a_folder_of_pictures_is_replaced_if_it_is_told_and_holds_nothing_else(patient: Path, tmp_path: Path) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    ixr.write(image, tmp_path / "png", format="raster")
    with pytest.raises(FileExistsError, match="replace what is there with overwrite=True"):
        ixr.write(image.isel(time=[0, 1]), tmp_path / "png", format="raster")
    files = ixr.write(image.isel(time=[0, 1]), tmp_path / "png", format="raster", overwrite=True)
    assert sorted(files) == sorted((tmp_path / "png").iterdir())
    assert len(files) == 2 * image.sizes["slice"]
    (tmp_path / "png" / "holiday.png").touch()
    with pytest.raises(FileExistsError, match="overwrite=True replaces only what was written alike"):
        ixr.write(image, tmp_path / "png", format="raster", overwrite=True)
    assert {*files} < {*(tmp_path / "png").iterdir()}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_as_they_are(patient: Path, tmp_path: Path, suffix: str) -> None:
    image = ixr.open_series(patient / "dynamic_1", "time")
    ixr.write(image, tmp_path / "t", format="raster", window=None, suffix=suffix)
    names = sorted(file.name for file in (tmp_path / "t").iterdir())
    assert names[0] == f"time0_slice0{suffix}"
    volume = ixr.open_series([tmp_path / "t" / n for n in names if n.startswith("time2")])
    assert np.array_equal(volume.values, image[2].values)
    whole = ixr.open_series(
        [tmp_path / "t" / n for n in names if n.startswith("time2")], template=image[2], geometry=image[2]
    )
    whole.dicom.write(tmp_path / "dicom")
    again = ixr.open_series(tmp_path / "dicom")
    assert np.array_equal(again.values, image[2].values)
    assert again.dicom.geometry_equal(image[2])


def test_what_pictures_cannot_hold(patient: Path, tmp_path: Path) -> None:
    ct = ixr.open_series(patient / "ct")
    with pytest.raises(ValuesNotStorableError, match="from -"):
        ixr.write(ct, tmp_path / "a", format="raster", window=None)
    with pytest.raises(ValuesNotStorableError, match="8 bits"):
        ixr.write(ct - ct.min(), tmp_path / "a", format="raster", window=None, suffix=".jpg")
    with pytest.raises(ValueError, match="one picture, and the image has 12 slices"):
        ixr.write(ct, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    ixr.write(ct[3], tmp_path / "a.jpg", window=(40, 400))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.size == (ct.sizes["col"], ct.sizes["row"])


def test_colours(tmp_path: Path, shared_data: Path) -> None:
    image = ixr.open_series(shared_data / "rgb_volume_j2k" / "dicom")
    ixr.write(image, tmp_path / "a", format="raster")
    back = ixr.open_series(tmp_path / "a")
    assert back.dims == ("slice", "row", "col", "rgb")
    assert np.array_equal(back.values, image.values)
    assert np.array_equal(ixr.open_series(tmp_path / "a")[2, ::-1, 4, 0].values, image[2, ::-1, 4, 0].values)


def test_names_count(tmp_path: Path) -> None:
    for number in range(11):
        Image.fromarray(np.full((3, 4), number, np.uint8)).save(tmp_path / f"img{number}.png")
    assert ixr.open_series(tmp_path)[:, 0, 0].values.tolist() == list(range(11))
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(tmp_path / "img11.png")
    with pytest.raises(MixedSeriesError, match="12 pictures of 2 kinds"):
        ixr.open_series(tmp_path)


def test_pages_and_films(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((3, 4), 10 * n, np.uint8)) for n in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert ixr.open_series(tmp_path / "a.tif")[:, 1, 1].values.tolist() == [0, 10, 20, 30]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    film = ixr.open_series(tmp_path / "a.gif", "time")
    assert film.dims[:2] == ("time", "slice")
    assert film.sizes["time"] == 4
    with pytest.raises(OrderError):
        ixr.open_series(tmp_path / "a.tif", "time")
    pages[0].save(tmp_path / "a.png", save_all=True, append_images=pages[1:])
    assert ixr.open_series(tmp_path / "a.png")[:, 0, 1, 1].values.tolist() == [0, 10, 20, 30]


def write_pages(file: Path, values: np.ndarray, told: str = "", **tags: int) -> None:
    pages = [Image.fromarray(page) for page in values.reshape(-1, *values.shape[-2:])]
    info = {270: told} | {int(tag[1:]): value for tag, value in tags.items()}
    pages[0].save(file, save_all=True, append_images=pages[1:], tiffinfo=info)


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ("TZC", "ImageJ=1.53t\nimages=24\nchannels=4\nslices=3\nframes=2\nhyperstack=true\n"),
        (
            "CTZ",
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org"><Image ID="Image:0"><Pixels SizeX="6" '
            'SizeY="5" SizeC="2" SizeT="3" SizeZ="4" DimensionOrder="XYZTC" Type="uint16"/></Image></OME>',
        ),
    ],
)
def test_pages_of_several_times_and_channels_are_no_slices(tmp_path: Path, axes: str, told: str) -> None:
    values = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6)
    write_pages(tmp_path / "a.tif", values, told)
    image = ixr.open_series(tmp_path / "a.tif", "time,echo")
    assert image.dims == ("time", "echo", "slice", "row", "col")
    wanted = values.transpose([*(axes.index(axis) for axis in "TCZ"), 3, 4])
    assert np.array_equal(image.values, wanted)
    assert np.array_equal(ixr.open_series(tmp_path / "a.tif")[1, -1, ::2, 3].values, wanted[1, -1, ::2, 3])
    assert ixr.open_series(tmp_path / "a.tif").dims[:2] == ("volume", "channel")


def test_a_stack_that_is_told_of_and_is_not_in_the_pages_is_refused(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), np.uint16)
    write_pages(tmp_path / "a.tif", values[:1], _32997=16)
    with pytest.raises(UnreadableFileError, match="16 slices in one page"):
        ixr.open_series(tmp_path / "a.tif")
    write_pages(tmp_path / "b.tif", values[:1], "ImageJ=1.53t\nimages=3\nslices=3\n")
    with (tmp_path / "b.tif").open("ab") as file:  # as ImageJ writes large stacks
        file.write(values[1:].tobytes())
    with pytest.raises(UnreadableFileError, match="tells of 3 images and has 1 pages"):
        ixr.open_series(tmp_path / "b.tif")
    write_pages(tmp_path / "c.tif", values, "ImageJ=1.53t\nimages=3\nframes=2\nslices=2\n")
    with pytest.raises(UnreadableFileError, match="3 pages, and tells of 2 times of 1 channels of 2 slices"):
        ixr.open_series(tmp_path / "c.tif")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("u1", 200), ("i1", -5), ("u2", 60_000), ("i2", -5), ("u4", 3_000_000_000), ("i4", -70_000), ("f4", 0.1)],
)
def test_values_of_tiff_are_those_that_were_stored(tmp_path: Path, dtype: str, value: float) -> None:
    values = np.full((3, 4), value, dtype)
    (tmp_path / "a.tif").write_bytes(imagecodecs.tiff_encode(values, photometric="minisblack"))
    image = ixr.open_series(tmp_path / "a.tif")
    assert image.dtype == image.values.dtype
    assert np.array_equal(image.values[0], values)
    assert ixr.open_series(tmp_path / "a.tif")[0, 1, 2].values == values[1, 2]


def test_what_would_be_read_as_something_else(tmp_path: Path) -> None:
    wide = np.full((3, 4, 3), 1000, np.uint16)
    files = {
        "a.png": (imagecodecs.png_encode(wide), "colours of 16 bits"),
        "b.tif": (imagecodecs.tiff_encode(wide, photometric="rgb"), "colours of 16 bits"),
        "c.tif": (imagecodecs.tiff_encode(wide[..., 0], photometric="miniswhite"), "0 is white"),
    }
    for name, (data, reason) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableFileError, match=reason):
            ixr.open_series(tmp_path / name)
    picture = Image.fromarray(np.zeros((3, 4), np.uint8)).convert("P")
    picture.save(tmp_path / "d.png", transparency=0)
    with pytest.raises(UnreadableFileError, match="without transparency"):
        ixr.open_series(tmp_path / "d.png")


def test_pages_are_of_one_kind(tmp_path: Path) -> None:
    first = Image.fromarray(np.zeros((3, 4), np.uint8))
    others = {
        "wide": Image.fromarray(np.full((3, 4), 1000, np.uint16)),
        "real": Image.fromarray(np.full((3, 4), 7e4, np.float32)),
        "red": Image.new("RGB", (4, 3), (255, 0, 0)),
        "large": Image.fromarray(np.zeros((5, 4), np.uint8)),
    }
    for name, page in others.items():
        first.save(tmp_path / f"{name}.tif", save_all=True, append_images=[page])
        with pytest.raises(MixedSeriesError, match="2 pages of 2 kinds are there"):
            ixr.open_series(tmp_path / f"{name}.tif")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[others["red"], first.point(lambda v: v + 9)])
    film = ixr.open_series(tmp_path / "a.gif")
    assert film.isel(volume=2).values.tolist() == [[[9] * 4] * 3]
    with pytest.raises(UnreadableFileError, match=r"page 2 of .* has colours"):
        film.load()


def test_pages_are_gone_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.fromarray(np.full((3, 4), n, np.uint8)) for n in range(40)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    image, opened = ixr.open_series(tmp_path / "a.tif"), []
    plain = Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **named: opened.append(given) or plain(*given, **named))
    assert image[:, 2, 3].values.tolist() == list(range(40))
    assert len(opened) == 1
    assert image[7, 2, 3].values == 7


def test_bad_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(UnreadableFileError):
        ixr.open_series(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(tmp_path / "b.png")
    with pytest.raises(UnreadableFileError, match="without transparency"):
        ixr.open_series(tmp_path / "b.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "c.png")
    with pytest.raises(UnreadableFileError):
        ixr.open_series(tmp_path / "c.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "d.png")
    data = (tmp_path / "d.png").read_bytes()
    (tmp_path / "d.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableFileError, match=r"d\.png"):
        ixr.open_series(tmp_path / "d.png").load()


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_orientation_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(3, 2) * 40, 16, 0), 16, 1)
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, quality=100)
    # TIFF 6.0 and EXIF: where the first row and the first column of what is stored are seen.
    seen = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    if suffix == "tif" and orientation >= 5:
        with pytest.raises(UnreadableFileError, match=rf"Orientation {orientation}\), .* write it upright"):
            ixr.open_series(path)
        return
    image = ixr.open_series(path)
    assert image.shape == image.values.shape == (1, *seen.shape)
    assert np.abs(image.values[0] - seen.astype(int)).max() <= 2
