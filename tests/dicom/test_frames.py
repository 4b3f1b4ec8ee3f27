"""Values are those of pydicom, in modality units, and are read when and only when they are asked for."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.dicom import frames
from imagedata_xr.dicom.frames import places_of, read_into
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from tests.generate import set_pixels, write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# --- an audit hook cannot be taken away again, so there is one, which counts while it is told to

_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str):
        _opened.append(arguments[0])


sys.addaudithook(_hook)


@contextmanager
def opened(folder: Path) -> Iterator[list[str]]:
    """Give the files of a folder that are opened, once for each time."""
    global _opened
    _opened, found = [], []
    try:
        yield found
    finally:
        found += [p for p in _opened if p.startswith(str(folder)) and not Path(p).is_dir()]
        _opened = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lazy")
    write_series(path, times=5, slices=4)
    return path


def test_opening_reads_each_head_once(folder: Path) -> None:
    with opened(folder) as files:
        ixr.open_series(folder, "time")
    assert sorted(files) == sorted(str(p) for p in folder.iterdir())


def test_opening_does_not_read_pixels(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=4, rows=512, cols=512)
    before = int(Path("/proc/self/io").read_text().split()[1]) if Path("/proc/self/io").exists() else None
    image = ixr.open_series(tmp_path, "none")
    if before is not None:
        read = int(Path("/proc/self/io").read_text().split()[1]) - before
        assert read < 200_000 < sum(f.stat().st_size for f in files)
    assert image.shape == (4, 512, 512)


def test_what_reads_nothing(folder: Path) -> None:
    image = ixr.open_series(folder, "time")
    with opened(folder) as files:
        repr(image)
        image._repr_html_()
        pickle.loads(pickle.dumps(image))
        image.transpose("col", "row", "slice", "time")
        image.isel(time=slice(1, 3), row=slice(None, None, -1))
        image.sel(time=2.4, method="nearest")
        image.assign_attrs(SeriesDescription="x").rename("y")
        image.dicom.affine  # noqa: B018 - reading it is the test
        image.copy(deep=False)
        ixr.open_series.__doc__  # noqa: B018
        assert image.nbytes == 5 * 4 * 8 * 6 * 2
    assert files == []


@pytest.mark.parametrize("chunks", [None, {}])
def test_indexing_reads_exactly_the_frames_asked_for(folder: Path, chunks: Any) -> None:
    image = ixr.open_series(folder, "time", chunks=chunks)

    def read(part: xr.DataArray) -> list[str]:
        with opened(folder) as files:
            part.load()
        return sorted(files)

    if chunks is None:
        assert read(image.isel(time=2, slice=1)) == [image.source.values[2, 1]]
        assert read(image.isel(slice=3, row=2, col=3)) == sorted(image.source.values[:, 3])
        assert read(image.isel(time=[4, 0])) == sorted(image.source.values[[4, 0]].ravel())
        assert read(image[1:3, ::2, ::-1, 2:4]) == sorted(image.source.values[1:3, ::2].ravel())
    assert read(image.isel(time=slice(0))) == []
    assert len(read(image)) == 20


def test_pixels_are_read_in_pieces(folder: Path) -> None:
    """A crop of columns still is right; numpy says what it should be."""
    image = ixr.open_series(folder, "time")
    whole = image.values
    for key in [
        np.s_[0, 1, 2, 3],
        np.s_[:, ::-1, 1:7:2, [3, 1]],
        np.s_[-1, ..., 0],
        np.s_[[2, 0], :, :, :],
        np.s_[:, [True, False, True, False]],
    ]:
        assert (ixr.open_series(folder, "time")[key].values == whole[key]).all()
    vector = ixr.open_series(folder, "time").isel(
        time=xr.DataArray([0, 4], dims="x"), slice=xr.DataArray([3, 1], dims="x")
    )
    assert (vector.values == whole[[0, 4], [3, 1]]).all()


@pytest.mark.filterwarnings("ignore:The specified chunks separate")
def test_dask(folder: Path) -> None:
    image = ixr.open_series(folder, "time", chunks={})
    assert image.chunks == ((5,), (4,), (8,), (6,)), "small images are one chunk"
    by_time = ixr.open_series(folder, "time", chunks={"time": 2})
    assert by_time.chunks[0] == (2, 2, 1)
    assert (by_time.values == ixr.open_series(folder, "time").values).all()
    assert by_time.data.name == ixr.open_series(folder, "time", chunks={"time": 2}).data.name, (
        "the same files, the same name"
    )
    doubled = (by_time * 2).mean("time").compute(scheduler="threads")
    assert (doubled == (ixr.open_series(folder, "time") * 2).mean("time")).all()
    elsewhere = pickle.loads(pickle.dumps(by_time))
    assert (elsewhere.values == by_time.values).all()


# --- values


def by_pydicom(image: xr.DataArray) -> np.ndarray:
    """Return the values of all frames as pydicom reads and rescales them."""
    frames = []
    for path in image.source.values.ravel():
        ds = pydicom.dcmread(path)
        frames.append(ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0)))
    return np.stack(frames).reshape(image.shape)


def extremes(low: int, high: int) -> Callable[[int, int], np.ndarray]:
    return lambda t, z: np.array([[low, high, 0, t, z, 1], [low + 1, high - 1, 5, 4, 3, 2]])


@pytest.mark.parametrize(
    ("dtype", "bits", "rescale", "want"),
    [
        ("u2", 12, None, "int16"),
        ("u2", 15, None, "int16"),
        ("u2", 16, None, "int32"),
        ("i2", 16, None, "int16"),
        ("i2", 12, None, "int16"),
        ("u1", 8, None, "int16"),
        ("i1", 8, None, "int16"),
        ("u4", 32, None, "int64"),
        ("i4", 32, None, "int32"),
        ("u4", 20, None, "int32"),
        ("u2", 12, (1, -1024), "int16"),
        ("u2", 16, (1, -1024), "int32"),
        ("i2", 16, (1, -1024), "int32"),
        ("u2", 12, (2, 1), "int16"),
        ("u2", 12, (-1, 0), "int16"),
        ("u2", 16, (-1, 65535), "int32"),
        ("u2", 12, (-16, 65520), "int32"),
        ("u1", 1, (40000, -20000), "int32"),
        ("u2", 12, (100, 0), "int32"),
        ("u2", 12, (0.5, 0), "float32"),
        ("u2", 12, (1, 0.5), "float32"),
        ("u4", 32, (0.1, 0), "float64"),
        ("u2", 16, (0.01, 1000), "float32"),
        ("u2", 16, ("1.5e-8", 1000000), "float64"),
        ("u2", 16, ("1.5e+294", 0), "float64"),
        ("u2", 16, (1, 0), "int32"),
    ],
)
def test_types_that_hold_the_values(
    tmp_path: Path, dtype: str, bits: int, rescale: tuple[Any, Any] | None, want: str
) -> None:
    kind = np.dtype(dtype).kind
    low, high = (0, 2**bits - 1) if kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    write_series(tmp_path, slices=2, dtype=dtype, bits_stored=bits, rescale=rescale, values=extremes(low, high))
    image = ixr.open_series(tmp_path, "none")
    assert image.dtype == want
    assert image.values == pytest.approx(by_pydicom(image), rel=1e-6)
    assert image.values.dtype == want
    # Several frames at once and one alone are read in different ways.
    for key in np.s_[:, :], np.s_[:, :1, ::-2], np.s_[:, 1]:
        several = ixr.open_series(tmp_path, "none")[key].values
        for number, one in enumerate(several):
            assert (one == ixr.open_series(tmp_path, "none")[key][number].values).all()
    stored = ixr.open_series(tmp_path, "none", rescale=False)
    assert stored.dtype == dtype
    assert (stored.values[:, 0, :2] == [low, high]).all()
    assert (stored.encoding["rescaled"], image.encoding["rescaled"]) == (False, True)


def test_difference_of_unsigned_values_does_not_wrap(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=1)
    image = ixr.open_series(tmp_path, "time")
    assert (image.isel(time=0).values - image.isel(time=1).values).min() < 0


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beside_those_stored_are_masked(tmp_path: Path, signed: bool) -> None:
    dirty = np.array([[0xF7FF, 0x0800, 0x7FFF, 0xF800, 0x0001, 0xAFFF]], np.uint16)
    mutate = lambda ds, _t, _z: setattr(ds, "PixelData", dirty.tobytes())  # noqa: E731
    write_series(tmp_path, slices=1, rows=1, dtype="i2" if signed else "u2", bits_stored=12, mutate=mutate)
    got = ixr.open_series(tmp_path, "none").values[0, 0]
    want = dirty[0] & 0x0FFF
    assert got.tolist() == (np.where(want > 2047, want.astype(int) - 4096, want) if signed else want).tolist()


def test_stored_in_the_high_bits(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.HighBit = 15
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") << 4 | 0xF).astype("<u2").tobytes()

    write_series(tmp_path, slices=2, bits_stored=12, mutate=mutate)
    image = ixr.open_series(tmp_path, "none")
    assert (image.values[:, 0, 1] == [0, 1]).all()
    assert image.values[1, 1, 1] == 12


@pytest.mark.parametrize("signed", [False, True])
def test_frames_of_different_bits(tmp_path: Path, signed: bool) -> None:
    """Each frame is masked with its own bits."""
    dirty = np.full((2, 2), 0xF801, np.uint16)

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.PixelData = dirty.tobytes()
        ds.BitsStored, ds.HighBit = [(12, 11), (16, 15)][z]

    write_series(tmp_path, slices=2, rows=2, cols=2, dtype="i2" if signed else "u2", mutate=mutate)
    got = ixr.open_series(tmp_path, "none").values[:, 0, 0].tolist()
    assert got == ([-2047, -2047] if signed else [0x801, 0xF801])


@pytest.mark.parametrize(
    "changes",
    [
        {"PixelRepresentation": 1},
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        {"PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_frames_of_different_types_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 1:
            ds.update(changes)

    files = write_series(tmp_path, slices=2, mutate=mutate)
    name, value = next(iter(changes.items()))
    with pytest.raises(MissingHeaderError, match=f"values .* of {name}; one is wanted") as caught:
        ixr.open_series(tmp_path, "none")
    assert all(str(file) in str(caught.value) for file in files)
    assert ixr.open_series(tmp_path, "none", where=lambda header: header[name].value == value).sizes["slice"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"BitsStored": 17},
        {"BitsStored": 0},
        {"HighBit": 3},
        {"HighBit": 16},
        {"BitsAllocated": 12},
        {"BitsAllocated": None},
    ],
)
def test_bits_that_cannot_be(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_series(tmp_path, slices=1, mutate=lambda ds, _t, _z: ds.update(changes))
    with pytest.raises(MissingHeaderError, match="Bit"):
        ixr.open_series(tmp_path, "none")


def test_rescale_of_each_slice(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = [0.5, 2, 1.25][z], t

    write_series(tmp_path, times=2, slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path, "time")
    assert image.dtype == np.float32
    assert image.values == pytest.approx(by_pydicom(image))
    assert "RescaleSlope" not in image.encoding
    assert "RescaleIntercept" not in image.encoding


def test_rescale_in_some_frames_only(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z:
            ds.RescaleSlope, ds.RescaleIntercept = 3, -5

    write_series(tmp_path, slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path, "none")
    assert image.dtype == np.int16
    assert (image.values == by_pydicom(image)).all()


@pytest.mark.parametrize("changes", [{"RescaleSlope": 0}, {"RescaleIntercept": "nan"}, {"RescaleSlope": ["1", "2"]}])
def test_rescale_that_cannot_be(tmp_path: Path, changes: dict[str, Any]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path, slices=2, rescale=(1, 0), tags=changes)
    with pytest.raises(MissingHeaderError, match="rescale=False"):
        ixr.open_series(tmp_path, "none")
    assert ixr.open_series(tmp_path, "none", rescale=False).values[1, 0, 1] == 1


def test_modality_lut_without_table(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.ModalityLUTSequence = [Dataset()]

    write_series(tmp_path, slices=1, mutate=mutate)
    with pytest.raises(UnreadableFileError, match="ModalityLUTSequence"):
        ixr.open_series(tmp_path, "none").load()
    assert ixr.open_series(tmp_path, "none", rescale=False).size


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4"])
def test_native_syntaxes(tmp_path: Path, syntax: pydicom.uid.UID, dtype: str) -> None:
    write_series(tmp_path / "a", slices=2, dtype=dtype, bits_stored=32)
    write_series(tmp_path / "b", slices=2, dtype=dtype, bits_stored=32, transfer_syntax=syntax)
    assert (ixr.open_series(tmp_path / "a").values == ixr.open_series(tmp_path / "b").values).all()
    assert ixr.open_series(tmp_path / "b").encoding["TransferSyntaxUID"] == syntax


def test_odd_number_of_bytes(tmp_path: Path) -> None:
    write_series(tmp_path, slices=2, rows=3, cols=3, dtype="u1", bits_stored=8)
    assert ixr.open_series(tmp_path).values[1, 2, 2] == 14


# --- many frames at once


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_in_threads_all_frames_come_to_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: pydicom.uid.UID
) -> None:
    write_series(tmp_path, times=5, slices=9, values=lambda t, z: np.full((8, 6), 10 * t + z), transfer_syntax=syntax)
    used: set[str] = set()
    fill = frames._in_threads

    def noted(do: Callable[[range], None], count: int, **how: int) -> None:
        def one(places: range) -> None:
            used.add(threading.current_thread().name)
            do(places)

        fill(one, count, **how)

    monkeypatch.setattr(frames, "_in_threads", noted)
    monkeypatch.setattr(frames, "_READ_AT_ONCE", 1)
    monkeypatch.setattr(frames, "_DECODED_AT_ONCE", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    values = ixr.open_series(tmp_path, "time").values
    assert threading.current_thread().name not in used
    assert (values == (10 * np.arange(5)[:, None] + np.arange(9))[..., None, None]).all()


def test_in_threads_a_file_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path, times=5, slices=9)
    image = ixr.open_series(tmp_path, "time")
    files[7].unlink()
    monkeypatch.setattr(frames, "_READ_AT_ONCE", 1)
    with pytest.raises(UnreadableFileError, match=f"cannot read .*{files[7].name}"):
        _ = image.values


def test_what_is_stopped_is_not_read_to_its_end() -> None:
    begun: list[int] = []
    stopped = threading.Event()

    def fill(places: range) -> None:
        begun.append(places[0])
        if places[0] == 0:
            raise KeyboardInterrupt
        stopped.wait(0.05)

    with pytest.raises(KeyboardInterrupt):
        frames._in_threads(fill, 1000, least=1, parts=1000, threads=2)
    assert len(begun) < 100


# --- files that are not what they were or say


@pytest.mark.filterwarnings("ignore:The specified chunks separate")
def test_file_replaced_after_opening(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", slices=3)
    other = write_series(tmp_path / "b", slices=3, series="other", values=lambda _t, _z: np.full((8, 6), 7))
    image = ixr.open_series(tmp_path / "a", "none")
    lazy = ixr.open_series(tmp_path / "a", "none", chunks={"slice": 1})
    shutil.copy(other[1], files[1])
    for opened_before in (image, lazy):
        with pytest.raises(UnreadableFileError, match=f"^{re.escape(str(files[1]))} has changed since it was opened"):
            opened_before.isel(slice=1).load()
        assert opened_before.isel(slice=0).values[0, 1] == 0, "the others are as they were"
    with pytest.raises(UnreadableFileError, match="another instance"):
        image.dicom.header(slice=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes among the files")
@pytest.mark.parametrize("use", ["image.load()", "image.dicom.header(slice=1)", "image.dicom.write(folder / 'out')"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, use: str, syntax: pydicom.uid.UID) -> None:
    """Nobody would write to it: so in a process that can be ended."""
    write_series(tmp_path / "in", slices=3, transfer_syntax=syntax)
    code = f"""
