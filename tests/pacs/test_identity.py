"""What a PACS answers is believed only as far as it is what was asked for."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage, generate_uid
from pynetdicom import AE, dimse_primitives, evt
from pynetdicom.dsutils import encode

import imagedata_xr as ixr
from imagedata_xr.cli import main
from imagedata_xr.errors import MixedSeriesError, NetworkError, NoDicomError
from imagedata_xr.pacs import query as query_module
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.retrieve import retrieve
from tests.generate import write_series
from tests.pacs.test_send import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENTS_FOUND, STUDIES_FOUND = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
MOVED, GOT = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
NAMES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "SeriesNumber")
UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., list[Dataset]]:
    """Return what makes the instances of a new series."""

    def make(patient: str, slices: int = 2, **elements: Any) -> list[Dataset]:
        uid = str(generate_uid())
        options = {"study": uid, "series": uid} | {k: elements.pop(k) for k in ("number", "values") if k in elements}
        files = write_series(tmp_path / uid, patient=patient, slices=slices, **options)
        found: list[Dataset] = [pydicom.dcmread(file) for file in files]
        with disable_value_validation():
            for number, ds in enumerate(found):
                for name, value in elements.items():
                    setattr(ds, name, value(number) if callable(value) else value)
                ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        return found

    return make


def is_asked_for(ds: Dataset, asked: Dataset, ignored: tuple[str, ...] = ()) -> bool:
    return all(
        name in ignored or not asked.get(name) or str(ds.get(name, "")) == str(asked.get(name)) for name in NAMES
    )


def finder(stored: list[Dataset], ignored: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Return a handler of C-FIND that ignores some keys, and leaves some elements out of answers."""

    def find(event: Any) -> Iterator[tuple[int, Dataset]]:
        asked, seen = event.identifier, set()
        for ds in stored:
            row = (str(ds[UNIQUE[asked.QueryRetrieveLevel]].value), str(ds.PatientID))
            if not is_asked_for(ds, asked, ignored) or row in seen:
                continue
            seen.add(row)
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for element in asked:
                if element.keyword in ds and element.keyword not in ("QueryRetrieveLevel", *left_out):
                    answer[element.tag] = ds[element.tag]
            yield 0xFF00, answer

    return find


def giver(stored: Callable[[Dataset], list[Dataset]]) -> Callable[..., Any]:
    def give(event: Any) -> Iterator[Any]:
        found = stored(event.identifier)
        yield len(found)
        for ds in found:
            yield 0xFF00, ds

    return give


@contextmanager
def pacs(find: Callable[..., Any], stored: Callable[[Dataset], list[Dataset]] = lambda _: [], port: int = 0) -> Any:
    """Give the URL of a PACS; with a port it sends what it has by C-MOVE, to there."""
    ae = AE("ARCHIVE")
    ae.maximum_associations = 20
    ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    ae.add_requested_context(MRImageStorage)
    for model in (PATIENTS_FOUND, STUDIES_FOUND, MOVED, *(() if port else (GOT,))):
        ae.add_supported_context(model)

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", port
        yield from giver(stored)(event)

    handlers: Any = [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, giver(stored)), (evt.EVT_C_MOVE, move)]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"dicom://127.0.0.1:{server.socket.getsockname()[1]}/ARCHIVE"
    finally:
        ae.shutdown()


