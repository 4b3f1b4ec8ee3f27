"""What a DICOMweb service answers is believed only as far as it is what was asked for."""

from __future__ import annotations

import copy
import json
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

import imagedata_xr as ixr
from imagedata_xr.errors import MixedSeriesError, NetworkError, NotStoredError
from imagedata_xr.pacs import web
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.pacs.test_web import orthanc, series  # noqa: F401, a fixture
from tests.web import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom import Dataset

JSON = "application/dicom+json"


@contextmanager
def service(answer: Callable[[str], Any], posted: tuple[int, str, bytes] = (200, JSON, b"{}")) -> Iterator[Any]:
    """Give the URL of a service, and what was asked for; `answer` tells what is at a path: JSON, bytes, or None."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            asked.append(self.path)
            found = answer(self.path)
            if found is None:
                self.reply(404, "text/plain", b"")
            elif isinstance(found, bytes):
                part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + found + b"\r\n--x--\r\n"
                self.reply(200, 'multipart/related; type="application/dicom"; boundary=x', part)
            else:
                self.reply(200, JSON, (found if isinstance(found, str) else json.dumps(found)).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(*posted)

        def log_message(self, *_: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"dicomweb+http://127.0.0.1:{server.server_port}/web", asked


def made(folder: Path, patient: str, value: int = 1) -> list[Dataset]:
    """Return the instances of a new series."""
    uid = str(generate_uid())
    options: dict[str, Any] = {"study": uid, "series": uid, "slices": 2}
    files = write_series(
        folder / uid, patient=patient, values=lambda _t, _z: np.full((8, 6), value, np.uint16), **options
    )
    return [pydicom.dcmread(file) for file in files]


def told(ds: Dataset) -> dict[str, Any]:
    header = copy.deepcopy(ds)
    del header.PixelData
    found: dict[str, Any] = header.to_json_dict()
    return found


def whole(ds: Dataset) -> bytes:
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def place(ds: Dataset) -> str:
    return f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"


def without_frames(headers: list[Dataset], instances: list[Dataset]) -> Callable[[str], Any]:
    """Return a service that gives whole instances only: those of the second list under the names of the first."""

    def answer(path: str) -> Any:
        if path.endswith("/metadata"):
            return [told(ds) for ds in headers]
        for header, ds in zip(headers, instances, strict=True):
            if path.endswith(f"/instances/{header.SOPInstanceUID}"):
                return whole(ds)
        return None

    return answer


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("is_left_out", [False, True])
def test_metadata_of_another_series(tmp_path: Path, name: str, is_left_out: bool) -> None:
    ours = made(tmp_path, "P1")
    others = copy.deepcopy(ours)
    for ds in others:
        if is_left_out:
            del ds[name]
        else:
            setattr(ds, name, str(generate_uid()))
    state = "is left out" if is_left_out else "is another"
    with (
        service(lambda _: [told(ds) for ds in others]) as (url, _),
        pytest.raises(NetworkError, match=f"{name} .* {state}"),
    ):
        ixr.open_series(f"{url}/{place(ours[0])}")


def test_metadata_of_another_instance_and_patient(tmp_path: Path) -> None:
    ours, others = made(tmp_path, "P1"), made(tmp_path, "P2")
    with (
        service(lambda _: [told(ours[1])]) as (url, _),
        pytest.raises(OSError, match=r"SOPInstanceUID .* is another"),
    ):
        ixr.open_series(f"{url}/{place(ours[0])}/instances/{ours[0].SOPInstanceUID}")
    for ds in others:
        ds.StudyInstanceUID = ours[0].StudyInstanceUID
    with (
        service(lambda _: [told(ds) for ds in ours + others]) as (url, _),
        pytest.raises(MixedSeriesError, match="2 patients"),
    ):
        ixr.open_study(f"{url}/studies/{ours[0].StudyInstanceUID}")


@pytest.mark.parametrize("names", [(), ("StudyInstanceUID", "SeriesInstanceUID"), ("SOPInstanceUID",), None])
def test_whole_instances_of_others_are_no_pixels_of_ours(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    ours, others = made(tmp_path, "P1", 100), made(tmp_path, "P2", 900)
    with service(without_frames(ours, ours)) as (url, _):
        assert ixr.open_series(f"{url}/{place(ours[0])}").values.max() == 100
    everything = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    for own, ds in zip(ours, others, strict=True):
        for name in everything if names is None else names:
            setattr(ds, name, own[name].value)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    with service(without_frames(ours, others)) as (url, _):
        image = ixr.open_series(f"{url}/{place(ours[0])}")
        with pytest.raises(OSError, match="is another" if names is not None else "another PatientID"):
            _ = image.values


def test_answers_that_were_not_asked_for_are_dropped(tmp_path: Path) -> None:
    ours, others = made(tmp_path, "P1"), made(tmp_path, "P2")
    rows = [told(ours[0]), told(others[0])]
    with service(lambda path: [] if "offset=2" in path else rows) as (url, _):
        assert query(url, "study", {"PatientID": "P1"}).PatientID.tolist() == ["P1"]
        assert query(url, "study", {"PatientID": "P?"}).PatientID.tolist() == ["P1", "P2"]
        study = ours[0].StudyInstanceUID
        assert query(url, "series", {"StudyInstanceUID": study}).StudyInstanceUID.tolist() == [study]
        assert query(f"{url}/studies/{study}", "series").StudyInstanceUID.tolist() == [study]
        assert len(query(url, "study", {"PatientID": "P3"})) == 0


def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(lambda _: [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]) as (url, asked):
        assert query(url).StudyInstanceUID.tolist() == ["1.2.3"]
        assert len(asked) == 2
    monkeypatch.setattr(web, "MOST_ROWS", 20)
    numbers = iter(range(10**6))
    with service(lambda _: [{"0020000D": {"vr": "UI", "Value": [f"1.2.{next(numbers)}"]}}]) as (url, asked):
        with pytest.raises(NetworkError, match="more than 20 answers: ask for less"):
            query(url)
        assert len(asked) == 21


def test_queries_as_they_are_sent() -> None:
    with service(lambda _: []) as (url, asked):
        query(url, "study", {"PatientID": "P*1?a/b c+d&e=f", "StudyDate": "20260101-20260131"})
        sent = urlsplit(asked[0]).query
        assert "PatientID=P*1?a/b%20c%2Bd%26e%3Df" in sent
        assert "StudyDate=20260101-20260131" in sent
        assert dict(parse_qsl(sent))["PatientID"] == "P*1?a/b c+d&e=f"
        assert dict(parse_qsl(urlsplit(asked[1]).query))["PatientID"] == "P*1?a/b*c*d*e*f"
        asked.clear()
        query(url, "series", {"StudyInstanceUID": "../../system?x="})
        assert {urlsplit(path).path for path in asked} == {"/web/series"}


def test_a_service_that_does_not_decode() -> None:
    def row(name: str, number: int) -> dict[str, Any]:
        return {
            "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
        }

    rows = [row("Müller^Jörg", 1), row("Mxller^Jorg", 2)]
    with service(lambda path: [] if "%" in path else rows) as (url, _):
        assert query(url, "study", {"PatientName": "müller^jörg"}).StudyInstanceUID.tolist() == ["1.2.1"]
        assert query(url, "study", {"PatientName": "Mü*^J*"}).StudyInstanceUID.tolist() == ["1.2.1"]
        assert query(url, "study", {"PatientName": "M?ller^*"}).StudyInstanceUID.tolist() == ["1.2.1", "1.2.2"]


@pytest.mark.parametrize("body", ["<html>", "null", "5", "[1]", '["x"]', '[{"x": 1}]', '[{"0020000D": []}]', '{"x":'])
def test_answers_of_another_form(body: str, tmp_path: Path) -> None:
    with service(lambda _: body) as (url, _):
        with pytest.raises(NetworkError, match="no DICOM"):
            query(url)
        with pytest.raises(NetworkError, match="no DICOM"):
            ixr.open_series(f"{url}/studies/1.2.3/series/1.2.4")


@pytest.mark.parametrize(
    "body",
    [
        *("<html>", "", "[]", "null", '{"x":', "{}", '{"00081199":{"vr":"SQ","Value":[{"00081155":{"vr":"UI"}}]}}'),
        *('{"00081199":{"vr":"UI","Value":["1.2"]}}', '{"00081199":{"vr":"SQ","Value":[{}]}}', '{"00081199":5}'),
    ],
)
def test_answers_to_stow_of_another_form(body: str, tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=2)
    with service(lambda _: None, (200, JSON, body.encode())) as (url, _), pytest.raises(NotStoredError) as caught:
        send(files, url)
    assert caught.value.report.summary == "2 unknown"


def test_no_values_in_warnings_of_answers() -> None:
    rows = [
        {
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00100030": {"vr": "DA", "Value": ["SECRET-DATE"]},
            "00100020": {"vr": "LO", "Value": ["SECRET" * 20]},
        }
    ]
    wrong = [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00201206": {"vr": "IS", "Value": ["SECRET"]}}]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with service(lambda _: rows) as (url, _):
            assert len(query(url)) == 1
        with service(lambda _: wrong) as (url, _), pytest.raises(NetworkError) as caught:
            query(url)
    assert "SECRET" not in "".join(str(one.message) for one in said) + str(caught.value)


@pytest.mark.pacs
def test_patterns_are_understood_by_orthanc(orthanc: str, tmp_path: Path) -> None:  # noqa: F811
    def named(ds: Dataset, _t: int, _z: int) -> None:
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", "Probe^Jörg Müller"
        ds.PatientID = f"P {ds.PatientID}"

    files, where = series(tmp_path / "in", slices=1, mutate=named)
    others, _ = series(tmp_path / "others", slices=1)
    send([*files, *others], orthanc)
    header = pydicom.dcmread(files[0])
    study = where.split("/")[1]
    for keys in (
        {"PatientID": "P *"},
        {"PatientID": "P ?" + header.PatientID[3:]},
        {"PatientID": header.PatientID},
        {"PatientName": "Probe^*"},
        {"PatientName": "Probe^Jörg Müller"},
        {"PatientName": "*Jörg*"},
        {"StudyInstanceUID": ["1.2.3", study]},
    ):
        assert query(orthanc, "study", keys).StudyInstanceUID.tolist() == [study]
    assert len(query(orthanc, "study", {"PatientID": "*"})) == 2
    assert len(query(orthanc, "study", {"PatientName": "Probe^Jürg*"})) == 0
