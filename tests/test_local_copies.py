"""What lies beside an image elsewhere comes with it, as it does on this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from tests.web import served

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def folder(patient: Path, tmp_path: Path) -> Path:
    """Return a folder with a NIfTI file of diffusion, its sidecar, and its tables."""
    ixr.write(ixr.open_series(patient / "dwi", "dti"), tmp_path / "nifti" / "dwi.nii.gz")
    names = {file.name for file in (tmp_path / "nifti").iterdir()}
    assert names == {"dwi.nii.gz", "dwi.json", "dwi.bval", "dwi.bvec"}
    return tmp_path / "nifti"


def same(image: xr.DataArray, other: xr.DataArray) -> bool:
    return image.identical(other) and image.attrs == other.attrs


def test_of_a_url(folder: Path, memory: MemoryFileSystem) -> None:
    here = ixr.open_series(folder)
    assert {"b", "bx"} <= {*here.coords}
    for file in folder.iterdir():
        memory.pipe(f"/bucket/{file.name}", file.read_bytes())
    for source in ("memory://bucket", "memory://bucket/dwi.nii.gz"):
        assert same(ixr.open_series(source), here)
    memory.rm("/bucket/dwi.json")
    (folder / "dwi.json").unlink()
    assert same(ixr.open_series("memory://bucket/dwi.nii.gz"), ixr.open_series(folder))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_archive(folder: Path, tmp_path: Path, kind: str) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, folder.parent, "nifti")
    here = ixr.open_series(folder)
    assert same(ixr.open_series(archive), here)
    assert same(ixr.open_series(f"{kind}://nifti/dwi.nii.gz::{archive}"), here)


def test_of_a_web_server(folder: Path) -> None:
    here = ixr.open_series(folder)
    with served(folder) as server:
        url = server.url("dwi.nii.gz")
        assert same(ixr.open_series(url), here)
        for name in ("dwi.json", "dwi.bval", "dwi.bvec"):
            server.overloaded = {name}
            with pytest.raises(UnreadableFileError, match=f"{name} belongs to the image if it is there.*503"):
                ixr.open_series(url)
        server.overloaded = set()
        for name in ("dwi.json", "dwi.bval", "dwi.bvec"):
            (folder / name).unlink()
        assert same(ixr.open_series(url), ixr.open_series(folder)), "no sidecar is no error"


def test_the_other_half_of_a_pair(folder: Path, memory: MemoryFileSystem, tmp_path: Path) -> None:
    image = ixr.open_series(folder)
    ixr.write(image, tmp_path / "pair" / "dwi.img")
    for file in (tmp_path / "pair").iterdir():
        memory.pipe(f"/pair/{file.name}", file.read_bytes())
    for source in ("memory://pair", "memory://pair/dwi.hdr", "memory://pair/dwi.img"):
        assert np.array_equal(ixr.open_series(source), image)