import os, pathlib
import imagedata_xr as ixr
folder = pathlib.Path({str(tmp_path)!r})
image = ixr.open_series(folder / "in", "none")
path = image.source.values[1]
os.unlink(path)
os.mkfifo(path)
{use}
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert re.search(rf"UnreadableFileError: .*{tmp_path}/in/", run.stderr), run.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["gone", "shorter", "denied"])
def test_file_gone_after_opening(tmp_path: Path, what: str) -> None:
    files = write_series(tmp_path, slices=3)
    image = ixr.open_series(tmp_path, "none")
    if what == "gone":
        files[2].unlink()
    elif what == "shorter":
        os.truncate(files[2], 600)
    else:
        files[2].unlink()
        files[2].mkdir()
    with pytest.raises(UnreadableFileError, match=files[2].name):
        image.load()


@pytest.mark.parametrize("bytes_", [0, 10, 94, 2 * 96, 1000])
def test_pixel_data_of_another_size_than_the_image(tmp_path: Path, bytes_: int) -> None:
    files = write_series(
        tmp_path, slices=2, mutate=lambda ds, _t, z: setattr(ds, "PixelData", bytes(bytes_)) if z else None
    )
    image = ixr.open_series(tmp_path, "none")
    assert image.isel(slice=0).values[1, 1] == 2
    with pytest.raises(UnreadableFileError, match=f"{files[1].name} has {bytes_} bytes of pixel data; 96 are wanted"):
        image.load()