def under_the_uids_of(ours: list[Dataset], others: list[Dataset], *names: str) -> list[Dataset]:
    """Return the contents of others, which call themselves ours."""
    found = copy.deepcopy(others)
    for own, ds in zip(ours, found, strict=True):
        for name in names:
            setattr(ds, name, own[name].value)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return found


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("SOPInstanceUID",), "PatientID"),
        (("SOPInstanceUID", "PatientID"), "StudyInstanceUID"),
        (("SOPInstanceUID", "PatientID", "StudyInstanceUID"), "SeriesInstanceUID"),
        (("SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"), "SeriesNumber"),
    ],
)
@pytest.mark.parametrize("how", ["get", "move"])
def test_data_sets_of_others_are_refused(
    made: Any, names: tuple[str, ...], what: str, how: str, tmp_path: Path
) -> None:
    ours, others = made("P1", number=3), made("P2", number=4)
    given = under_the_uids_of(ours, others, *names)
    url = f"P1/{ours[0].StudyInstanceUID}/3"
    options: dict[str, Any] = {}
    port = 0
    if how == "move":
        with Receiver(tmp_path / "nobody", port=0) as receiver:
            port = receiver.port
        options = {"how": "move", "port": port}
    with (
        pacs(finder(ours), lambda _: given, port) as place,
        pytest.raises(NetworkError, match=f"2 of 2 instances came .* its {what} is another"),
    ):
        ixr.open_series(f"{place}/{url}", options=options)
    with pacs(finder(ours), lambda _: ours, port) as place:
        assert ixr.open_series(f"{place}/{url}", options=options).attrs["PatientID"] == "P1"


def test_what_is_cut_short_is_refused_with_the_reason(made: Any, tmp_path: Path) -> None:
    ours = made("P1")
    answers: list[int] = []

    def give(event: Any) -> Iterator[Any]:
        # pynetdicom itself sends no data set that is shorter than it says.
        yield 1
        link = event.assoc
        accepted = next(c for c in link.accepted_contexts if c.abstract_syntax == MRImageStorage)
        whole = encode(ours[1], accepted.transfer_syntax[0].is_implicit_VR, True)
        assert whole is not None
        request = dimse_primitives.C_STORE()
        request.MessageID, request.Priority, request.AffectedSOPClassUID = 7, 2, MRImageStorage
        request.AffectedSOPInstanceUID, request.DataSet = ours[1].SOPInstanceUID, BytesIO(whole[:-40])
        link.dimse.send_msg(request, accepted.context_id)
        answers.append(link.dimse.get_msg(block=True)[1].Status)
        yield 0xFF00, ours[0]

    ae = AE("ARCHIVE")
    ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    for model in (STUDIES_FOUND, GOT):
        ae.add_supported_context(model)
    server: Any = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, finder(ours)), (evt.EVT_C_GET, give)]
    )
    place = f"dicom://127.0.0.1:{server.socket.getsockname()[1]}/ARCHIVE"
    try:
        with pytest.raises(NetworkError, match=r"1 of 2 instances came .* it is cut short"):
            retrieve(place, tmp_path / "out", study=ours[0].StudyInstanceUID)
    finally:
        ae.shutdown()
    assert set(answers) == {0xC000}
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("goes", ["nowhere", "to another receiver", "and says why not"])
def test_a_destination_that_is_wrong_is_told(made: Any, goes: str, tmp_path: Path) -> None:
    ours = made("P1")
    ae = AE("ARCHIVE")
    for model in (STUDIES_FOUND, MOVED):
        ae.add_supported_context(model)
    ae.add_requested_context(MRImageStorage)
    with Receiver(tmp_path / "nobody", port=0) as receiver:
        port = receiver.port
    other = Receiver(tmp_path / "other", port=0, aet="WARD7")

    def move(event: Any) -> Iterator[Any]:
        yield (None, None) if goes == "nowhere" else ("127.0.0.1", other.port)
        if goes == "and says why not":
            yield 1
            status = Dataset()
            status.Status, status.ErrorComment = 0xC123, "we are closed"
            yield status, None
        else:
            yield from giver(lambda _: ours)(event)

    server: Any = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, finder(ours)), (evt.EVT_C_MOVE, move)]
    )
    peer = Peer("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE", "WARD7", timeout=1)
    try:
        with other, pytest.raises(NetworkError, match="2 of 2 instances did not come") as caught:
            retrieve(peer, tmp_path / "out", study=ours[0].StudyInstanceUID, how="move", port=port)
    finally:
        ae.shutdown()
    assert f"AE title WARD7: check that this is, in its configuration, host 127.0.0.1, port {port}" in str(caught.value)
    said = {
        "nowhere": "status 0xA801",
        "to another receiver": "it said that all were sent",
        "and says why not": "1 failed, 'we are closed'",
    }
    assert said[goes] in str(caught.value)


