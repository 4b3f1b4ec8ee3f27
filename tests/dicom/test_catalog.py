"""The table of a heap: what is there, how it sorts, what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import GeometryError, NoDicomError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def test_every_series_of_the_patient_with_its_order(patient: Path) -> None:
    table = ixr.scan(patient).set_index("SeriesDescription")
    assert dict(table["order"]) == {
        "dynamic 1": "time",
        "dynamic 2": "time",
        "dwi trace": "b",
        "multi echo": "te",
        "head 5 mm": "none",
    }
    assert (table["problem"] == "").all()
    for folder in patient.iterdir():
        image = ixr.open_series(folder)
        assert table.loc[image.attrs["SeriesDescription"], "shape"] == image.shape[:-2]


def test_problems_are_told_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    write_series(tmp_path / "good", series="good", number=1)
    write_series(
        tmp_path / "gap",
        times=3,
        series="gap",
        number=2,
        mutate=lambda ds, t, z: setattr(ds, "skip", (t, z) == (1, 2)),
    )
    table = ixr.scan(tmp_path).set_index("SeriesNumber")
    assert table.loc[1, "problem"] == ""
    assert "missing" in table.loc[2, "problem"]
    assert table.loc[2, "frames"] == 11


def test_series_with_headers_that_cannot_be_is_told_and_left_out_of_a_study(tmp_path: Path) -> None:
    write_series(tmp_path / "good", slices=3, series="good", number=1)
    skewed = {"ImageOrientationPatient": [1, 0, 0.4, 0, 1, 0]}
    write_series(tmp_path / "bad", slices=2, series="bad", number=2, tags=skewed)
    table = ixr.scan(tmp_path).set_index("SeriesNumber")
    assert table.loc[1, "problem"] == ""
    assert "has length 1.077, not 1" in table.loc[2, "problem"]
    with pytest.raises(GeometryError, match=r"series .*has length 1\.077"):
        ixr.open_study(tmp_path)
    with pytest.warns(UserWarning, match=r"left out: series .*has length 1\.077"):
        tree = ixr.open_study(tmp_path, errors="warn")
    assert [node["image"].shape for node in tree.subtree if node.has_data] == [(3, 8, 6)]


def test_stacks_of_a_series_are_rows(tmp_path: Path) -> None:
    write_series(tmp_path / "axial", slices=3, suffix="a")
    write_series(tmp_path / "coronal", slices=2, orientation=(1, 0, 0, 0, 0, -1), suffix="b")
    table = ixr.scan(tmp_path)
    assert list(table["orientation"].str[0]) == ["H", "P"] or set(table["orientation"].str[0]) == {"H", "P"}
    assert set(table["slices"]) == {2, 3}
    assert table["problem"].str.contains("2 stacks").all()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NoDicomError, match="no files"):
        ixr.scan(tmp_path)
