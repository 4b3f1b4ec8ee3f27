"""Whose image a written one is, where the series that it was made of spell the name of one patient differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError, MixedSeriesError
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pydicom import Dataset


def named(*spellings: str, **tags: str) -> Callable[[Dataset, int, int], None]:
    """Return what gives the volumes of one patient, who has a PatientID, a spelling of the name each."""

    def fill(ds: Dataset, t: int, _z: int) -> None:
        ds.PatientName = spellings[t % len(spellings)]
        for name, value in tags.items():
            setattr(ds, name, value)

    return fill


def names_in(files: Iterable[Path]) -> set[str]:
    return {str(pydicom.dcmread(file).PatientName) for file in files}


@pytest.mark.parametrize(
    ("other", "wanted"),
    [("Müller^Jane", "MÜLLER^JANE"), ("MÜLLER^JANE^M", "MÜLLER^JANE^M"), ("Jane Müller", "Jane Müller")],
)
def test_a_name_that_two_series_spell_differently_is_written(tmp_path: Path, other: str, wanted: str) -> None:
    write_series(tmp_path / "a", series="a", mutate=named("MÜLLER^JANE"))
    write_series(tmp_path / "b", series="b", mutate=named(other))
    a, b = (ixr.open_series(tmp_path / name) for name in "ab")
    assert names_in((a + b).dicom.write(tmp_path / "ab")) == names_in((b + a).dicom.write(tmp_path / "ba")) == {wanted}
    ixr.write(a + b, tmp_path / "sum.nc")
    assert names_in(ixr.open_series(tmp_path / "sum.nc").dicom.write(tmp_path / "stored")) == {wanted}
    assert names_in((a + b).assign_attrs(PatientName="Set^Name").dicom.write(tmp_path / "set")) == {"Set^Name"}
    assert names_in((a + b).assign_attrs(PatientName="").dicom.write(tmp_path / "empty")) == {""}


def test_a_name_that_one_series_spells_differently_is_written(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=2, mutate=named("DOE^JANE", "Doe^Jane"))
    image = ixr.open_series(tmp_path / "in")
    assert names_in((image * 2).dicom.write(tmp_path / "each")) == {"DOE^JANE", "Doe^Jane"}
    assert names_in(image.mean("time").dicom.write(tmp_path / "mean")) == {"DOE^JANE"}


def test_two_names_of_one_id_are_not_chosen_from(tmp_path: Path) -> None:
    write_series(tmp_path / "a", series="a", mutate=named("Doe^Jane"))
    write_series(tmp_path / "b", series="b", mutate=named("Roe^Jane"))
    a, b = (ixr.open_series(tmp_path / name) for name in "ab")
    with pytest.raises(ConflictingOriginError, match=r"2 values of PatientName .*set the attribute PatientName"):
        (a + b).dicom.write(tmp_path / "out")
    assert names_in((a + b).dicom.write(tmp_path / "out", template=b)) == {"Roe^Jane"}
    assert names_in((a + b).assign_attrs(PatientName="Doe^Jane").dicom.write(tmp_path / "set")) == {"Doe^Jane"}


def test_two_names_within_one_image_are_not_written_each_with_its_frames(tmp_path: Path) -> None:
    """No series is to be of two persons, be it that of its files or of several that were merged."""
    write_series(tmp_path / "in", times=2, mutate=named("Doe^Jane", "Roe^John"))
    with pytest.warns(UserWarning, match="see whose they are"):
        image = ixr.open_series(tmp_path / "in")
    for changed in (image, image * 2, image.isel(time=[0])):
        with pytest.raises(ConflictingOriginError, match=r"2 values of PatientName \(see image\.dicom\.origins\)"):
            changed.dicom.write(tmp_path / "out")
    told = image.drop_vars("PatientName").assign_attrs(PatientName="Doe^Jane")
    assert names_in(told.dicom.write(tmp_path / "told")) == {"Doe^Jane"}
    assert names_in(image.assign_attrs(PatientName="Doe^Jane").dicom.write(tmp_path / "set")) == {"Doe^Jane"}
    assert names_in(image.assign_coords(PatientName="Doe^Jane").dicom.write(tmp_path / "scalar")) == {"Doe^Jane"}


def test_one_id_of_two_hospitals_is_that_of_two_patients(tmp_path: Path) -> None:
    write_series(tmp_path / "a", series="a", mutate=named("Doe^Jane", IssuerOfPatientID="North"))
    write_series(tmp_path / "b", series="b", mutate=named("Doe^Jane", IssuerOfPatientID="South"))
    write_series(tmp_path / "c", series="c", mutate=named("Doe^Jane"))
    a, b, c = (ixr.open_series(tmp_path / name) for name in "abc")
    for mixed in (a + b, (a + b) + c):
        ixr.write(mixed, tmp_path / "sum.nc", overwrite=True)
        for image in (mixed, ixr.open_series(tmp_path / "sum.nc")):
            with pytest.raises(ConflictingOriginError, match="2 values of IssuerOfPatientID, 'North', 'South'"):
                image.dicom.write(tmp_path / "out")
    assert len((a + c).dicom.write(tmp_path / "ac")) == 4
    assert len((a + b).dicom.write(tmp_path / "ab", template=a)) == 4
    with pytest.raises(MixedSeriesError, match="2 values of IssuerOfPatientID, 'North', 'South'"):
        ixr.open_series([tmp_path / "a", tmp_path / "b"], "SeriesDescription", merge=True)


def test_two_birth_dates_of_one_id_are_two_patients(tmp_path: Path) -> None:
    """As they are when files are read."""
    write_series(tmp_path / "a", series="a", mutate=named("Doe^Jane"))
    write_series(tmp_path / "b", series="b", mutate=named("Doe^Jane", PatientBirthDate="19900101"))
    a, b = (ixr.open_series(tmp_path / name) for name in "ab")
    with pytest.raises(ConflictingOriginError, match="2 values of PatientBirthDate") as caught:
        (a + b).dicom.write(tmp_path / "out")
    assert "1990" not in str(caught.value)


def test_a_name_that_was_taken_away_is_not_brought_back(tmp_path: Path) -> None:
    write_series(tmp_path / "in", mutate=named("Doe^Jane"))
    bare = (ixr.open_series(tmp_path / "in") * 2).drop_vars("source")
    del bare.attrs["PatientName"]
    assert names_in(bare.dicom.write(tmp_path / "out")) == {""}


def test_files_without_an_id_are_written_when_the_user_says_that_there_is_none(tmp_path: Path) -> None:
    write_series(tmp_path / "in", tags={"PatientID": None})
    image = ixr.open_series(tmp_path / "in")
    with pytest.raises(MissingHeaderError, match=r"has no PatientID.*: say that it has none, image.assign_attrs"):
        image.dicom.write(tmp_path / "out")
    (file, *_) = image.assign_attrs(PatientID="").dicom.write(tmp_path / "out")
    assert pydicom.dcmread(file).PatientID == ""