def test_what_was_not_asked_for_does_not_come_into_the_folder(made: Any, tmp_path: Path) -> None:
    ours, others = made("P1"), made("P2")
    with pacs(finder(ours), lambda _: others + ours) as place:
        study = ours[0].StudyInstanceUID
        told = "2 instances came .* that were not asked for, and were not taken"
        with pytest.warns(UserWarning, match=f"{told}, .* its StudyInstanceUID is another"):
            assert len(retrieve(place, tmp_path / "in", study=study)) == 2
        assert len(list((tmp_path / "in").iterdir())) == 2
        with pytest.warns(UserWarning, match=f"{told}, .* its PatientID is another"):
            assert ixr.open_series(f"{place}/P1/{study}").attrs["PatientID"] == "P1"
        with pytest.raises(NetworkError, match="PatientID is another"):
            retrieve(place, tmp_path / "other", study=study, patient="P3")


@pytest.mark.parametrize("how", ["get", "move"])
def test_what_a_pacs_sends_and_does_not_list_is_among_the_files(made: Any, how: Any, tmp_path: Path) -> None:
    ours = made("P1", slices=5)
    port = free_port()
    with pacs(finder(ours[:3]), lambda _: ours, port if how == "move" else 0) as place:
        files = retrieve(place, tmp_path / "in", study=ours[0].StudyInstanceUID, how=how, port=port)
    assert [pydicom.dcmread(file).SOPInstanceUID for file in files] == [ds.SOPInstanceUID for ds in ours]


def test_a_study_of_two_patients(made: Any, tmp_path: Path) -> None:
    ours = made("P1", number=4)
    study = ours[0].StudyInstanceUID
    others = made("P9", number=9, StudyInstanceUID=study)
    stored = ours + others
    with pacs(finder(stored), lambda asked: [ds for ds in stored if is_asked_for(ds, asked)]) as place:
        for url in (f"{place}/P1/{study}/9", f"{place}/P1/{study}"):
            with pytest.raises(NetworkError, match=r"2 of . instances came .* its PatientID is another"):
                ixr.open_series(url)
        with pytest.raises(NetworkError, match="PatientID is another"):
            ixr.scan(f"{place}/P1/{study}")
        with pytest.raises(MixedSeriesError, match="of 2 patients"):
            ixr.open_study(f"{place}//{study}")
        with pytest.raises(NetworkError, match="than that of the first instance"):
            retrieve(place, tmp_path / "in", study=study)
        with pytest.raises(MixedSeriesError, match="of 2 patients"):
            query(place, "series", {"PatientID": "P1"})
        assert main(["query", place, "--level", "series", "-k", "PatientID=P1"]) == 4
        assert ixr.open_series(f"{place}/P1/{study}/4").attrs["PatientID"] == "P1"


@pytest.mark.parametrize("ignored", ["PatientID", "AccessionNumber", "SeriesNumber"])
@pytest.mark.parametrize("is_left_out", [False, True])
def test_keys_that_a_pacs_ignores(made: Any, ignored: str, is_left_out: bool) -> None:
    others = made("P2", number=3, AccessionNumber="A-2")
    named = {"PatientID": "P2", "AccessionNumber": "A-2", "SeriesNumber": "3"}
    wrong = named | {ignored: "77"}
    with pacs(finder(others, (ignored,), (ignored,) if is_left_out else ()), lambda _: others) as place:
        with pytest.raises(
            NetworkError if is_left_out else NoDicomError, match=f"its {ignored}" if is_left_out else "no"
        ):
            ixr.open_series(f"{place}/" + "/".join(wrong.values()))
        assert ixr.open_series(f"{place}/" + "/".join(named.values())).attrs["PatientID"] == "P2"
        if ignored != "SeriesNumber":
            assert len(query(place, "study", {ignored: "77"})) == is_left_out
            assert len(query(place, "study", {ignored: named[ignored][:-1] + "*"})) == 1


