"""Ways to tell time: PET frames, temporal positions, clocks of several zones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import OrderError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import clock, frame_values, write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydicom import Dataset


def test_pet_frames(tmp_path: Path) -> None:
    """FrameReferenceTime is in ms, and the only element that tells frames of some PET scanners apart."""
    write_series(tmp_path, per_time={"FrameReferenceTime": [5000.0, 17500.0, 40000.0]}, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.dims[0] == "time"
    assert image.time.values.tolist() == [0, 12.5, 35]
    assert image.time.attrs == {"units": "s", "element": "FrameReferenceTime"}


def test_temporal_positions_with_their_distance(tmp_path: Path) -> None:
    tags = {"TemporalResolution": 2500.0, "NumberOfTemporalPositions": 3}
    write_series(tmp_path, per_time={"TemporalPositionIdentifier": [1, 2, 3]}, tags=tags, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.time.values.tolist() == [0, 2.5, 5]
    assert image.time.attrs["units"] == "s"


def test_temporal_positions_alone_are_numbers(tmp_path: Path) -> None:
    """RepetitionTime is no distance of volumes, and is not taken for one."""
    write_series(tmp_path, per_time={"TemporalPositionIdentifier": [1, 2, 3]}, tags={"RepetitionTime": 2000}, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.time.values.tolist() == [0, 1, 2]
    assert "units" not in image.time.attrs


def test_clock_put_back_in_between(tmp_path: Path) -> None:
    """At the end of summer time the clock goes back an hour; TimezoneOffsetFromUTC says so."""

    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.TimezoneOffsetFromUTC = "+0200" if t < 2 else "+0100"
        ds.AcquisitionTime = clock(3 * 3600 - 10 + 5 * t - 3600 * (t >= 2))

    write_series(tmp_path, times=4, slices=2, mutate=fill)
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 5, 10, 15]
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_moments_in_several_zones(tmp_path: Path) -> None:
    stamps = ["20260102120000+0100", "20260102110005+0000", "20260102130010+0200"]
    write_series(tmp_path, per_time={"AcquisitionDateTime": stamps}, slices=2)
    assert ixr.open_series(tmp_path, "time").time.values.tolist() == [0, 5, 10]


def test_moments_some_of_which_name_their_zone(tmp_path: Path) -> None:
    stamps = ["20260102120000+0100", "20260102120005"]
    zone = {"TimezoneOffsetFromUTC": "+0100"}
    write_series(tmp_path / "told", per_time={"AcquisitionDateTime": stamps}, slices=2, tags=zone)
    assert ixr.open_series(tmp_path / "told", "time").time.values.tolist() == [0, 5]
    write_series(tmp_path / "untold", per_time={"AcquisitionDateTime": stamps}, slices=2)
    with pytest.raises(OrderError, match="no order sorts"):
        ixr.open_series(tmp_path / "untold")


# --- cines whose slices are acquired by themselves


def beats(trigger: Callable[[int, int], float]) -> Callable[[Dataset, int, int], None]:
    """Return what makes slices of breath-holds of their own, with the delay [ms] of each frame after the R wave."""

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(36000 + 60 * z)
        ds.TriggerTime = trigger(t, z)

    return fill


def test_cine_with_heart_beats_of_different_length(tmp_path: Path) -> None:
    """Phases of slices overlap; they are told slice by slice, and each keeps the delay that it has."""
    write_series(tmp_path / "in", times=6, slices=4, mutate=beats(lambda t, z: 5 + t * (40 + 5 * z)))
    image = ixr.open_series(tmp_path / "in", "triggertime")
    assert image.values[..., 0, 0].tolist() == [[t] * 4 for t in range(6)]
    np.testing.assert_allclose(image.triggertime, 0.005 + 0.04 * np.arange(6), err_msg="that of the fastest heart")
    assert image.TriggerTime.dims == ("triggertime", "slice")
    ixr.write(image * 2, tmp_path / "out")
    again = ixr.open_series(tmp_path / "out", "triggertime")
    np.testing.assert_array_equal(again, image * 2)
    np.testing.assert_array_equal(again.TriggerTime, image.TriggerTime)
    for order in ("auto", "time"):
        with pytest.raises(OrderError, match="Use order='triggertime'"):
            ixr.open_series(tmp_path / "in", order)


@pytest.mark.parametrize(
    ("trigger", "lacks"),
    [
        (lambda t, z: t * (40 + 15 * z), [(2, 0), (3, 1)]),
        (lambda t, z: t * (40 + 15 * z), [(0, 0), (5, 1)]),
        (lambda t, z: t * (40 + 40 * z), []),
        (lambda t, z: t * 40 + 130 * z, []),
    ],
    ids=["frames in the middle lack", "the first lacks", "every other frame may lack", "slices begin apart"],
)
def test_phases_that_are_in_doubt(
    tmp_path: Path, trigger: Callable[[int, int], float], lacks: list[tuple[int, int]]
) -> None:
    def fill(ds: Dataset, t: int, z: int) -> None:
        beats(trigger)(ds, t, z)
        ds.skip = (t, z) in lacks

    write_series(tmp_path, times=6, slices=2, mutate=fill)
    with pytest.raises(OrderError, match=r"TriggerTime does not separate the volumes"):
        ixr.open_series(tmp_path, "triggertime")


def test_phases_in_doubt_have_another_order(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, z: int) -> None:
        beats(lambda t, z: t * (40 + 40 * z))(ds, t, z)
        if ds.SeriesNumber == 2:
            ds.ImageComments = f"phase {t}"

    write_series(tmp_path / "a", times=6, slices=2, mutate=fill)
    with pytest.raises(OrderError, match="with a function of the header, order="):
        ixr.open_series(tmp_path / "a", "triggertime")
    order = {"phase": lambda header: (header.InstanceNumber - 1) // 2}
    assert ixr.open_series(tmp_path / "a", order).sizes["phase"] == 6
    write_series(tmp_path / "b", times=6, slices=2, number=2, mutate=fill)
    with pytest.raises(OrderError, match="Use order='ImageComments'"):
        ixr.open_series(tmp_path / "b", "triggertime")


def test_number_of_phases_that_the_header_tells(tmp_path: Path) -> None:
    tags = {"CardiacNumberOfImages": 7}
    write_series(tmp_path, times=6, slices=3, tags=tags, mutate=beats(lambda t, z: t * (40 + 5 * z)))
    with pytest.raises(OrderError, match="overlap"):
        ixr.open_series(tmp_path, "triggertime")


@pytest.mark.parametrize("has_positions", [False, True])
def test_auto_takes_trigger_times_of_an_enhanced_cine(tmp_path: Path, *, has_positions: bool) -> None:
    """Also where TemporalPositionIndex counts the phases: a number is no time."""

    def group(item: Dataset, t: int, z: int) -> None:
        item.FrameContentSequence[0].FrameAcquisitionDateTime = f"20260102{clock(36_000 + z)}"
        if not has_positions:
            del item.FrameContentSequence[0].TemporalPositionIndex
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=40.0 * t)

    file = write_enhanced(tmp_path / "f", times=3, group=group)
    image = ixr.open_series(file)
    assert image.triggertime.values.tolist() == [0, 0.04, 0.08]
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert image.identical(ixr.open_series(file, "triggertime"))


def test_auto_keeps_the_times_of_a_series_that_has_trigger_times_too(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, _z: int) -> None:
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=40.0 * t)

    assert ixr.open_series(write_enhanced(tmp_path / "f", times=3, group=group)).time.values.tolist() == [0, 2.5, 5]


def test_auto_does_not_count_phases_of_an_enhanced_cine(tmp_path: Path) -> None:
    """Hearts that beat at different rates: whoever names the dim has them counted."""

    def group(item: Dataset, t: int, z: int) -> None:
        del item.FrameContentSequence
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=t * (40.0 + 5 * z))

    file = write_enhanced(tmp_path / "f", times=6, slices=3, group=group)
    with pytest.raises(OrderError, match="Use order='triggertime'"):
        ixr.open_series(file)
    assert ixr.open_series(file, "triggertime").sizes["triggertime"] == 6


def test_clock_of_whole_seconds(tmp_path: Path) -> None:
    """Slices of a volume share seconds, and not the same ones in each volume; they are still taken in one order."""
    seconds = [[7, 6, 6, 5, 5, 4], [137, 137, 136, 136, 135, 134]]

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = clock(36_000 + seconds[t][z])

    write_series(tmp_path, times=2, slices=6, mutate=fill)
    image = ixr.open_series(tmp_path)
    assert image.dims[0] == "time"
    assert image.values[:, 2, 0, 0].tolist() == [frame_values(t, 2, 8, 6)[0, 0] for t in (0, 1)]


def test_slices_in_another_order_are_told(tmp_path: Path) -> None:
    seconds = [[1, 2, 3], [11, 13, 12]]

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = ds.ContentTime = clock(36_000 + seconds[t][z])

    write_series(tmp_path, times=2, slices=3, mutate=fill)
    with pytest.raises(OrderError, match="AcquisitionTime does not separate the volumes: they overlap, or take"):
        ixr.open_series(tmp_path, "time")


def test_time_of_several_echoes_says_the_order(shared_data: Path) -> None:
    """Time tells them apart only beside the echo time."""
    with pytest.raises(OrderError, match=r"does not tell the frames apart.*\nUse order='time,te'$"):
        ixr.open_series(shared_data / "si_te_time_5d" / "dicom", "time")


def test_a_date_that_one_volume_lacks(tmp_path: Path) -> None:
    """Its time of day alone would put it before all others, by half a century."""

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        if t == 1:
            ds.AcquisitionDate = ""

    write_series(tmp_path / "in", times=3, slices=2, mutate=mutate)
    image = ixr.open_series(tmp_path / "in")
    assert image.time.values.tolist() == [0, 2.5, 5]
    assert image.time.attrs["element"] == "ContentDate + ContentTime"
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2]

    def alone(ds: Dataset, t: int, z: int) -> None:
        mutate(ds, t, z)
        del ds.ContentTime

    write_series(tmp_path / "alone", times=3, slices=2, mutate=alone)
    with pytest.raises(OrderError, match=r"no order sorts[\s\S]*AcquisitionDate \(2 values\)"):
        ixr.open_series(tmp_path / "alone")


def write_sweeps(path: Path, sweeps: Sequence[Sequence[int]], **tags: object) -> None:
    """Write volumes whose slices are taken in these orders, a slice in 0.5 s and a sweep in 3 s."""

    def shuttle(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionNumber = t + 1
        ds.AcquisitionTime = ds.ContentTime = clock(36_000 + 3 * t + 0.5 * sweeps[t].index(z))

    write_series(path, times=len(sweeps), slices=4, sop_class=CTImageStorage, mutate=shuttle, tags=tags)


UP, DOWN, BLOCKS = (0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)


@pytest.mark.parametrize("order", ["auto", "time"])
@pytest.mark.parametrize("first", [UP, DOWN, BLOCKS])
def test_a_table_that_shuttles(tmp_path: Path, order: str, first: Sequence[int]) -> None:
    """CT of a wide range goes to and fro; a volume is a sweep, and none is taken for another."""
    write_sweeps(tmp_path, [first, first[::-1], first, first[::-1]])
    found = ixr.open_series(tmp_path, order)
    assert found.time.values.tolist() == [0, 3, 6, 9]
    assert found.time.attrs["units"] == "s"
    assert (found.values[:, :, 0, 0] == np.arange(4)[:, None]).all()


@pytest.mark.parametrize(
    "sweeps", [[UP, DOWN], [UP, DOWN, DOWN], [UP, UP, DOWN], [UP, (2, 3, 0, 1), UP], [UP, DOWN, BLOCKS, DOWN]]
)
def test_sweeps_in_other_orders_say_what_is_lost(tmp_path: Path, sweeps: Sequence[Sequence[int]]) -> None:
    """They are told by their number alone, which is not as much as their times."""
    write_sweeps(tmp_path, sweeps)
    with pytest.raises(OrderError):
        ixr.open_series(tmp_path)
    said = r"AcquisitionDate \+ AcquisitionTime tells times, but .* those of AcquisitionNumber, whose .* no seconds"
    with pytest.warns(UserWarning, match=said):
        found = ixr.open_series(tmp_path, "time")
    assert "units" not in found.time.attrs
    assert (found.values[:, :, 0, 0] == np.arange(len(sweeps))[:, None]).all()


@pytest.mark.parametrize("order", ["auto", "time"])
def test_times_at_which_pixels_were_made_are_told_as_such(tmp_path: Path, order: str) -> None:
    """Two slabs of a perfusion, one a minute after the other, that were reconstructed together."""

    def slabs(ds: Dataset, t: int, z: int) -> None:
        ds.AcquisitionTime = clock(36_000 + t + 60 * (z // 2))

    write_series(tmp_path, times=3, sop_class=CTImageStorage, mutate=slabs)
    said = (
        r"AcquisitionDate \+ AcquisitionTime tells times, but .* of ContentDate \+ ContentTime, when pixels were made"
    )
    with pytest.warns(UserWarning, match=said):
        assert ixr.open_series(tmp_path, order).time.values.tolist() == [0, 2.5, 5]


def test_a_shuttle_that_was_cut_in_the_middle_of_sweeps_is_no_whole_one(tmp_path: Path) -> None:
    """All slices have as many frames, and each volume ends before the next; but they are halves of two sweeps each."""
    write_sweeps(tmp_path, [UP, DOWN, UP, DOWN])
    for path in tmp_path.iterdir():
        ds = dcmread(path)
        sweep, upper = ds.AcquisitionNumber, ds.ImagePositionPatient[2] > 35
        if (sweep == 1 and upper) or (sweep == 4 and not upper):
            path.unlink()
    with pytest.raises(OrderError):
        ixr.open_series(tmp_path)
