"""Overlays come as masks on the pixels of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.overlays import overlays
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

DRAWN = np.random.default_rng(3).integers(0, 2, (5, 3)).astype(bool)


def draw(ds: Dataset, group: int, mask: np.ndarray, origin: tuple[int, int]) -> None:
    ds.add_new((group, 0x0010), "US", mask.shape[0])
    ds.add_new((group, 0x0011), "US", mask.shape[1])
    ds.add_new((group, 0x0040), "CS", "G")
    ds.add_new((group, 0x0050), "SS", list(origin))
    ds.add_new((group, 0x0100), "US", 1)
    ds.add_new((group, 0x0102), "US", 0)
    data = np.packbits(mask.ravel(), bitorder="little").tobytes()
    ds.add_new((group, 0x3000), "OW", data + b"\0" * (len(data) % 2))


def test_overlays_lie_where_they_say(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 2:
            draw(ds, 0x6000, DRAWN, (3, 2))
            ds.add_new((0x6000, 0x1500), "LO", "lesion")
            draw(ds, 0x6002, np.ones((8, 6), bool), (1, 1))

    write_series(tmp_path, slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path)
    assert overlays(image, slice=0).shape == (0, 8, 6)
    found = overlays(image, slice=2)
    assert found.coords["overlay"].values.tolist() == ["lesion", "6002"]
    np.testing.assert_array_equal(found.sel(overlay="lesion")[2:7, 1:4], DRAWN)
    assert int(found.sel(overlay="lesion").sum()) == DRAWN.sum()
    assert found.sel(overlay="6002").all()
    assert float(image.isel(slice=2).where(found.sel(overlay="lesion")).count()) == DRAWN.sum()
    with pytest.raises(UnreadableFileError, match="take the whole image"):
        overlays(image.isel(row=slice(2, 5)), slice=2)


def test_overlays_that_do_not_fit(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        draw(ds, 0x6000, DRAWN, (6, 2))

    write_series(tmp_path, slices=1, mutate=mutate)
    with pytest.raises(UnreadableFileError, match="does not fit"):
        overlays(ixr.open_series(tmp_path))