@pytest.mark.parametrize(("rows", "bytes_"), [(1, 2), (3, 4)])
def test_an_odd_frame_is_padded(tmp_path: Path, rows: int, bytes_: int) -> None:
    files = write_series(tmp_path, times=2, slices=2, rows=rows, cols=1, dtype="u1", bits_stored=8)
    assert {len(pydicom.dcmread(file).PixelData) for file in files} == {bytes_}
    assert (ixr.open_series(tmp_path, "time").values == by_pydicom(ixr.open_series(tmp_path, "time"))).all()
    assert (ixr.open_series(tmp_path, "time")[1, 1].values == by_pydicom(ixr.open_series(tmp_path, "time"))[1, 1]).all()


def test_two_odd_frames_are_not_taken_for_a_padded_one(tmp_path: Path) -> None:
    write_series(
        tmp_path,
        slices=2,
        rows=3,
        cols=1,
        dtype="u1",
        bits_stored=8,
        mutate=lambda ds, *_: setattr(ds, "PixelData", bytes(6)),
    )
    image = ixr.open_series(tmp_path, "none")
    for some in (image, image[0]):
        with pytest.raises(UnreadableFileError, match="has 6 bytes of pixel data; 3 are wanted"):
            some.load()


def test_sizes_that_differ_are_other_stacks(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 0:
            set_pixels(ds, np.zeros((8, 8)))

    write_series(tmp_path, slices=3, mutate=mutate)
    with pytest.raises(ValueError, match="2 stacks") as caught:
        ixr.open_series(tmp_path, "none")
    assert "1 frame of 8×8" in str(caught.value)
    assert "2 frames of 8×6" in str(caught.value)


def test_ct(tmp_path: Path) -> None:
    write_series(tmp_path, slices=3, sop_class=CTImageStorage, rescale=(1, -1024))
    image = ixr.open_series(tmp_path)
    assert image.dtype == np.int16
    assert image.values[2, 0, 1] == 2 - 1024
    assert (image.encoding["RescaleSlope"], image.encoding["RescaleIntercept"]) == (1.0, -1024.0)


def test_places_of_what_is_not_read(tmp_path: Path) -> None:
    write_series(tmp_path / "a", times=3, slices=4)
    image = ixr.open_series(tmp_path / "a", "time")

    def asked(one: xr.DataArray) -> list[str] | None:
        places = places_of(one.variable)
        return None if places is None else ["" if place is None else place.path for place in places]

    def sources(one: xr.DataArray) -> list[str]:
        return [str(path) for path in one.source.values.ravel()]

    for one in (image, image.isel(time=1), image.isel(slice=slice(None, None, -1)), image.isel(slice=[3, 0], time=[2])):
        assert asked(one) == sources(one)
    permuted = np.arange(image.sizes["row"])[::-1]
    for one in (
        *(image.isel(row=permuted), image.isel(col=slice(None, None, -1)), image.isel(row=slice(1, None))),
        *(image.transpose("row", "col", "slice", "time"), image.compute(), image.chunk(), image.copy() * 1),
    ):
        assert asked(one) is None
    np.testing.assert_array_equal(image.isel(time=1).values, image.values[1])
    crop = image.isel(row=slice(1, None))
    shutil.rmtree(tmp_path / "a")
    assert asked(crop) is None  # nothing was read to know that


@pytest.mark.parametrize(
    ("rows", "read"),
    [(3, 1), (slice(2, 5), 3), (slice(5, None, -2), 5), ([4, 1, 4], 4), ([], 0), (slice(None), 7), (slice(4, 4), 0)],
    ids=str,
)
def test_of_a_few_rows_no_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any, read: int
) -> None:
    write_series(tmp_path, times=3, slices=4, rows=7, cols=5, rescale=(0.5, -3))
    values = ixr.open_series(tmp_path, "time").values
    sizes: list[int] = []
    really = frames.read_directly

    def read_directly(path: str, offset: int, version: tuple[int, int], target: np.ndarray) -> None:
        sizes.append(target.size)
        really(path, offset, version, target)

    monkeypatch.setattr(frames, "read_directly", read_directly)
    for cols in (slice(None), 2, [3, 0]):
        some = ixr.open_series(tmp_path, "time").isel(row=rows, col=cols).values
        np.testing.assert_array_equal(some, values[:, :, rows][..., cols])
    assert set(sizes) <= {read * 5 * 2}


def test_nothing_selected(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=2)
    for key in ({"time": [], "row": []}, {"time": 0, "slice": 0, "row": []}, {"slice": []}, {"col": slice(0)}):
        image = ixr.open_series(tmp_path, "time").isel(key)
        assert image.values.shape == image.shape


def test_values_are_read_into_memory_that_is_there(tmp_path: Path) -> None:
    write_series(tmp_path, times=3, slices=4)
    image = ixr.open_series(tmp_path, "time")
    room = np.empty(image[0].nbytes, np.uint8)
    for one in (image[1], image[2].isel(row=slice(None, None, -1)), image[0, 1:3], image[:, 0, :2, :2]):
        values = read_into(one.variable, room)
        assert np.shares_memory(values, room)
        np.testing.assert_array_equal(values, one.values)
    for other in (image, image[0].compute(), image[0].chunk(), image[0, 0]):
        values = read_into(other.variable, room)
        assert not np.shares_memory(values, room)
        np.testing.assert_array_equal(values, other.values)