@pytest.mark.parametrize(
    ("patient", "character_sets"),
    [
        ("Ærø 7", "ISO_IR 100"),
        ("山田-1", "ISO_IR 192"),
        ("山田-1", ["", "ISO 2022 IR 87"]),
        ("Μαρία", "ISO_IR 126"),
    ],
)
def test_patients_in_other_character_sets(made: Any, patient: str, character_sets: Any, tmp_path: Path) -> None:
    ours = made("P1", SpecificCharacterSet=character_sets, PatientID=patient)
    find = finder(ours)

    def told(event: Any) -> Iterator[tuple[int, Dataset]]:
        for status, answer in find(event):
            answer.SpecificCharacterSet = character_sets
            yield status, answer

    with pacs(told, lambda _: ours) as place:
        assert ixr.open_series(f"{place}/{patient}").attrs["PatientID"] == patient
        study = ours[0].StudyInstanceUID
        assert len(retrieve(place, tmp_path / "in", study=study, patient=patient)) == 2
        with pytest.raises(NetworkError, match="its PatientID is another"):
            retrieve(place, tmp_path / "other", study=study, patient=patient + "a")


def test_padding_and_leading_zeros(made: Any) -> None:
    ours = made("P1 ", number=7)
    with pacs(finder(ours, ("PatientID", "SeriesNumber")), lambda _: ours) as place:
        assert ixr.open_series(f"{place}/P1/{ours[0].StudyInstanceUID}/007").attrs["SeriesNumber"] == 7
        with pytest.raises(NoDicomError):
            ixr.open_series(f"{place}/p1")


@pytest.mark.parametrize("path", ["P*1", "%3F2", "*", "P1%5CP2", "P1/*/1", "P1/1.2.3/%3F", "%20", "P1%00", "P1/%20/1"])
def test_a_url_names_one(path: str) -> None:
    with pytest.raises(ValueError, match="query"):
        ixr.open_series(f"dicom://127.0.0.1:9/A/{path}")


@pytest.mark.parametrize("path", ["", "/", "//", "///4", "///1.2.840.1.2"])
def test_a_url_names_a_patient_or_a_study(path: str) -> None:
    with pytest.raises(ValueError, match="PATIENT/STUDY/SERIES"):
        ixr.open_series(f"dicom://127.0.0.1:9/A{path}")


@pytest.mark.parametrize("text", ["", " ", "*", "1.2\\1.3", "1.2.?"])
def test_empty_identifiers_and_patterns_fetch_nothing(text: str, tmp_path: Path) -> None:
    for named in ({"study": text}, {"study": "1.2.3", "series": text}, {"study": "1.2.3", "patient": text}):
        with pytest.raises(ValueError, match=r"InstanceUID|PatientID"):
            retrieve("dicom://127.0.0.1:9/A", tmp_path / "in", **named)  # type: ignore[arg-type]
    assert not (tmp_path / "in").exists()


def test_rows_without_uids(made: Any, tmp_path: Path) -> None:
    ours = made("P1", number=3)
    study, series = ours[0].StudyInstanceUID, ours[0].SeriesInstanceUID
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        with pacs(finder(ours, (), (name,)), lambda _: ours) as place:
            if name == "StudyInstanceUID":
                assert len(query(place, "study", {"PatientID": "P1"})) == 1
                with pytest.raises(NetworkError, match="StudyInstanceUID is left out"):
                    query(place, "series", {"PatientID": "P1"})
            if name != "SOPInstanceUID":
                with pytest.raises(NetworkError, match=f"{name} is left out"):
                    query(place, "image", {"PatientID": "P1"})
                # What was asked for by its UID need not be told again.
                assert len(retrieve(place, tmp_path / name, study=study, series=series)) == 2
            with pytest.raises(NetworkError, match=f"{name} is left out"):
                ixr.open_series(f"{place}/P1")


