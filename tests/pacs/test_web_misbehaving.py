"""DICOMweb services that are busy, send elsewhere, break off or encode as nobody does: told, and nothing made of it."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, generate_uid

import imagedata_xr as ixr
from imagedata_xr.errors import NetworkError, NotStoredError, UnreadableFileError
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.send import send
from tests.dicom.multi import write_enhanced
from tests.generate import write_series
from tests.pacs.test_web_identity import JSON, place, told, whole
from tests.web import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom import Dataset


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] | None = None


@contextmanager
def service(
    answer: Callable[[str, bytes], Answer], tls: ssl.SSLContext | None = None, told: list[str] | None = None
) -> Iterator[tuple[str, list[float]]]:
    """Give the URL of a service that answers as it is told, and the times at which it was asked.

    To `told` the credentials of each request are added, "" where it has none.
    """
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(time.monotonic())
            if told is not None:
                told.append(self.headers["Authorization"] or "")
            status, body, headers = answer(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            self.send_response(status)
            for name, value in {"Content-Type": JSON, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        yield f"dicomweb+http://127.0.0.1:{server.server_port}/web", asked


def certified(monkeypatch: pytest.MonkeyPatch, certificate: str = "server") -> ssl.SSLContext:
    """Return how a service speaks TLS with a certificate, whose authority is trusted from now on."""
    if "PACS_DIR" not in os.environ:
        if os.environ.get("REQUIRE_PACS"):
            pytest.fail("no PACS")
        pytest.skip("no certificates; run this by tests/pacs/with_servers.sh")
    files = os.environ["PACS_DIR"]
    monkeypatch.setenv("IMAGEDATA_XR_TLS_CA", f"{files}/ca.crt")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{files}/{certificate}.crt", f"{files}/{certificate}.key")
    return tls


def instances(folder: Path) -> list[Dataset]:
    uid = str(generate_uid())
    files = write_series(
        folder, study=uid, series=uid, slices=2, values=lambda _t, z: np.full((8, 6), 258 + z, np.uint16)
    )
    return [pydicom.dcmread(file) for file in files]


def whole_only(ours: list[Dataset], data: Callable[[Dataset], bytes]) -> Callable[[str, bytes], Answer]:
    """Return a service that gives no frames, but whole instances."""

    def answer(path: str, _: bytes) -> Answer:
        if path.endswith("/metadata"):
            return Answer(200, json.dumps([told(ds) for ds in ours]).encode())
        for ds in ours:
            if path.endswith(f"/instances/{ds.SOPInstanceUID}"):
                part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + data(ds) + b"\r\n--x--\r\n"
                kind = 'multipart/related; type="application/dicom"; boundary=x'
                return Answer(200, part, {"Content-Type": kind})
        return Answer(406)

    return answer


def test_big_endian_instances_have_the_values_that_they_have(tmp_path: Path) -> None:
    ours = instances(tmp_path / "in")

    def big_endian(ds: Dataset) -> bytes:
        out, turned = BytesIO(), pydicom.dcmread(BytesIO(whole(ds)))
        turned.PixelData = ds.pixel_array.astype(">u2").tobytes()
        turned.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(out, turned, implicit_vr=False, little_endian=False, enforce_file_format=True)
        return out.getvalue()

    with service(whole_only(ours, big_endian)) as (url, _):
        found = ixr.open_series(f"{url}/{place(ours[0])}").values
    assert np.array_equal(found, ixr.open_series(tmp_path / "in").values)


def test_frames_of_one_instance_that_is_fetched_whole_are_fetched_once(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", times=3, slices=5)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    fetched = []

    def counted(ds: Dataset) -> bytes:
        fetched.append(ds.SOPInstanceUID)
        return whole(ds)

    with service(whole_only([ds], counted)) as (url, _):
        image = ixr.open_series(f"{url}/{place(ds)}", "time")
        assert image.sizes["time"] * image.sizes["slice"] == 15
        assert not fetched, "no pixels yet"
        assert np.array_equal(image.values, ixr.open_series(tmp_path / "a.dcm", "time").values)
        assert np.array_equal(image.chunk(time=1).values, image.values)
    assert len(fetched) == 1


def test_an_instance_that_is_cut_short_is_named(tmp_path: Path) -> None:
    ours = instances(tmp_path / "in")
    with service(whole_only(ours, lambda ds: whole(ds)[:-200])) as (url, _):
        image = ixr.open_series(f"{url}/{place(ours[0])}")
        with pytest.raises(UnreadableFileError, match=f"{ours[0].SOPInstanceUID}|{ours[1].SOPInstanceUID}"):
            image.load()


@pytest.mark.parametrize("boundary", ["; boundary=y", ""])
def test_a_boundary_that_is_not_there_is_an_answer_of_another_form(boundary: str, tmp_path: Path) -> None:
    ours = instances(tmp_path / "in")
    right = whole_only(ours, whole)

    def answer(path: str, body: bytes) -> Answer:
        found = right(path, body)
        if found.headers is None:
            return found
        return found._replace(headers={"Content-Type": f'multipart/related; type="application/dicom"{boundary}'})

    with service(answer) as (url, _):
        image = ixr.open_series(f"{url}/{place(ours[0])}")
        with pytest.raises(UnreadableFileError, match="answered with what is no DICOM as it is wanted"):
            image.load()


@pytest.mark.parametrize("asks", ["1", "a date", "", "3600"])
def test_a_service_that_is_busy_is_asked_again_when_it_says(asks: str) -> None:
    def answer(_: str, __: bytes) -> Answer:
        told = formatdate(time.time() + 2, usegmt=True) if asks == "a date" else asks
        return Answer(429, headers={"Retry-After": told} if told else {}) if len(asked) < 2 else Answer(200, b"[]")

    with service(answer) as (url, asked):
        if asks == "3600":
            with pytest.raises(NetworkError, match="429 Too Many Requests, and asks to wait for 3600 s"):
                query(url, "study", {"PatientID": "P1"})
            assert len(asked) == 1
            return
        assert len(query(url, "study", {"PatientID": "P1"})) == 0
    assert asked[1] - asked[0] > (0.9 if asks else 0.3)


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_stays_busy_is_told(status: int) -> None:
    with service(lambda *_: Answer(status)) as (url, asked), pytest.raises(NetworkError, match=f"answered {status}"):
        query(url, "study", {"PatientID": "P1"})
    assert len(asked) == 3


def test_sending_waits_as_it_is_asked_to(tmp_path: Path) -> None:
    ours = instances(tmp_path / "in")
    stored = {
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [d.SOPInstanceUID]}} for d in ours]}
    }

    def answer(_: str, __: bytes) -> Answer:
        return Answer(503, headers={"Retry-After": "1"}) if len(asked) < 3 else Answer(200, json.dumps(stored).encode())

    with service(answer) as (url, asked):
        assert send(tmp_path / "in", url).summary == "2 stored"
    assert asked[2] - asked[0] > 1.8
    for pause, requests in (("3600", 1), ("1", 3)):
        with (
            service(lambda *_, pause=pause: Answer(503, headers={"Retry-After": pause})) as (url, asked),
            pytest.raises(NotStoredError, match=f"asks to wait for {pause} s") as e,
        ):
            send(tmp_path / "in", url)
        assert e.value.report.summary == "2 unknown"
        assert len(asked) == requests


def test_patients_are_not_named_to_another_machine(tmp_path: Path) -> None:
    instances(tmp_path / "in")
    with service(lambda *_: Answer(200, b"[]")) as (elsewhere, asked):
        there = elsewhere.removeprefix("dicomweb+")

        def answer(path: str, _: bytes) -> Answer:
            return Answer(307, headers={"Location": there + path})

        with service(answer) as (url, _):
            with pytest.raises(NetworkError, match=f"sends on to {there.removesuffix('/web')}, which") as caught:
                query(url, "study", {"PatientID": "SECRET"})
            assert "SECRET" not in str(caught.value)
            with pytest.raises(NotStoredError, match="sends on to"):
                send(tmp_path / "in", url)
    assert asked == []


def test_where_the_service_has_gone_is_told(tmp_path: Path) -> None:
    instances(tmp_path / "in")

    def answer(path: str, _: bytes) -> Answer:
        return Answer(308, headers={"Location": f"/dicom-web{path.removeprefix('/web')}?key=SECRET"})

    with service(answer) as (url, asked), pytest.raises(NotStoredError) as caught:
        send(tmp_path / "in", url)
    there = url.replace("/web", "/dicom-web")
    assert f"{there.removeprefix('dicomweb+')}/studies, which is not followed: if that is right, give {there}" in str(
        caught.value
    )
    assert "SECRET" not in str(caught.value)
    assert len(asked) == 1


def test_why_there_is_no_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetworkError, match=f"no answer from http://127.0.0.1:{port}/web: connection refused"):
        query(f"dicomweb+http://127.0.0.1:{port}/web", "study", {"PatientID": "SECRET"})


@pytest.mark.pacs
@pytest.mark.parametrize(
    ("certificate", "why"),
    [("server", ""), ("stranger", "issuer"), ("elsewhere", "Hostname mismatch"), ("expired", "has expired")],
)
def test_what_is_wrong_with_a_certificate_is_told(certificate: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = certified(monkeypatch, certificate)
    with service(lambda *_: Answer(200, b"[]"), tls) as (url, _):
        place = url.replace("http://127.0.0.1", "https://localhost")
        if not why:
            assert len(query(place)) == 0
            return
        with pytest.raises(NetworkError, match=rf"TLS failed with {place.removeprefix('dicomweb+')} \(.*{why}"):
            query(place)


def test_part_of_a_series_is_not_taken_for_all_of_it(tmp_path: Path) -> None:
    ours = instances(tmp_path / "in")
    with (
        service(lambda *_: Answer(206, json.dumps([told(ours[0])]).encode())) as (url, _),
        pytest.raises(NetworkError, match="206 Partial Content, and the whole is wanted"),
    ):
        ixr.open_series(f"{url}/{place(ours[0])}")


def test_what_is_asked_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with service(lambda *_: Answer(200, b"[]")) as (url, _):
        query(url, "study", {"PatientID": "MARKERID", "PatientName": "MARKER^NAME*"})
    assert "/web/studies?..." in caplog.text
    assert "MARKER" not in caplog.text


def test_a_comma_in_an_identifier_that_a_service_takes_for_a_list() -> None:
    def row(patient: str) -> dict[str, Any]:
        return {"00100020": {"vr": "LO", "Value": [patient]}, "0020000D": {"vr": "UI", "Value": ["1.2.3"]}}

    def answer(path: str, _: bytes) -> Answer:
        return Answer(200, json.dumps([row("P,1"), row("P-1")] if "PatientID=P*1" in path else []).encode())

    with service(answer) as (url, _):
        assert list(query(url, "study", {"PatientID": "P,1"}).PatientID) == ["P,1"]
