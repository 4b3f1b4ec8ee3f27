"""Diffusion: volumes by number, b-value or direction; what repeats, what lacks, and what is no volume of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import DuplicateFramesError, MissingFramesError, OrderError
from tests.generate import clock, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

SIX = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0), (0.6, 0, 0.8), (0, 0.6, 0.8)]
NONE = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
TRACE = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]


def scheme(b: float, *vectors: tuple[float, float, float] | None) -> list[tuple[float, Any]]:
    return [(b, vector) for vector in vectors]


def write_dwi(
    path: Path,
    volumes: list[tuple[float, Any]],
    mutate: Callable[[Dataset, int, int], object] | None = None,
    **options: Any,
) -> list[Path]:
    """Write a series of diffusion volumes (b, direction); its values are the number of the volume and the slice."""

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.DiffusionBValue, vector = float(volumes[t][0]), volumes[t][1]
        ds.DiffusionDirectionality = "NONE" if vector is None else "DIRECTIONAL"
        if vector is not None:
            ds.DiffusionGradientOrientation = [float(v) for v in vector]
        if mutate is not None:
            mutate(ds, t, z)

    return write_series(path, times=len(volumes), mutate=fill, **{"slices": 3, **options})


def numbers(image: xr.DataArray) -> list[int]:
    """Return which volume each one is, after a check that its slices are its own."""
    values = image.values[..., 0, 0].reshape(-1, image.sizes["slice"])
    assert (values == values[:, :1]).all(), "slices of several volumes in one"
    assert (image.values[..., 0, 1].reshape(values.shape) == np.arange(values.shape[1])).all()
    return [int(v) for v in values[:, 0]]


def test_volumes_by_number(tmp_path: Path) -> None:
    volumes = scheme(0, None) + scheme(500, *SIX) + scheme(1500, *SIX)
    write_dwi(tmp_path, volumes)
    image = ixr.open_series(tmp_path, "dti")
    assert image.dims == ("dti", "slice", "row", "col")
    assert numbers(image) == list(range(13)), "in the order of acquisition"
    assert image.dti.values.tolist() == list(range(13))
    for name in ("b", "bx", "by", "bz"):
        assert image[name].dims == ("dti",)
    assert image.b.attrs["units"] == "s/mm2"
    assert image.b.values.tolist() == [0] + [500] * 6 + [1500] * 6
    assert np.isnan(image.bx[0])
    found = np.stack([image.bx, image.by, image.bz], axis=1)
    np.testing.assert_allclose(found[1:], [*SIX, *SIX], atol=1e-12)
    assert "present" not in image.coords
    # Other dims take a part of it; coordinates go along.
    assert image.sel(dti=image.dti[image.b == 500]).sizes["dti"] == 6


def test_auto_gives_volumes(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX))
    xr.testing.assert_identical(ixr.open_series(tmp_path), ixr.open_series(tmp_path, "dti"))


def test_volume_numbers_run_fastest(tmp_path: Path) -> None:
    """Philips numbers all volumes of a slice before those of the next."""
    volumes = scheme(0, None) + scheme(800, *SIX[:3])
    write_dwi(tmp_path, volumes, lambda ds, t, z: setattr(ds, "InstanceNumber", 4 * z + t + 1))
    assert numbers(ixr.open_series(tmp_path, "dti")) == [0, 1, 2, 3]


def test_repeated_volumes_stay_apart(tmp_path: Path) -> None:
    """Three b0 volumes here and there, and each direction twice."""
    volumes = scheme(0, None, None) + scheme(800, *SIX[:2]) + scheme(0, None) + scheme(800, *SIX[:2])
    write_dwi(tmp_path, volumes)
    for order in ("dti", "auto"):
        image = ixr.open_series(tmp_path, order)
        assert image.dims[0] == "dti"
        assert numbers(image) == list(range(7))
        assert image.b.values.tolist() == [0, 0, 800, 800, 0, 800, 800]


def test_repetition_that_lacks_a_frame(tmp_path: Path) -> None:
    volumes = scheme(0, None, None) + scheme(800, *SIX)
    files = write_dwi(tmp_path, volumes)
    files[1].unlink()
    for missing in ("error", "fill"):
        with pytest.raises(MissingFramesError, match="some slices have 2 frames of b 0 s/mm2, others 1"):
            ixr.open_series(tmp_path, "dti", missing=missing)


def test_volume_that_lacks_a_frame(tmp_path: Path) -> None:
    files = write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX))
    files[7].unlink()
    for order in ("dti", "auto"):
        with pytest.raises(MissingFramesError, match="1 of 21 frames are missing in order 'dti': dti 2, slice 1"):
            ixr.open_series(tmp_path, order)
    image = ixr.open_series(tmp_path, "dti", missing="fill")
    assert np.argwhere(~image.present.values).tolist() == [[2, 1]]


def test_several_directions_of_one_b(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX))
    with pytest.raises((OrderError, DuplicateFramesError), match="Use order='dti'"):
        ixr.open_series(tmp_path, "b")
    with pytest.raises(OrderError, match="differ in gradient direction"):
        ixr.open_series(tmp_path, "b", duplicates="first")


def test_b_alone(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(0, None) + scheme(40, None) + scheme(273, None))
    for order in ("b", "auto"):
        image = ixr.open_series(tmp_path, order)
        assert image.dims[0] == "b"
        assert image.b.values.tolist() == [0, 40, 273]


def test_close_values_of_b_are_not_rounded(tmp_path: Path) -> None:
    write_dwi(tmp_path, [(0.001, None), (0.002, None), (800.0, None)])
    image = ixr.open_series(tmp_path, "b")
    assert image.b.values.tolist() == [0.001, 0.002, 800]
    assert numbers(image) == [0, 1, 2]


def test_directions_by_number(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(800, *SIX))
    image = ixr.open_series(tmp_path, "bvector")
    assert numbers(image) == list(range(6))
    np.testing.assert_allclose(np.stack([image.bx, image.by, image.bz], axis=1), SIX, atol=1e-12)


def test_sparse_cube_of_b_and_direction(tmp_path: Path) -> None:
    volumes = scheme(0, None) + scheme(500, *SIX[:4]) + scheme(1500, *SIX)
    write_dwi(tmp_path, volumes)
    image = ixr.open_series(tmp_path, "b,bvector")
    assert image.sizes["b"] == 3
    assert image.sizes["bvector"] == 7
    assert image.b.values.tolist() == [0, 500, 1500]
    there = image.present.all("slice").values
    assert there.sum() == 11
    assert there[0].tolist() == [True] + [False] * 6
    assert not there[1:, 0].any()
    assert np.isnan(image.bx[0])
    assert image.bx.dims == ("bvector",)
    for b, vector in volumes[1:]:
        at = int(np.argmin(np.linalg.norm(np.stack([image.bx, image.by, image.bz], 1)[1:] - vector, axis=1))) + 1
        value = image.sel(b=b).isel(bvector=at, slice=1, row=0, col=0).item()
        assert volumes[int(value)] == (b, vector)


def test_sparse_cube_lacks_no_single_frame(tmp_path: Path) -> None:
    files = write_dwi(tmp_path, scheme(0, None) + scheme(500, *SIX[:4]) + scheme(1500, *SIX))
    files[5].unlink()
    with pytest.raises(MissingFramesError, match="1 of 63 frames"):
        ixr.open_series(tmp_path, "b,bvector")


def test_directions_differ_a_little_between_shells(tmp_path: Path) -> None:
    turned = [tuple(np.add(v, 0.002) / np.linalg.norm(np.add(v, 0.002))) for v in SIX]
    write_dwi(tmp_path, scheme(500, *SIX) + scheme(1500, *turned))
    assert ixr.open_series(tmp_path, "b,bvector").sizes["bvector"] == 6


def test_opposite_directions_are_two(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(800, (0, 0, 1), (0, 0, -1)))
    assert ixr.open_series(tmp_path, "dti").bz.values.tolist() == [1, -1]


def test_trace_images_are_no_volumes_among_others(tmp_path: Path) -> None:
    volumes = scheme(0, None) + scheme(800, *SIX[:3]) + scheme(0, None) + scheme(800, None)
    write_dwi(tmp_path, volumes, lambda ds, t, _z: setattr(ds, "ImageType", TRACE if t > 3 else NONE))
    with pytest.raises(OrderError, match=r"would mix kinds of image.*order='image_type,dti'"):
        ixr.open_series(tmp_path, "dti")
    for order in ("image_type,dti", "auto"):
        image = ixr.open_series(tmp_path, order)
        assert image.dims[:2] == ("image_type", "dti")
        trace = next(k for k, label in enumerate(image.image_type.values) if "TRACEW" in label)
        there = image.present.all("slice").values
        assert there.sum(axis=1).tolist() == ([2, 4] if trace == 0 else [4, 2])
        assert sorted(image.values[trace, there[trace], 0, 0, 0]) == [4, 5]
        assert sorted(image.values[1 - trace, there[1 - trace], 0, 0, 0]) == [0, 1, 2, 3]


def test_adc_map_has_no_b_value(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, _z: int) -> None:
        if t == 4:
            ds.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
            del ds.DiffusionBValue
        else:
            ds.ImageType = NONE

    write_dwi(tmp_path, [*scheme(0, None), *scheme(800, *SIX[:3]), (0, None)], fill)
    for order in ("image_type,dti", "auto"):
        image = ixr.open_series(tmp_path, order)
        assert image.dims[:2] == ("image_type", "dti")
        assert image.b.values.tolist()[:4] == [0, 800, 800, 800]
        assert np.isnan(image.b[4])
        assert image.present.all("slice").sum() == 5


def test_some_frames_without_b_value(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, _z: int) -> None:
        if t == 2:
            del ds.DiffusionBValue

    write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX[:3]), fill)
    with pytest.raises(OrderError, match="order 'dti' needs DiffusionBValue, which 3 of the 12 frames lack"):
        ixr.open_series(tmp_path, "dti")


def test_echoes_of_a_direction_are_no_repetitions(tmp_path: Path) -> None:
    volumes = [v for v in scheme(0, None) + scheme(800, *SIX[:3]) for _ in range(2)]
    write_dwi(tmp_path, volumes, lambda ds, t, _z: setattr(ds, "EchoTime", [60, 90][t % 2]))
    with pytest.raises(OrderError, match="differ in EchoTime; tell them apart with order='te,dti'"):
        ixr.open_series(tmp_path, "dti")
    for order in ("te,dti", "auto"):
        image = ixr.open_series(tmp_path, order)
        assert image.sizes["te"] == 2
        assert numbers(image) == [0, 2, 4, 6, 1, 3, 5, 7]


def test_no_b_value(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=1)
    with pytest.raises(OrderError, match="order 'dti' needs DiffusionBValue, which none of the 2 frames has"):
        ixr.open_series(tmp_path, "dti")
    with pytest.raises(OrderError, match="order 'bvector' needs DiffusionGradientOrientation"):
        ixr.open_series(tmp_path, "bvector")
    with pytest.raises(OrderError, match="needs Time, which none of the 2 frames has; 'time' may be meant"):
        ixr.open_series(tmp_path, "Time")


def test_dim_of_another_name(tmp_path: Path) -> None:
    write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX))
    image = ixr.open_series(tmp_path, {"volume": "dti"})
    assert image.dims[0] == "volume"
    assert image.b.dims == ("volume",)


def test_doubt_is_told_when_directions_are_asked_for(tmp_path: Path) -> None:
    def ge(ds: Dataset, t: int, _z: int) -> None:
        ds.Manufacturer = "GE MEDICAL SYSTEMS"
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [800 * (t > 0), 8, 0, 0])
        block = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
        for number, value in zip((0xBB, 0xBC, 0xBD), SIX[t], strict=True):
            block.add_new(number, "DS", str(value))

    write_series(tmp_path, times=3, slices=2, mutate=ge)
    with pytest.warns(UserWarning, match="InPlanePhaseEncodingDirection is absent"):
        image = ixr.open_series(tmp_path, "dti")
    assert image.b.values.tolist() == [0, 800, 800]


def test_arithmetic_of_volumes(tmp_path: Path) -> None:
    """b-values and directions stay with their volumes."""
    write_dwi(tmp_path, scheme(0, None) + scheme(800, *SIX))
    image = ixr.open_series(tmp_path, "dti").load()
    ratio = image / image.isel(dti=0, drop=True)
    assert ratio.b.values.tolist() == image.b.values.tolist()


def test_files_that_are_not_in_order_of_instances(tmp_path: Path) -> None:
    """Where InstanceNumber says nothing, volumes are in the order of their times."""
    volumes = scheme(0, None, None) + scheme(800, *SIX[:2])
    write_dwi(tmp_path, volumes, lambda ds, _t, _z: setattr(ds, "InstanceNumber", 1))
    assert numbers(ixr.open_series(tmp_path, "dti")) == [0, 1, 2, 3]


def test_b_values_that_were_measured_several_times_are_not_lost(tmp_path: Path) -> None:
    """Time would tell the volumes apart, too, and leave out their b-values."""
    volumes = scheme(5, None, None) + scheme(1500, (1, 0, 0))

    def at(ds: Dataset, t: int, _z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(36_000 + 4 * t)

    write_dwi(tmp_path / "in", volumes, at)
    image = ixr.open_series(tmp_path / "in")
    assert image.dims[0] == "dti"
    assert image.b.values.tolist() == [5, 5, 1500]
    image.dicom.write(tmp_path / "image.nii")
    assert (tmp_path / "image.bval").read_text().split() == ["5", "5", "1500"]


def test_b_values_measured_in_turns_have_time_beside_them(tmp_path: Path) -> None:
    def at(ds: Dataset, t: int, _z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(36_000 + 4 * t)

    write_dwi(tmp_path, scheme(0, None) + scheme(500, None) + scheme(0, None) + scheme(500, None), at)
    assert ixr.open_series(tmp_path).dims[:2] == ("time", "b")
