"""``order="auto"``: any cube of what varies is found without being told, and what is none is refused with a table."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import MissingFramesError, OrderError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

LABELS: dict[str, list[Any]] = {
    "time": [0.0, 10.0, 20.0],
    "te": [5.0, 10.0, 15.0],
    "fa": [2.0, 15.0],
    "b": [0.0, 500.0],
    "image_type": ["M", "P"],
    "InversionTime": [100.0, 200.0],
}
KEYWORDS = {"te": "EchoTime", "fa": "FlipAngle", "b": "DiffusionBValue", "InversionTime": "InversionTime"}


def write_cube(path: Path, dims: tuple[str, ...], slices: int = 2, seed: int | None = None) -> list[tuple[Any, ...]]:
    """Write a cube of these dims, time slowest, and return the labels of each volume.

    With a seed, frames get InstanceNumbers in random order.
    """
    volumes = list(itertools.product(*(LABELS[dim] for dim in dims)))
    shuffled = np.arange(len(volumes) * slices)
    if seed is not None:
        np.random.default_rng(seed).shuffle(shuffled)

    def fill(ds: Dataset, t: int, z: int) -> None:
        ds.InstanceNumber = int(shuffled[t * slices + z]) + 1
        for dim, label in zip(dims, volumes[t], strict=True):
            if dim == "image_type":
                ds.ImageType = ["ORIGINAL", "PRIMARY", label, "ND"]
            elif dim != "time":
                setattr(ds, KEYWORDS[dim], label)

    # Echoes and the like are acquired one after the other within a time point.
    times = [labels[dims.index("time")] + 0.01 * k for k, labels in enumerate(volumes)] if "time" in dims else None
    write_series(path, times=times or [0.0] * len(volumes), slices=slices, mutate=fill)
    return volumes


@pytest.mark.parametrize(
    "dims",
    [
        ("time", "te"), ("time", "te", "b"), ("te", "fa", "b"), ("time", "te", "fa"), ("time", "image_type"),
        ("time", "te", "b", "image_type"), ("te", "fa", "b", "image_type", "InversionTime"),
        ("time", "InversionTime", "fa"),
    ],
    ids=",".join,
)  # fmt: skip
def test_cubes(tmp_path: Path, dims: tuple[str, ...]) -> None:
    volumes = write_cube(tmp_path, dims, seed=1)
    image = ixr.open_series(tmp_path)
    assert set(image.dims[:-3]) == set(dims)
    assert image.sizes["slice"] == 2
    for k, labels in enumerate(volumes):
        at = {d: label for d, label in zip(dims, labels, strict=True) if d != "time"}
        if "time" in dims:
            at["time"] = image.time.values[LABELS["time"].index(labels[dims.index("time")])]
        assert (image.sel(at).values[..., 0, 0] == k).all(), labels
    xr.testing.assert_identical(image, ixr.open_series(tmp_path, ",".join(map(str, image.dims[:-3]))))


def test_echo_and_diffusion_volumes(tmp_path: Path) -> None:
    directions = [None, (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)]
    volumes = list(itertools.product([60.0, 90.0], directions))

    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.EchoTime, vector = volumes[t]
        ds.DiffusionBValue = 0.0 if vector is None else 1000.0
        if vector is not None:
            ds.DiffusionGradientOrientation = list(vector)

    write_series(tmp_path, times=len(volumes), slices=2, mutate=fill)
    image = ixr.open_series(tmp_path)
    assert image.dims[:2] == ("te", "dti")
    assert image.values[..., 0, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_coils(tmp_path: Path) -> None:
    """Elements of the second choice: used where time and the like do not tell."""
    write_series(tmp_path, per_time={"ReceiveCoilName": ["C1", "C2", "C3"]}, slices=2)
    image = ixr.open_series(tmp_path)
    assert image.dims[0] == "ReceiveCoilName"
    assert image.ReceiveCoilName.values.tolist() == ["C1", "C2", "C3"]


def test_coils_and_echoes(tmp_path: Path) -> None:
    names: dict[str, list[Any]] = {"ReceiveCoilName": ["C1", "C1", "C2", "C2"], "EchoTime": [5, 10, 5, 10]}
    write_series(tmp_path, per_time=names, slices=2)
    assert ixr.open_series(tmp_path).dims[:2] == ("te", "ReceiveCoilName")


def test_echo_numbers_that_go_with_echo_times(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"EchoNumbers": [1, 2], "EchoTime": [5, 10]}, slices=2)
    assert ixr.open_series(tmp_path).dims[0] == "te"


def test_echo_numbers_alone(tmp_path: Path) -> None:
    """Some scanners write the first echo time in all files."""
    write_series(tmp_path, per_time={"EchoNumbers": [1, 2]}, slices=2)
    assert ixr.open_series(tmp_path).dims[0] == "EchoNumbers"


def test_magnitude_and_phase_told_by_private_elements(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", t)

    write_series(tmp_path, per_time={"EchoTime": [5, 5, 5, 5]}, slices=2, mutate=fill)
    image = ixr.open_series(tmp_path)
    assert image.dims[0] == "image_type"
    assert sorted(image.image_type.values) == ["I", "M", "P", "R"]
    assert image.sel(image_type="P").values[0, 0, 0] == 1


def test_kinds_beside_image_type(tmp_path: Path) -> None:
    """Original and derived images, each magnitude and phase."""
    types = [["ORIGINAL", "PRIMARY", "X"]] * 2 + [["DERIVED", "SECONDARY", "X"]] * 2
    kinds: dict[str, list[Any]] = {"ImageType": types, "ComplexImageComponent": ["MAGNITUDE", "PHASE"] * 2}
    write_series(tmp_path, per_time=kinds, slices=2)
    image = ixr.open_series(tmp_path)
    assert sorted(image.image_type.values) == [
        *("DERIVED_SECONDARY_M", "DERIVED_SECONDARY_P", "ORIGINAL_PRIMARY_M", "ORIGINAL_PRIMARY_P"),
    ]


ENCODINGS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_flow_of_an_enhanced_file(tmp_path: Path) -> None:
    """Velocity encodings of each phase of the heart, and what was computed written and read again."""

    def group(item: Dataset, t: int, _z: int) -> None:
        encoding, phase = divmod(t, 4)
        del item.FrameContentSequence
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=40.0 * phase)
        item.MRVelocityEncodingSequence = macro(VelocityEncodingDirection=ENCODINGS[encoding])

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=12, slices=2, group=group))
    assert image.dims[:2] == ("triggertime", "VelocityEncodingDirection")
    assert image.triggertime.values.tolist() == [0, 0.04, 0.08, 0.12]
    assert image.sel(VelocityEncodingDirection="1.0\\0.0\\0.0").values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    again = ixr.open_series((image * 2).dicom.write(tmp_path / "new"), "triggertime,VelocityEncodingDirection")
    np.testing.assert_array_equal(again, image * 2)


def test_flow_of_several_encoding_velocities(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, _z: int) -> None:
        speed, encoding = 50.0 * (1 + t // 6), t // 2 % 3
        del item.FrameContentSequence
        item.CardiacSynchronizationSequence = macro(NominalCardiacTriggerDelayTime=40.0 * (t % 2))
        item.MRVelocityEncodingSequence = macro(
            VelocityEncodingDirection=ENCODINGS[encoding],
            VelocityEncodingMinimumValue=-speed,
            VelocityEncodingMaximumValue=speed,
        )

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=12, slices=2, group=group))
    assert image.dims[:3] == ("triggertime", "VelocityEncodingDirection", "VelocityEncodingMaximumValue")
    assert image.sel(VelocityEncodingDirection="0.0\\1.0\\0.0").values[1, :, 0, 0, 0].tolist() == [3, 9]


def test_labels_of_arterial_spins(tmp_path: Path) -> None:
    def group(item: Dataset, t: int, z: int) -> None:
        item.FrameContentSequence = macro(StackID="1", InStackPositionNumber=z + 1, TemporalPositionIndex=t // 2 + 1)
        item.MRArterialSpinLabelingSequence = macro(ASLContext=("LABEL", "CONTROL")[t % 2])

    image = ixr.open_series(write_enhanced(tmp_path / "f", times=6, slices=2, group=group))
    assert image.dims[:2] == ("time", "ASLContext")
    assert image.sel(ASLContext="LABEL").values[:, 0, 0, 0].tolist() == [0, 2, 4]


def test_flow_of_files_of_one_image(tmp_path: Path) -> None:
    """SequenceName tells encodings where nothing else does."""

    def fill(ds: Dataset, t: int, _z: int) -> None:
        encoding, phase = divmod(t, 4)
        ds.SequenceName, ds.TriggerTime = f"fl3d1_v150{('in', 'ap', 'rl')[encoding]}", 40.0 * phase

    write_series(tmp_path, times=[0.0] * 12, slices=2, mutate=fill)
    image = ixr.open_series(tmp_path)
    assert image.dims[:2] == ("time", "SequenceName")
    assert image.sel(SequenceName="fl3d1_v150ap").values[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
    assert image.time.attrs["element"] == "TriggerTime"


def test_flow_in_two_ways(tmp_path: Path) -> None:
    """The direction is taken where the name of the sequence tells the same."""
    names = ["fl3d1_v150in", "fl3d1_v150ap", "fl3d1_v150rl"]
    write_series(tmp_path, per_time={"SequenceName": names, "VelocityEncodingDirection": ENCODINGS}, slices=2)
    assert ixr.open_series(tmp_path).dims[0] == "VelocityEncodingDirection"


def test_names_of_sequences_do_not_replace_missing_diffusion_frames(tmp_path: Path) -> None:
    directions = [None, (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)]

    def fill(ds: Dataset, t: int, z: int) -> None:
        vector = directions[t]
        ds.SequenceName, ds.DiffusionBValue = f"ep_b{t}", 1000.0 * (vector is not None)
        if vector is not None:
            ds.DiffusionGradientOrientation = list(vector)
        ds.skip = (t, z) == (2, 1)

    write_series(tmp_path, times=[0.0] * 4, slices=3, mutate=fill)
    with pytest.raises(MissingFramesError):
        ixr.open_series(tmp_path)


def test_table_and_advice(tmp_path: Path) -> None:
    """The error lists what varies, says which counts do not fit, and what to ask for."""
    values = {"ImageComments": ["a", "b", "c", "d"], "ScanOptions": ["X", "X", "X", "Y"], "ProtocolName": list("ppqq")}
    write_series(tmp_path, per_time=values, slices=3, mutate=lambda ds, _t, z: setattr(ds, "WindowWidth", z))
    with pytest.raises(OrderError) as caught:
        ixr.open_series(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("no order sorts these 12 frames of 3 slices into a full grid. Each slice has 4 frames")
    assert "  ProtocolName (2 values): 2 a slice" in lines
    assert "  ImageComments (4 values): 4 a slice" in lines
    assert "order='ImageComments'" in lines[-1]
    assert not any("WindowWidth" in line for line in lines), "it is one value in each slice"
    assert ixr.open_series(tmp_path, "ImageComments").sizes["ImageComments"] == 4


def followed(path: Path, *, fill: bool) -> xr.DataArray:
    """Return the image of the order that the error of "auto" proposes."""
    with pytest.raises(OrderError, match="no order sorts") as caught:
        ixr.open_series(path)
    advice = str(caught.value).splitlines()[-1]
    found = re.match(r"Use order='(.*?)'( with missing='fill')?, ", advice)
    assert found, advice
    assert bool(found[2]) == fill
    return ixr.open_series(path, found[1], missing="fill" if fill else "error")


DIXON = [["ORIGINAL", "PRIMARY", "OTHER"]] * 2 + [["DERIVED", "PRIMARY", "DIXON", kind] for kind in ("WATER", "FAT")]


def test_kinds_of_which_only_one_has_several_echoes(tmp_path: Path) -> None:
    """No order that counts is proposed, such as time by InstanceNumber, where elements tell what the images are."""
    write_series(tmp_path, per_time={"ImageType": DIXON, "EchoTime": [1.1, 2.2, 1.1, 1.1]}, slices=2)
    image = followed(tmp_path, fill=True)
    assert image.dims[:2] == ("te", "image_type")
    assert image.sel(image_type="DERIVED_DIXON_WATER", te=1.1).values[0, 0, 0] == 2
    assert image.present[:, :, 0].values.tolist() == [[True] * 3, [False, False, True]]


def test_kinds_of_which_only_one_has_several_times(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, _z: int) -> None:
        time, echo = divmod(t, 3)
        kind, ds.EchoTime = ("MMP"[echo], (2, 4, 2)[echo])
        ds.ImageType, ds.AcquisitionTime = ["ORIGINAL", "PRIMARY", kind], f"10000{3 * time}"
        ds.TriggerTime = 3000 * time
        ds.skip = kind == "P" and time > 0

    write_series(tmp_path, times=[0] * 9, slices=2, mutate=fill)
    image = followed(tmp_path, fill=True)
    assert image.dims[:3] == ("time", "te", "image_type")
    assert image.time.values.tolist() == [0, 3, 6]
    assert image.present[..., 0].sum() == 7


def test_private_elements_together_with_others(tmp_path: Path) -> None:
    """Philips tells label and control of arterial spins in one of its own."""

    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.TemporalPositionIdentifier, label = t // 2 + 1, ("LABEL", "CONTROL")[t % 2]
        ds.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x29, "CS", label)

    write_series(tmp_path, times=[0] * 6, slices=2, mutate=fill)
    image = followed(tmp_path, fill=False)
    assert image.dims[:2] == ("time", "(2005,1029)")
    assert image.values[..., 0, 0, 0].tolist() == [[1, 0], [3, 2], [5, 4]]


def test_an_element_that_only_some_frames_have(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int, _z: int) -> None:
        if t:
            ds.LossyImageCompression = "01"

    write_series(tmp_path, times=[0, 0], slices=2, mutate=fill)
    with pytest.raises(OrderError, match=r"where=(lambda header: .*), name the dims") as caught:
        ixr.open_series(tmp_path)
    assert "where=lambda header: header.get('LossyImageCompression') == '01'" in str(caught.value)
    image = ixr.open_series(tmp_path, where=lambda header: header.get("LossyImageCompression") == "01")
    assert image.values[:, 0, 0].tolist() == [1, 1]


def test_frames_that_no_element_tells_apart(tmp_path: Path) -> None:
    write_series(tmp_path, times=[0, 0], slices=2)
    with pytest.raises(OrderError, match=r"order='time' numbers them in the order of InstanceNumber; .*function"):
        ixr.open_series(tmp_path)
    with pytest.warns(UserWarning, match="no element tells time"):
        assert ixr.open_series(tmp_path, "time").sizes["time"] == 2
    number = ixr.open_series(tmp_path, {"pass": lambda header: (header.InstanceNumber - 1) // 2})
    assert number.values[:, 0, 0, 0].tolist() == [0, 1]
    assert ixr.open_series(tmp_path, "none", duplicates="stack").sizes["duplicate"] == 2


def test_counts_that_do_not_fit(tmp_path: Path) -> None:
    write_series(tmp_path, per_time={"EchoTime": [5, 10, 15, 15], "ImageComments": list("abba")}, slices=2)
    with pytest.raises(OrderError, match=r"EchoTime \(3 values\): 3 a slice, which does not divide it"):
        ixr.open_series(tmp_path)


def test_one_place_many_times(tmp_path: Path) -> None:
    """AcquisitionNumber counts; whether that is time, the user has to say."""
    write_series(tmp_path, per_time={"AcquisitionNumber": [12, 13, 15]}, slices=1)
    with pytest.raises(OrderError, match="order='AcquisitionNumber' or order='time'"):
        ixr.open_series(tmp_path)
    image = ixr.open_series(tmp_path, "time")
    assert image.time.values.tolist() == [0, 1, 3]
    assert image.time.attrs == {"element": "AcquisitionNumber"}, "numbers have no unit"
