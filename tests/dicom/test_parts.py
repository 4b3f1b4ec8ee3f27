"""Pixels that are made while they are written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from imagedata_xr.dicom.parts import RescaledPixels, Room
from imagedata_xr.dicom.pixels import Rescale, pixel_bytes
from imagedata_xr.dicom.save import Saver
from imagedata_xr.errors import ValuesNotStorableError
from tests.dicom.saving import save

if TYPE_CHECKING:
    from pathlib import Path

    from imagedata_xr.dicom.save import Parts

RESCALES = [
    Rescale("1", "0", "i2"),
    Rescale("1", "0", "u1"),
    Rescale("0.5", "-3", "u2"),
    Rescale("0.003", "0", "u2"),
]


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1"])
@pytest.mark.parametrize("shape", [(3, 3), (8, 16), (2, 5)])
def test_memory_that_is_used_again_changes_nothing(rescale: Rescale, dtype: str, shape: tuple[int, int]) -> None:
    room, rng = Room(), np.random.default_rng(1)
    for _ in range(3):
        values = rng.integers(0, 100, shape).astype(dtype)
        before = values.copy()
        assert bytes(RescaledPixels(values, rescale).value(room)) == bytes(pixel_bytes(rescale.store(values)))
        np.testing.assert_array_equal(values, before)


def test_room_gives_arrays_of_each_size_and_type() -> None:
    room = Room()
    small, large = room((2, 3), "f8"), room((5, 4), "f8")
    assert (small.shape, large.shape, large.dtype) == ((2, 3), (5, 4), np.dtype("f8"))
    assert np.shares_memory(large, room((2, 2), "f8"))
    assert not np.shares_memory(large, room((2, 2), "u2"))


@pytest.mark.parametrize("in_turns", [True, False])
def test_values_that_do_not_fit_are_told(tmp_path: Path, in_turns: bool) -> None:
    pixels = RescaledPixels(np.array([[0.0, 70000.0]]), Rescale("1", "0", "u2"))
    files: list[tuple[str, Parts]] = [(str(tmp_path / f"{number}.dcm"), (b"head", pixels)) for number in range(100)]
    with pytest.raises(ValuesNotStorableError, match="do not fit"):
        save(files, in_turns=in_turns)


def test_of_many_large_frames_few_wait(tmp_path: Path) -> None:
    pixels = RescaledPixels(np.zeros((1000, 1000)), Rescale("1", "0", "u2"))
    assert pixels.held == 8_000_000
    with ThreadPoolExecutor(2) as threads:
        saver = Saver(threads, 2, in_turns=False)
        saver.add(str(tmp_path / "1.dcm"), (pixels,))  # is handed over at once
        saver.wait()
    assert (tmp_path / "1.dcm").stat().st_size == 2_000_000
