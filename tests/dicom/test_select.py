"""Which frames are opened: filters by header, and several series read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import ConflictingOriginError, MissingFramesError, MixedSeriesError, NoDicomError
from imagedata_xr.origins import origins
from tests.dicom.multi import write_enhanced
from tests.generate import uid, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset


def write_split(path: Path, angles: tuple[int, ...] = (2, 10, 15)) -> None:
    """Write an acquisition that the scanner split: a series for each flip angle, each with two echoes."""
    for number, angle in enumerate(angles, 1):

        def fill(ds: Dataset, t: int, _z: int, angle: int = angle) -> None:
            ds.FlipAngle, ds.EchoTime = angle, [5, 10][t]

        write_series(path / str(number), times=2, slices=3, series=f"fa {angle}", number=number, mutate=fill)


def test_split_acquisition(tmp_path: Path) -> None:
    write_split(tmp_path)
    with pytest.raises(MixedSeriesError, match=r"3 series are there[\s\S]*merge=True"):
        ixr.open_series(tmp_path)
    for order in ("fa,te", "auto"):
        image = ixr.open_series(tmp_path, order, merge=True)
        assert image.sizes == {**image.sizes, "fa": 3, "te": 2, "slice": 3}
        assert image.SeriesInstanceUID.dims == ("fa",)
        assert image.SeriesInstanceUID.sel(fa=10) == uid("P1", "study", "fa 10")
        assert image.SeriesDescription.values.tolist() == ["fa 2", "fa 10", "fa 15"]
        assert "SeriesInstanceUID" not in image.attrs
        assert image.sel(te=10, fa=2).values[:, 0, 0].tolist() == [1, 1, 1]


def test_origins_of_merged_series(tmp_path: Path) -> None:
    """All series are known to have gone into the image, also when it is cut or reduced."""
    write_split(tmp_path)
    image = ixr.open_series(tmp_path, merge=True)
    wanted = {uid("P1", "study", f"fa {angle}") for angle in (2, 10, 15)}
    assert {origin.SeriesInstanceUID for origin in origins(image)} == wanted
    assert {origin.SeriesInstanceUID for origin in origins(image.mean("fa") + 1)} == wanted


def test_merge_of_one_series_changes_nothing(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=2)
    assert ixr.open_series(tmp_path, merge=True).identical(ixr.open_series(tmp_path))


def test_what_a_function_raises_names_the_file_and_how_to_ask(tmp_path: Path) -> None:
    write_series(tmp_path, times=2, slices=1)
    for options in ({"where": lambda header: header.EchoNumber == 1}, {"order": lambda header: header.EchoNumber}):
        with pytest.raises(AttributeError, match="EchoNumber") as caught:
            ixr.open_series(tmp_path, **options)
        (note,) = caught.value.__notes__
        assert str(tmp_path) in note
        assert note.endswith("header.get('EchoNumber') is None")


@pytest.mark.parametrize(("name", "other"), [("PatientID", {"patient": "P2"}), ("StudyInstanceUID", {"study": "x"})])
def test_merge_of_what_does_not_belong_together(tmp_path: Path, name: str, other: dict[str, str]) -> None:
    write_series(tmp_path / "a", slices=2, series="a", tags={"FlipAngle": 2})
    write_series(tmp_path / "b", slices=2, series="b", tags={"FlipAngle": 5}, **other)  # type: ignore[arg-type] # texts
    with pytest.raises(MixedSeriesError, match=f"2 series have 2 values of {name}"):
        ixr.open_series(tmp_path, "fa", merge=True)
    with pytest.raises(MixedSeriesError, match="or open all with open_study") as caught:
        ixr.open_series(tmp_path)
    assert "merge" not in str(caught.value), "which would not do"


def test_merge_of_other_frames_of_reference(tmp_path: Path) -> None:
    write_series(tmp_path / "a", slices=2, series="a", tags={"FlipAngle": 2})
    write_series(tmp_path / "b", slices=2, series="b", tags={"FlipAngle": 5, "FrameOfReferenceUID": uid("moved")})
    with pytest.raises(MixedSeriesError, match="FrameOfReferenceUID"):
        ixr.open_series(tmp_path, "fa", merge=True)


def test_merge_after_choice(tmp_path: Path) -> None:
    write_split(tmp_path)
    write_series(tmp_path / "localizer", slices=5, series="localizer", number=9)
    image = ixr.open_series(tmp_path, merge=True, where=lambda ds: ds.SeriesNumber < 3)
    assert image.fa.values.tolist() == [2, 10]
    assert ixr.open_series(tmp_path, merge=True, series=3).FlipAngle == 15


def test_filter(tmp_path: Path) -> None:
    write_series(tmp_path, times=4, slices=2)
    seen = []

    def even(ds: Dataset) -> bool:
        seen.append("PixelData" in ds)
        return (int(ds.InstanceNumber) - 1) // 2 % 2 == 0

    image = ixr.open_series(tmp_path, "time", where=even)
    assert image.values[:, 0, 0, 0].tolist() == [0, 2]
    assert image.time.values.tolist() == [0, 5]
    assert seen == [False] * 8
    with pytest.raises(NoDicomError, match="passes none of the 8 frames"):
        ixr.open_series(tmp_path, where=lambda _ds: False)


def test_filter_of_a_study(tmp_path: Path) -> None:
    write_split(tmp_path)
    assert len(ixr.open_study(tmp_path).children) == 3
    assert len(ixr.open_study(tmp_path, where=lambda ds: ds.FlipAngle < 12).children) == 2


def test_merged_series_are_written_as_those_of_one_patient(tmp_path: Path) -> None:
    write_split(tmp_path / "in")
    image = ixr.open_series(tmp_path / "in", "fa,te", merge=True)
    try:
        ixr.write(image, tmp_path / "out")
    except ConflictingOriginError as err:  # pragma: no cover
        pytest.fail(f"one patient, study and frame of reference: {err}")
    again = ixr.open_series(tmp_path / "out", "fa,te")
    assert (again.values == image.values).all()
    assert again.fa.values.tolist() == [2, 10, 15]


def write_parts(folder: Path, *numbers: int, of: int | None = 3) -> None:
    """Write parts of an enhanced image of three volumes that was split over three files."""
    for number in numbers:

        def mutate(ds: Dataset, number: int = number) -> None:
            ds.ConcatenationUID = uid("concatenation")
            ds.InConcatenationNumber = number
            if of is not None:
                ds.InConcatenationTotalNumber = of

        frames = range(4 * number - 4, 4 * number)
        write_enhanced(folder / f"{number}.dcm", times=3, order=frames, mutate=mutate, number=number)


def test_an_image_that_was_split_over_files_is_one(tmp_path: Path) -> None:
    write_parts(tmp_path, 3, 1, 2)
    image = ixr.open_series(tmp_path)
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert ixr.scan(tmp_path)["problem"].item() == ""


@pytest.mark.parametrize(
    ("there", "of", "lacking"), [((1,), 3, "2, 3"), ((1, 2), 3, "3"), ((1, 3), None, "2"), ((2, 3), 3, "1")]
)
def test_a_part_that_lacks_is_told(tmp_path: Path, there: tuple[int, ...], of: int | None, lacking: str) -> None:
    """It has whole volumes, and so nothing else tells that it is not there."""
    write_parts(tmp_path, *there, of=of)
    with pytest.raises(MissingFramesError, match=f"not there: InConcatenationNumber {lacking} of ConcatenationUID"):
        ixr.open_series(tmp_path)
    with pytest.raises(MissingFramesError, match="not there"):
        ixr.open_study(tmp_path)
    assert "InConcatenationNumber" in ixr.scan(tmp_path)["problem"].item()
    assert ixr.open_series(tmp_path, missing="fill").sizes.get("time", 1) == len(there)


# --- whose


def of(*patients: dict[str, str]) -> Callable[[Dataset, int, int], None]:
    """Return what gives the slices to several patients in turn; no patient has a PatientID of its own."""

    def fill(ds: Dataset, _t: int, z: int) -> None:
        ds.PatientID = ""
        for name, value in patients[z % len(patients)].items():
            setattr(ds, name, value)

    return fill


@pytest.mark.parametrize(
    ("patients", "name"),
    [
        ([{"PatientName": "Doe^John"}, {"PatientName": "Roe^Jane"}], "PatientName"),
        ([{"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19900101"}], "PatientBirthDate"),
        (
            [{"PatientID": "1", "PatientBirthDate": "19500101"}, {"PatientID": "1", "PatientBirthDate": "19900101"}],
            "PatientBirthDate",
        ),
    ],
)
def test_two_patients_are_no_image(tmp_path: Path, patients: list[dict[str, str]], name: str) -> None:
    write_series(tmp_path, mutate=of(*patients))
    with pytest.raises(MixedSeriesError, match=f"2 values of {name}[\\s\\S]*where=") as caught:
        ixr.open_series(tmp_path)
    # Which files they are, and not who: messages go to logs.
    assert str(caught.value).count(str(tmp_path)) == 2
    assert not any(patient[name] in str(caught.value) for patient in patients)
    assert "they cannot be one image" in ixr.scan(tmp_path)["problem"].item()
    one = ixr.open_series(tmp_path, where=lambda header: header[name].value == patients[0][name])
    assert one.sizes["slice"] == 2


def test_the_filter_that_is_proposed_passes_over_files_without_the_element(tmp_path: Path) -> None:
    def born(ds: Dataset, _t: int, z: int) -> None:
        ds.PatientBirthDate = ("19500101", "19900101", "")[z]
        if z == 2:
            del ds.PatientBirthDate

    write_series(tmp_path, slices=3, mutate=born)
    with pytest.raises(MixedSeriesError, match=r"where=lambda header: header\.get\('PatientBirthDate'\) == \.\.\."):
        ixr.open_series(tmp_path)
    image = ixr.open_series(tmp_path, where=lambda header: header.get("PatientBirthDate") == "19900101")
    assert image.values[:, 0, 1].tolist() == [1]


def test_one_patient_whose_name_is_written_in_several_ways(tmp_path: Path) -> None:
    names = ("Doe^John", "DOE^JOHN^^", "", "John Doe")
    write_series(tmp_path / "a", mutate=of(*({"PatientName": name} for name in names)))
    image = ixr.open_series(tmp_path / "a")
    assert image.PatientName.values.tolist() == list(names)
    assert {(o.PatientID, o.PatientName, o.PatientBirthDate) for o in origins(image)} == {
        ("", name, "19700101") for name in names
    }
    assert ixr.scan(tmp_path)["problem"].item() == ""


def test_other_names_with_one_id_are_told(tmp_path: Path) -> None:
    write_series(tmp_path, mutate=of({"PatientID": "1", "PatientName": "A"}, {"PatientID": "1", "PatientName": "B"}))
    with pytest.warns(UserWarning, match=r"2 values of PatientName \(as in .*\) and one PatientID"):
        image = ixr.open_series(tmp_path)
    assert image.PatientName.values.tolist() == ["A", "B", "A", "B"]


@pytest.mark.parametrize(
    ("other", "what"),
    [({"PatientName": "Roe^Jane"}, "2 values of PatientName"), ({"PatientBirthDate": "19900101"}, "Birth")],
)
def test_images_of_two_patients_without_id(tmp_path: Path, other: dict[str, str], what: str) -> None:
    """They may be computed with, like those of two with IDs, and only a template says whose the result is."""
    write_series(tmp_path / "a", series="a", mutate=of({}))
    write_series(tmp_path / "b", series="b", mutate=of(other))
    a, b = (ixr.open_series(tmp_path / name) for name in "ab")
    for mixed in (a + b, (a + b) + a, (a + b).copy(deep=True)):
        with pytest.raises(ConflictingOriginError, match=what):
            ixr.write(mixed, tmp_path / "out")
    ixr.write(a + b, tmp_path / "out", template=a)
    assert ixr.open_series(tmp_path / "out").attrs["PatientName"] == "Test^P1"
    ixr.write(a + b, tmp_path / "sum.nc")
    assert origins(ixr.open_series(tmp_path / "sum.nc")) == origins(a) | origins(b)
    with pytest.raises(MixedSeriesError, match=what.split(",")[0]):
        ixr.open_series([tmp_path / "a", tmp_path / "b"], "SeriesDescription", merge=True)
