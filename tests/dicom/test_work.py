"""How much work is done, counted: speed that no clock has to tell."""

from __future__ import annotations

import builtins
import os
import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.dicom.scan import HEAD
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES, SLICES = 10, 10


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series", times=TIMES, slices=SLICES, rows=64, cols=64)
    return tmp_path / "series"


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count opened files, reads, bytes, and what pydicom is asked to read or write."""
    done: Counter[str] = Counter()
    os_open, os_read, io_open = os.open, os.read, builtins.open

    def counted_open(path: Any, *args: Any, **options: Any) -> int:
        done["opened"] += "series" in str(path)
        return os_open(path, *args, **options)

    def counted_read(handle: int, count: int) -> bytes:
        data = os_read(handle, count)
        done["reads"] += 1
        done["bytes"] += len(data)
        return data

    def counted_io(path: Any, *args: Any, **options: Any) -> Any:
        done["opened"] += "series" in str(path)
        return io_open(path, *args, **options)

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            done[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(module, name, call)

    monkeypatch.setattr(os, "open", counted_open)
    monkeypatch.setattr(os, "read", counted_read)
    monkeypatch.setattr(builtins, "open", counted_io)
    counted(pydicom, "dcmread")
    counted(pydicom.filereader, "read_partial")
    counted(pydicom, "dcmwrite")
    counted(pydicom.filewriter, "write_dataset")
    return done


def test_opening_reads_the_first_bytes_of_each_file_once(series: Path, work: Counter[str]) -> None:
    ixr.open_series(series, "time")
    count = TIMES * SLICES
    assert work["opened"] <= count + 2
    assert work["reads"] <= count + 2
    assert work["bytes"] <= count * HEAD + 2 * HEAD
    assert work["dcmread"] == work["read_partial"] == 0


def test_a_slice_is_read_from_one_file(series: Path, work: Counter[str]) -> None:
    image = ixr.open_series(series, "time")
    work.clear()
    image.isel(time=3, slice=4).load()
    assert work["opened"] == 1
    image.isel(time=3).load()
    assert work["opened"] == 1 + SLICES
    assert work["dcmread"] == 0


def test_writing_asks_pydicom_for_two_frames_of_a_kind(series: Path, tmp_path: Path, work: Counter[str]) -> None:
    image = ixr.open_series(series, "time").load() * 2
    work.clear()
    image.dicom.write(tmp_path / "out")
    assert work["dcmwrite"] <= 4
    assert work["dcmread"] <= 4
    assert len(list((tmp_path / "out").iterdir())) == TIMES * SLICES


def test_of_a_difference_what_frames_share_is_encoded_once(series: Path, tmp_path: Path, work: Counter[str]) -> None:
    image = ixr.open_series(series, "time").load()
    difference = image - image.isel(time=0)
    work.clear()
    difference.dicom.write(tmp_path / "out")
    assert work["dcmwrite"] <= 4
    # The two frames, what they share, and the times of each volume: nothing a slice.
    assert work["write_dataset"] <= TIMES + SLICES
    assert len(list((tmp_path / "out").iterdir())) == TIMES * SLICES


@pytest.mark.parametrize("times", [[0, 0, 1, 2], [0] * 5], ids=["repeated", "copies"])
def test_copies_of_volumes_are_written_as_fast(
    series: Path, tmp_path: Path, work: Counter[str], times: list[int]
) -> None:
    image = ixr.open_series(series, "time").load().isel(time=times).assign_coords(time=5.0 * np.arange(len(times)))
    if len(set(times)) == 1:
        image = xr.concat([image.isel(time=0, drop=True)] * len(times), image.time.variable)
    work.clear()
    image.dicom.write(tmp_path / "out")
    assert work["dcmwrite"] <= 4
    assert work["dcmread"] <= 4
    assert len(list((tmp_path / "out").iterdir())) == len(times) * SLICES


def test_chunks_of_the_same_files_have_the_same_name(series: Path) -> None:
    first = ixr.open_series(series, "time", chunks={"time": 1})
    again = ixr.open_series(series, "time", chunks={"time": 1})
    assert first.data.name == again.data.name
    assert len(first.data.dask) <= TIMES + 2
    file = next(path for path in series.rglob("*") if path.is_file())
    os.utime(file, ns=(1, 1))
    changed = ixr.open_series(series, "time", chunks={"time": 1})
    assert changed.data.name != first.data.name


def test_an_image_is_sent_as_few_bytes(tmp_path: Path) -> None:
    """Under 300 a frame, of many; and it is the same image where it arrives."""
    write_series(tmp_path / "series", times=40, slices=25, rows=4, cols=4)
    for chunks in (None, {"time": 1}):
        image = ixr.open_series(tmp_path / "series", "time", chunks=chunks)
        sent = pickle.dumps(image, protocol=5)
        assert len(sent) < 300 * 1000
        there = pickle.loads(sent)
        np.testing.assert_array_equal(there.isel(time=7), image.isel(time=7))
        assert there.dicom.geometry_equal(image)
