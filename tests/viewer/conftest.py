"""A browser, and an image to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import imagedata_xr as ixr
from tests.generate import OBLIQUE, write_series
from tests.viewer.browsers import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Any:
    return browser.new_page(viewport={"width": 1300, "height": 1000})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    folder = tmp_path_factory.mktemp("view") / "in"
    write_series(folder, times=3, slices=5, rows=40, cols=30, spacing=(1.5, 2.0), orientation=OBLIQUE)
    return ixr.open_series(folder, "time")