def test_answers_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(event: Any) -> Iterator[tuple[int, Dataset]]:
        number = 0
        while not event.is_cancelled:
            number += 1
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", f"1.2.{number}"
            yield 0xFF00, answer

    monkeypatch.setattr(query_module, "MOST_ROWS", 50)
    with pacs(endless) as place, pytest.raises(NetworkError, match="more than 50 answers: ask for less"):
        query(place)


def test_uids_that_are_not_by_the_standard(made: Any, tmp_path: Path) -> None:
    ours = made("P1", SOPInstanceUID=lambda number: f"1.2.840.0123.{number + 1}")
    with (
        pacs(finder(ours), lambda _: ours) as place,
        pytest.raises(NetworkError, match=r"1\.2\.840\.0123\.1, .* zeros"),
    ):
        retrieve(place, tmp_path / "in", study=ours[0].StudyInstanceUID)


def test_an_older_version_in_the_folder(made: Any, tmp_path: Path) -> None:
    ours = made("P1")
    study = ours[0].StudyInstanceUID
    for _ in range(2):
        with pacs(finder(ours), lambda _: ours) as place:
            assert len(retrieve(place, tmp_path / "in", study=study)) == 2
    changed = copy.deepcopy(ours)
    for ds in changed:
        ds.SeriesDescription = "changed"
    why = r"another version of it, .* empty folder"
    with pacs(finder(changed), lambda _: changed) as place, pytest.raises(NetworkError, match=why):
        retrieve(place, tmp_path / "in", study=study)


@pytest.mark.parametrize("kind", ["other", "garbage", "cut"])
def test_a_data_set_has_the_uid_that_it_is_sent_under(made: Any, kind: str, tmp_path: Path) -> None:
    (ds,) = made("P1", slices=1)
    with Receiver(tmp_path / "in", port=0) as receiver:
        ae = AE("OTHER")
        ae.add_requested_context(MRImageStorage)
        link = ae.associate("127.0.0.1", receiver.port, ae_title="IMAGEDATA")
        accepted: Any = link.accepted_contexts[0]
        whole = encode(ds, accepted.transfer_syntax[0].is_implicit_VR, True)
        assert whole is not None
        request = dimse_primitives.C_STORE()
        request.MessageID, request.Priority = 7, 2
        request.AffectedSOPClassUID = MRImageStorage
        request.AffectedSOPInstanceUID = "1.2.840.99.77" if kind == "other" else ds.SOPInstanceUID
        request.DataSet = BytesIO({"other": whole, "garbage": b"\xff" * 501, "cut": whole[:60]}[kind])
        link._reactor_checkpoint.clear()
        while not link._is_paused:
            pass
        link.dimse.send_msg(request, accepted.context_id)
        response: Any = link.dimse.get_msg(block=True)[1]
        link._reactor_checkpoint.set()
        link.release()
        assert response.Status in ((0xA900,) if kind == "other" else (0xA900, 0xC000))
        assert receiver.refused == 1
    assert not list((tmp_path / "in").iterdir())


def test_no_values_in_warnings_of_answers() -> None:
    def find(event: Any) -> Iterator[tuple[int, Dataset]]:
        answer = Dataset()
        answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", "1.2.3"
        for tag, vr in ((0x00080020, "DA"), (0x00100020, "LO"), (0x00100030, "DA"), (0x00201206, "IS")):
            value = b"SECRET" * 20
            answer[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
        yield 0xFF00, answer

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pacs(find) as place:
            found = query(place)
    assert found.StudyInstanceUID.tolist() == ["1.2.3"]
    assert found.StudyDate.tolist() == ["SECRET" * 20]
    assert "SECRET" not in "".join(str(one.message) for one in told)
