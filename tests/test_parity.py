"""What readers of DICOM series are known to get wrong, and where it is shown right here.

Each line names a fault and the test that shows its absence; those of this module have no file before their name.

| fault | test |
|---|---|
| misspelt options are ignored | test_api.py::test_unknown_keyword_is_a_type_error |
| the caller's options are changed | test_options_of_the_caller_stay_as_they_are |
| nonsense URLs are taken for hosts | test_api.py::test_open_on_http_or_nonsense |
| a list of folders is not found | test_api.py::test_list_of_folders_is_one_heap |
| another reader steps in silently, without header | test_every_kind_keeps_its_header |
| what cannot be decoded comes as something else | dicom/test_stored.py::test_undecodable_syntaxes_are_named |
| a truncated file makes all unreadable | test_truncated_file_is_named_and_can_be_left_out |
| time across midnight permutes volumes | test_volumes_across_midnight_whatever_their_names |
| times of slices stop the reading | dicom/test_sort.py::test_times_of_slices |
| trigger time can be read, not written | test_trigger_time_is_written |
| b of some vendors is not found (Siemens) | dicom/test_vendors.py::test_siemens |
| ... (Siemens CSA) | dicom/test_vendors.py::test_siemens_csa |
| ... (Philips) | dicom/test_vendors.py::test_philips |
| ... (United Imaging) | dicom/test_vendors.py::test_united_imaging |
| ... (Canon, Toshiba) | dicom/test_vendors.py::test_canon_comments |
| the 1e9 in GE's b stays in | dicom/test_vendors.py::test_ge_offset |
| gradient directions alone do not sort | dicom/test_orders_diffusion.py::test_directions_by_number |
| labels of diffusion volumes are tuples | dicom/test_orders_diffusion.py::test_volumes_by_number |
| absent cells of b and direction are zeros | test_absent_cells_of_b_and_direction_do_not_bias_the_mean |
| orders that are documented do not exist | test_orders_that_do_not_exist_are_named |
| two varying elements are not sorted unasked | test_flip_angle_and_echo_time_vary |
| a function as order cannot be written | test_order_by_function_is_written_and_opens_again |
| orders as a tuple are not understood | test_orders_in_a_tuple |
| a slice that is there twice stops all options | test_one_slice_twice |
| an aborted scan cannot be opened | test_aborted_scan |
| jitter of 1e-6 mm makes other slices | dicom/test_sort.py::test_positions_that_jitter |
| slices without position cannot be opened | dicom/test_series.py::test_frames_without_a_place |
| unequal gaps are refused, or made equal | test_unequal_gaps_are_told |
| noise of 1e-3 in directions crashes | test_noise_in_directions |
| a localizer of three planes is one stack | dicom/test_stacks.py::test_localizer_of_three_directions |
| a tilted gantry is refused | test_gantry_tilt |
| headers alone are read, pixels never | dicom/test_frames.py::test_opening_does_not_read_pixels |
| whole numbers become float64 | test_ct_stays_whole_numbers |
| other types than 16 bits are lost | dicom/test_frames.py::test_types_that_hold_the_values |
| the rescale of the first slice cuts the others off | test_rescale_of_later_slices_is_not_cut_off |
| modality tables are not applied | dicom/test_stored.py::test_lookup_table_gives_the_values |
| palettes give their indices | dicom/test_colour.py::test_palette |
| overlays are not to be had | test_overlays.py::test_overlays_lie_where_they_say |
| YBR loses its header | dicom/test_colour.py::test_native_ybr |
| RGB of 16 bits cannot be read | dicom/test_colour.py::test_rgb |
| order of enhanced files | dicom/test_multiframe.py::test_shuffled_frames_have_the_places_and_values_of_classic_ones |
| mosaics are one big slice | dicom/test_mosaic.py::test_slices_are_at_their_places |
| a segmentation of one frame is empty | test_segmentation_of_one_frame |
| segments have another image's place | dicom/test_multiframe.py::test_segments_are_a_dim_and_empty_frames_background |
| implicit syntax only is written | dicom/test_write.py::test_other_transfer_syntaxes_become_explicit_little_endian |
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    JPEGLSNearLossless,
    RTDoseStorage,
    SegmentationStorage,
)

import imagedata_xr as ixr
from imagedata_xr.errors import DuplicateFramesError, MissingFramesError, OrderError, UnreadableFileError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import AXIAL, clock, write_series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

TESTS = Path(__file__).parent


def test_each_line_of_the_table_names_a_test() -> None:
    lines = re.findall(r"^\| (?!fault|-).* \| (.*) \|$", __doc__ or "", flags=re.MULTILINE)
    assert len(lines) > 40
    for line in lines:
        file, _, name = line.rpartition("::")
        text = (TESTS / (file or "test_parity.py")).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text, line


def test_options_of_the_caller_stay_as_they_are(tmp_path: Path) -> None:
    source = [write_series(tmp_path, per_time={"EchoTime": [5, 10]}, slices=2)[0].parent]
    order, chunks = [{"echo": "EchoTime"}], {"slice": 1}
    before = copy.deepcopy((source, order, chunks))
    image = ixr.open_series(source, order, chunks=chunks)
    ixr.write(image, tmp_path / "out")
    assert (source, order, chunks) == before


@pytest.mark.parametrize("sop_class", [EnhancedMRImageStorage, RTDoseStorage])
def test_every_kind_keeps_its_header(tmp_path: Path, sop_class: UID) -> None:
    """What one reader does not know no other one reads without its patient and place."""

    def dose(ds: Dataset) -> None:
        if sop_class == RTDoseStorage:
            del ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence
            ds.Modality, ds.DoseGridScaling, ds.GridFrameOffsetVector = "RTDOSE", 0.5, [0, 3, 6, 9]
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -20, 30], list(AXIAL)
            ds.PixelSpacing = [1.5, 2]

    write_enhanced(tmp_path / "one" / "f", mutate=dose, sop_class=sop_class)
    write_series(tmp_path / "big", transfer_syntax=ExplicitVRBigEndian)
    write_series(tmp_path / "near", transfer_syntax=JPEGLSNearLossless)
    for folder in ("one", "big", "near"):
        image = ixr.open_series(tmp_path / folder)
        assert image.attrs["PatientID"] == "P1"
        assert image.dicom.affine[:3, 3] == pytest.approx([-10, -20, 30])
        assert image.slice.diff("slice").values == pytest.approx([3, 3, 3])


def test_truncated_file_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3)
    files[2].write_bytes(files[2].read_bytes()[:-20])
    with pytest.raises(UnreadableFileError, match=f"{files[2].name} is cut short"):
        ixr.open_series(tmp_path)
    with pytest.warns(UserWarning, match=f"left out: .*{files[2].name}"):
        image = ixr.open_series(tmp_path, errors="warn")
    assert image.values[:, 0, 1].tolist() == [0, 1]


def test_volumes_across_midnight_whatever_their_names(tmp_path: Path) -> None:
    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.AcquisitionDate = ds.ContentDate = "20260102" if t < 2 else "20260103"
        ds.AcquisitionTime = ds.ContentTime = clock(86_390 + 5 * t)

    files = write_series(tmp_path, times=4, slices=2, mutate=mutate)
    for number, file in enumerate(files):
        file.rename(tmp_path / f"{number * 5 % 8}")
    image = ixr.open_series(tmp_path)
    assert image.time.values.tolist() == [0, 5, 10, 15]
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_trigger_time_is_written(tmp_path: Path) -> None:
    write_series(tmp_path / "in", per_time={"TriggerTime": [0, 30, 60]}, slices=2)
    image = ixr.open_series(tmp_path / "in", "triggertime")
    for number, changed in enumerate((image, image.assign_coords(triggertime=image.triggertime + 0.5))):
        ixr.write(changed, tmp_path / f"out{number}")
        again = ixr.open_series(tmp_path / f"out{number}", "triggertime")
        assert again.triggertime.values == pytest.approx(changed.triggertime.values)
        np.testing.assert_array_equal(again, image)


def test_absent_cells_of_b_and_direction_do_not_bias_the_mean(tmp_path: Path) -> None:
    vectors = [None, [1, 0, 0], [0, 1, 0], [1, 0, 0]]

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        if vectors[t] is not None:
            ds.DiffusionGradientOrientation = vectors[t]

    write_series(
        tmp_path, per_time={"DiffusionBValue": [0.0, 500.0, 500.0, 1000.0]}, slices=2, mutate=mutate,
        values=lambda t, _z: np.full((8, 6), 10 * (t + 1)),
    )  # fmt: skip
    image = ixr.open_series(tmp_path, "b,bvector")
    there = image.present.all("slice")
    assert there.sum("bvector").values.tolist() == [1, 2, 1]
    mean = image.where(image.present).mean(["bvector", "slice", "row", "col"])
    assert mean.values.tolist() == [10, 25, 40]


@pytest.mark.parametrize("order", ["rsi", "faulty", "text"])
def test_orders_that_do_not_exist_are_named(tmp_path: Path, order: str) -> None:
    write_series(tmp_path, times=2, slices=2)
    with pytest.raises(OrderError, match=order):
        ixr.open_series(tmp_path, order)


def test_flip_angle_and_echo_time_vary(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"FlipAngle": [2, 2, 15, 15], "EchoTime": [5, 10, 5, 10]}, slices=2)
    image = ixr.open_series(tmp_path)
    assert set(image.dims) == {"fa", "te", "slice", "row", "col"}
    for t, (fa, te) in enumerate([(2, 5), (2, 10), (15, 5), (15, 10)]):
        assert image.sel(fa=fa, te=te).values[:, 0, 0].tolist() == [t, t]


def test_order_by_function_is_written_and_opens_again(tmp_path: Path) -> None:
    write_series(tmp_path / "in", per_time={"InversionTime": [900, 50, 300]}, slices=2)
    image = ixr.open_series(tmp_path / "in", {"ti": lambda ds: ds.InversionTime})
    ixr.write(image, tmp_path / "out")
    again = ixr.open_series(tmp_path / "out", {"ti": "InversionTime"})
    assert again.ti.values.tolist() == image.ti.values.tolist() == [50, 300, 900]
    np.testing.assert_array_equal(again, image)
    ixr.write(image * 2, tmp_path / "twice")
    assert ixr.open_series(tmp_path / "twice", {"ti": "InversionTime"}).ti.values.tolist() == [50, 300, 900]


def test_orders_in_a_tuple(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"FlipAngle": [2, 2, 15, 15], "EchoTime": [5, 10, 5, 10]}, slices=2)
    assert ixr.open_series(tmp_path, ("te", "fa")).dims[:2] == ("te", "fa")
    assert ixr.open_series(tmp_path, "fa,te").dims[:2] == ("fa", "te")


def test_one_slice_twice(tmp_path: Path) -> None:
    def again(ds: Dataset, t: int, z: int) -> None:
        if t:
            ds.skip, ds.ImageComments = z != 1, "again"

    write_series(tmp_path, times=[0, 0], slices=3, mutate=again)
    with pytest.raises((DuplicateFramesError, OrderError), match=r"slice 1"):
        ixr.open_series(tmp_path, "none")
    assert ixr.open_series(tmp_path, "none", duplicates="first").values[:, 0, 0].tolist() == [0, 0, 0]
    assert ixr.open_series(tmp_path, "none", duplicates="last").values[:, 0, 0].tolist() == [0, 1, 0]


def test_aborted_scan(tmp_path: Path) -> None:
    write_series(tmp_path, times=3, slices=4, mutate=lambda ds, t, z: setattr(ds, "skip", t == 2 and z > 1))
    with pytest.raises(MissingFramesError, match="2 of 12 frames"):
        ixr.open_series(tmp_path, "time")
    image = ixr.open_series(tmp_path, "time", missing="fill")
    assert image.present.values.sum(axis=1).tolist() == [4, 4, 2]
    assert image.values[:, 1, 0, 0].tolist() == [0, 1, 2]
    assert np.isnan(image.values[2, 2:]).all()


@pytest.mark.parametrize("gaps", [(5, 2), (2, 3)], ids=["0, 5, 7", "0, 2, 5"])
def test_unequal_gaps_are_told(tmp_path: Path, gaps: tuple[float, float]) -> None:
    write_series(tmp_path, slices=3, gaps=gaps)
    image = ixr.open_series(tmp_path)
    assert image.slice.diff("slice").values == pytest.approx(gaps)
    with pytest.raises(ValueError, match="even"):
        _ = image.dicom.affine


def test_noise_in_directions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        noise = rng.uniform(-1, 1, 2) * 1e-3
        ds.ImageOrientationPatient = [f"{x:.9f}" for x in (1, noise[0], 0, -noise[0], 1, noise[1])]

    write_series(tmp_path, slices=5, mutate=mutate)
    image = ixr.open_series(tmp_path)
    assert image.values[:, 0, 1].tolist() == [0, 1, 2, 3, 4]
    assert image.slice.diff("slice").values == pytest.approx([3] * 4, abs=1e-4)


def test_gantry_tilt(tmp_path: Path) -> None:
    tilt = np.tan(np.radians(18))
    tags = {"GantryDetectorTilt": 18}
    write_series(tmp_path, shear=(tilt, 0), sop_class=CTImageStorage, tags=tags)
    image = ixr.open_series(tmp_path)
    assert image.dicom.affine[:3, 0] == pytest.approx([0, 3 * tilt, 3], abs=1e-6)


def test_ct_stays_whole_numbers(tmp_path: Path) -> None:
    write_series(tmp_path, sop_class=CTImageStorage, rescale=(1, -1024))
    image = ixr.open_series(tmp_path)
    assert image.dtype == np.int16
    assert image.values[1, 0, 1] == 1 - 1024


def test_rescale_of_later_slices_is_not_cut_off(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = (1, 0) if z == 0 else (2.5, 0)

    write_series(tmp_path, slices=3, mutate=mutate)
    assert ixr.open_series(tmp_path).values[:, 0, 1].tolist() == [0, 2.5, 5]


def test_segmentation_of_one_frame(tmp_path: Path) -> None:
    mask = np.arange(48).reshape(8, 6) % 3 == 0

    def mutate(ds: Dataset) -> None:
        ds.Modality, ds.SegmentationType = "SEG", "BINARY"
        ds.SegmentSequence = macro(SegmentNumber=1, SegmentLabel="liver")
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
        ds.PixelData = np.packbits(mask.ravel(), bitorder="little").tobytes()
        ds["PixelData"].VR = "OB"

    def group(item: Dataset, _t: int, _z: int) -> None:
        item.SegmentIdentificationSequence = macro(ReferencedSegmentNumber=1)
        del item.FrameContentSequence[0].FrameAcquisitionDateTime

    file = write_enhanced(tmp_path / "f", slices=1, group=group, mutate=mutate, sop_class=SegmentationStorage)
    image = ixr.open_series(file)
    np.testing.assert_array_equal(image.squeeze(), mask)
    assert image.dicom.header(**dict.fromkeys(image.dims[:-2], 0)).SegmentSequence[0].SegmentLabel == "liver"
