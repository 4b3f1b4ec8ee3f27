"""Which volume of a template each volume of an image is: the right one, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import GeometryError, PairingError
from imagedata_xr.templates import copy_geometry, copy_headers
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def dwi(shared_data: Path) -> xr.DataArray:
    return ixr.open_series(shared_data / "ph_enh_dwi" / "dicom", "dti").load()


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    folder = tmp_path_factory.mktemp("pairing")
    write_series(folder / "series", times=6, slices=2, rows=4, cols=3)
    return ixr.open_series(folder / "series", "time").load()


def write_as_others(image: xr.DataArray, path: Path, volumes: list[int]) -> None:
    """Write chosen volumes with tables of gradients but without a sidecar, as other programs do."""
    ixr.write(image, path)
    file = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(file.dataobj)[..., volumes], file.affine, file.header), path)
    path.with_suffix(".json").unlink()
    for suffix in (".bval", ".bvec"):
        table = path.with_suffix(suffix)
        if table.exists():
            np.savetxt(table, np.atleast_2d(np.loadtxt(table))[:, volumes], fmt="%.6g")


def assert_same_volumes(image: xr.DataArray, template: xr.DataArray, volumes: list[int]) -> None:
    wanted = template.isel({template.dims[0]: volumes})
    assert image.dims == template.dims
    assert np.array_equal(image.values, wanted.values)
    for name in ("b", "bx", "by", "bz", "time", "SOPInstanceUID", str(template.dims[0])):
        if name in wanted.coords:
            xr.testing.assert_equal(image.coords[name].variable, wanted.coords[name].variable)


@pytest.mark.parametrize("volumes", [[1, 2, 3, 0], [0, 1, 2, 3], [3, 1]])
def test_diffusion_volumes_pair_by_what_their_tables_tell(
    dwi: xr.DataArray, tmp_path: Path, volumes: list[int]
) -> None:
    # dcm2niix puts b = 0 of Philips last.
    write_as_others(dwi, tmp_path / "a.nii", volumes)
    found = ixr.open_series(tmp_path / "a.nii", template=dwi)
    assert_same_volumes(found, dwi, volumes)
    some = ixr.open_series(tmp_path / "a.nii").isel(dti=slice(1, None))
    assert_same_volumes(copy_headers(some, dwi), dwi, volumes[1:])
    if len(volumes) == 4:
        placed = ixr.open_series(tmp_path / "a.nii", template=dwi, geometry=dwi)
        assert_same_volumes(placed, dwi, volumes)


def test_what_is_written_of_them_has_their_b_values(dwi: xr.DataArray, tmp_path: Path) -> None:
    small = dwi.isel(slice=slice(0, 1))
    write_as_others(small, tmp_path / "a.nii", [1, 2, 3, 0])
    ixr.open_series(tmp_path / "a.nii", template=small).dicom.write(tmp_path / "out")
    written = ixr.open_series(tmp_path / "out", "dti")
    for n in range(4):
        same = int(np.abs(small.values - written.values[n]).mean(axis=(1, 2, 3)).argmin())
        assert written.b.values[n] == small.b.values[same]
        assert np.allclose(written.bx.values[n], small.bx.values[same], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ["ph_enh_dwi", "si_dwi_rsi"])
def test_a_template_of_writing_pairs_as_when_headers_are_copied(shared_data: Path, tmp_path: Path, name: str) -> None:
    template = ixr.open_series(shared_data / name / "dicom", "dti").isel(slice=slice(0, 2)).load()
    count = template.sizes["dti"]
    volumes = [*range(1, count), 0]
    write_as_others(template, tmp_path / "a.nii", volumes)
    image = ixr.open_series(tmp_path / "a.nii")
    image.dicom.write(tmp_path / "out", template=template)
    copy_headers(image, template).dicom.write(tmp_path / "copied")
    told = ("DiffusionBValue", "DiffusionGradientOrientation", "SequenceName", "AcquisitionTime", "ContentTime")
    files, copied = (sorted((tmp_path / folder).iterdir()) for folder in ("out", "copied"))
    for one, other in zip(files, copied, strict=True):
        ds, wanted = pydicom.dcmread(one), pydicom.dcmread(other)
        for keyword in told[2:]:
            assert ds.get(keyword) == wanted.get(keyword), keyword
        assert ds.DiffusionBValue == wanted.DiffusionBValue
        assert np.array_equal(ds.pixel_array, wanted.pixel_array)
    bare = image.drop_vars(["dti", "b", "bx", "by", "bz"]).assign_coords(dti=volumes)
    files = bare.dicom.write(tmp_path / "labelled", template=template)
    found = [float(pydicom.dcmread(file).DiffusionBValue) for file in files[::2]]
    assert found == [float(template.b[volume]) for volume in volumes]


def test_a_template_of_writing_that_has_other_volumes_is_refused(
    dwi: xr.DataArray, dynamic: xr.DataArray, tmp_path: Path
) -> None:
    image = (dwi * 2).assign_coords(b=("dti", [0.0, 1300.0, 1300.0, 800.0]))
    with pytest.raises(PairingError, match=r"no volume of the template has|volumes \[\d"):
        image.dicom.write(tmp_path / "out", template=dwi)
    later = (dynamic * 2).assign_coords(time=dynamic.time.values + 0.5 * float(dynamic.time[1] - dynamic.time[0]))
    with pytest.raises(PairingError, match="each volume of the image needs one of the template"):
        later.dicom.write(tmp_path / "out", template=dynamic)
    assert not (tmp_path / "out").exists()
    # What was meant is said by labels; and one volume serves all.
    later.dicom.write(tmp_path / "relabelled", template=dynamic.assign_coords(time=later.time))
    later.dicom.write(tmp_path / "one", template=dynamic.isel(time=[2]))


def test_slices_take_their_headers_from_their_place_in_the_template(dynamic: xr.DataArray, tmp_path: Path) -> None:
    template = dynamic.assign_coords(ImageComments=(("time", "slice"), [[f"{t} {s}" for s in "ab"] for t in range(6)]))
    bare = (dynamic * 2).drop_vars([name for name in dynamic.coords if str(name)[:1].isupper() or name == "source"])

    def comments(image: xr.DataArray, name: str) -> list[str]:
        return [
            str(pydicom.dcmread(file).ImageComments) for file in image.dicom.write(tmp_path / name, template=template)
        ]

    assert comments(bare.isel(time=[4], slice=[1, 0]), "flipped") == ["4 b", "4 a"]
    turned = ixr.turning.to_patient_orientation(bare.isel(time=[4]), "FPL")
    assert comments(turned, "turned") == ["4 b", "4 a"]
    assert comments(bare.isel(time=[4], slice=[1]), "one") == ["4 b"]
    step = float(bare.slice[1] - bare.slice[0])
    elsewhere = ixr.positions.index_positions(bare.isel(time=[4]).assign_coords(slice=bare.slice.values + 10 * step))
    assert comments(elsewhere, "elsewhere") == ["4 a", "4 b"]
    shifted = ixr.positions.index_positions(bare.isel(time=[4]).assign_coords(slice=bare.slice.values + step))
    with pytest.raises(GeometryError, match="1 of the image's 2 slices"):
        comments(shifted, "shifted")


def test_diffusion_volumes_without_directions_need_the_order_of_the_template(dwi: xr.DataArray, tmp_path: Path) -> None:
    write_as_others(dwi, tmp_path / "a.nii", [1, 2, 3, 0])
    (tmp_path / "a.bvec").unlink()
    with pytest.raises(PairingError, match=r"volumes \[1, 2, 3\] of the template have b-value .* volume 0"):
        ixr.open_series(tmp_path / "a.nii", template=dwi)
    sorted_like_it = dwi.isel(dti=[1, 2, 3, 0])
    found = ixr.open_series(tmp_path / "a.nii", template=sorted_like_it)
    assert_same_volumes(found, dwi, [1, 2, 3, 0])


def test_diffusion_volumes_of_other_b_values_are_refused(dwi: xr.DataArray) -> None:
    with pytest.raises(PairingError, match="no volume of the template has b-value and direction"):
        copy_headers(dwi.isel(dti=slice(0, 2)) * 2, dwi.isel(dti=slice(2, 4)))
    with pytest.raises(PairingError, match="no volume of the template has"):
        copy_geometry(dwi.isel(dti=slice(0, 2)) * 2, dwi.isel(dti=slice(2, 4)))
    swapped = dwi.isel(dti=[2, 1]).assign_coords(dti=[1, 2])
    with pytest.raises(PairingError, match=r"volumes \[2\] of the template have"):
        copy_headers(swapped, dwi)


@pytest.mark.filterwarnings("ignore:no element tells time")
def test_a_template_that_is_sorted_by_time_tells_b_values_too(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ge_dwi" / "dicom"
    by_time = ixr.open_series(folder, "time").isel(slice=slice(0, 1), time=[0, 1]).load()
    diffusion = ixr.open_series(folder, "dti").isel(slice=slice(0, 1), dti=[0, 1])
    write_as_others(diffusion, tmp_path / "a.nii", [0, 1])
    assert np.isnan(by_time.DiffusionBValue.values[0]), "of b = 0 its scanner does not tell it"
    assert_same_volumes(ixr.open_series(tmp_path / "a.nii", template=by_time), by_time, [0, 1])
    write_as_others(diffusion, tmp_path / "b.nii", [1, 0])
    with pytest.raises(PairingError, match="the template DiffusionBValue"):
        ixr.open_series(tmp_path / "b.nii", template=by_time)
    all_told = by_time.assign_coords(DiffusionBValue=("time", [0.0, 1000.0]))
    assert_same_volumes(ixr.open_series(tmp_path / "b.nii", template=all_told), all_told, [1, 0])


def test_volumes_that_are_alike_pair_by_labels_and_order_only(dwi: xr.DataArray, tmp_path: Path) -> None:
    twice = dwi.isel(dti=[0, 0, 1, 2]).assign_coords(dti=[0, 1, 2, 3])
    assert copy_headers(twice.isel(dti=[0, 1]) * 2, twice).dti.values.tolist() == [0, 1], "labels of a selection"
    write_as_others(twice, tmp_path / "a.nii", [0, 1, 2, 3])
    assert ixr.open_series(tmp_path / "a.nii", template=twice).dti.values.tolist() == [0, 1, 2, 3]
    write_as_others(twice, tmp_path / "b.nii", [0, 2])
    with pytest.raises(PairingError, match=r"volumes \[0, 1\] of the template"):
        ixr.open_series(tmp_path / "b.nii", template=twice)


def test_swapped_b_values_are_paired(shared_data: Path, tmp_path: Path) -> None:
    template = ixr.open_series(shared_data / "ge_dwi_real" / "dicom", "b")
    write_as_others(template, tmp_path / "a.nii", [1, 0])
    assert_same_volumes(ixr.open_series(tmp_path / "a.nii", template=template), template, [1, 0])


@pytest.mark.parametrize("volumes", [slice(3, None), slice(None, None, 2), slice(0, 3)])
def test_times_by_the_step_of_a_file_do_not_tell_which_part_it_is(
    dynamic: xr.DataArray, tmp_path: Path, volumes: slice
) -> None:
    ixr.write(dynamic, tmp_path / "whole.nii")
    nib.save(nib.load(tmp_path / "whole.nii").slicer[..., volumes], tmp_path / "part.nii")
    with pytest.raises(PairingError, match=r"the image has time .* counted from the first volume .* template\.isel"):
        ixr.open_series(tmp_path / "part.nii", template=dynamic)
    # Nor does what is stored of it.
    part = ixr.open_series(tmp_path / "part.nii") * 2
    for name in ("b.nii", "b.mha", "b.nc"):
        ixr.write(part, tmp_path / name)
        with pytest.raises(PairingError, match="counted from the first volume"):
            ixr.open_series(tmp_path / name, template=dynamic)
    if volumes.step is None:
        found = ixr.open_series(tmp_path / "part.nii", template=dynamic.isel(time=volumes))
        assert_same_volumes(found, dynamic, list(range(6))[volumes])
    else:
        with pytest.raises(PairingError, match="order='volume'"):
            ixr.open_series(tmp_path / "part.nii", template=dynamic.isel(time=volumes))
        found = ixr.open_series(tmp_path / "part.nii", "volume", template=dynamic.isel(time=volumes))
        assert_same_volumes(found, dynamic, list(range(6))[volumes])


def test_numbers_that_a_reader_made_up_do_not_tell_it_either(dwi: xr.DataArray, tmp_path: Path) -> None:
    write_as_others(dwi, tmp_path / "a.nii", [2, 3])
    for table in ("a.bval", "a.bvec"):
        (tmp_path / table).unlink()
    with pytest.raises(PairingError, match="no labels tell which correspond"):
        ixr.open_series(tmp_path / "a.nii", "dti", template=dwi)


@pytest.mark.parametrize("volumes", [[5, 4, 3, 2, 1, 0], [1, 0, 2, 3, 4, 5], [0, 2]])
def test_numbers_of_volumes_that_were_sorted_or_selected_are_not_taken_for_their_order(
    dynamic: xr.DataArray, tmp_path: Path, volumes: list[int]
) -> None:
    ixr.write(dynamic, tmp_path / "a.nii")
    (tmp_path / "a.json").unlink()
    image = ixr.open_series(tmp_path / "a.nii", "volume")
    assert_same_volumes(image.dicom.copy_headers(dynamic), dynamic, list(range(6)))
    chosen = image.isel(volume=volumes)
    with pytest.raises(PairingError, match=rf"numbered .*{volumes[0]}.*drop the numbers"):
        chosen.dicom.copy_headers(dynamic.isel(time=slice(len(volumes))))
    found = chosen.drop_vars("volume").dicom.copy_headers(dynamic.isel(time=volumes))
    assert_same_volumes(found, dynamic, volumes)
