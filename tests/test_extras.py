"""Where a package is not installed, the error says how to get it, and nothing is left half made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import imagedata_xr as ixr
from imagedata_xr.extras import needed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("a.zarr", "zarr", "storage"),
        ("a.nc", "h5netcdf", "storage"),
        ("a.mat", "scipy", "mat"),
    ],
)
def test_a_format_whose_package_is_absent_says_which(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    image = ixr.open_series(patient / "ct")
    ixr.write(image, tmp_path / "there" / name)
    for module in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    advice = rf'needs {package}: pip install "imagedata_xr\[{extra}\]"'
    with pytest.raises(ModuleNotFoundError, match=advice):
        ixr.write(image, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["there"]
    with pytest.raises(ModuleNotFoundError, match=advice):
        ixr.open_series(tmp_path / "there" / name)


def test_a_package_that_is_there_and_lacks_another_is_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfway_there.py").write_text("import quite_absent")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'quite_absent'"):
        needed("halfway_there", "this", "test")
