"""Against real PACS: Orthanc and dcmtk, plain and with mutual TLS, as ``tests/pacs/with_servers.sh`` starts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

import imagedata_xr as ixr
from imagedata_xr.cli import main
from imagedata_xr.errors import MixedSeriesError, NetworkError, NoDicomError, NotStoredError
from imagedata_xr.pacs.commit import uncommitted
from imagedata_xr.pacs.echo import echo
from imagedata_xr.pacs.instances import instances
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.retrieve import retrieve
from imagedata_xr.pacs.send import send
from imagedata_xr.pacs.tls import client_context, server_context
from tests.generate import write_series
from tests.pacs.peers import slow_wire

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.pacs

HTTP = {"orthanc": "http://127.0.0.1:18042", "orthanc-tls": "http://127.0.0.1:18043"}
PORTS = {"orthanc": 14242, "orthanc-tls": 14243, "dcmqrscp": 14250, "storescp-tls": 14251}
TITLES = {"orthanc": "ORTHANC", "orthanc-tls": "ORTHANC", "dcmqrscp": "QRSCP", "storescp-tls": "STORE"}


@pytest.fixture(scope="module")
def files() -> Path:
    """Return the folder of certificates and stored files of the servers; without them tests skip, or fail in CI."""
    folder = os.environ.get("PACS_DIR")
    if folder is None:
        message = "no PACS; run this by tests/pacs/with_servers.sh"
        if os.environ.get("REQUIRE_PACS"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(folder)


@pytest.fixture
def peers(files: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Peer]:
    monkeypatch.setenv("IMAGEDATA_XR_TLS_CA", str(files / "ca.crt"))
    monkeypatch.setenv("IMAGEDATA_XR_TLS_CERT", str(files / "client.crt"))
    monkeypatch.setenv("IMAGEDATA_XR_TLS_KEY", str(files / "client.key"))

    def peer(name: str) -> Peer:
        for one in HTTP.values() if name.startswith("orthanc") else ():
            for patient in json.load(urllib.request.urlopen(f"{one}/patients")):
                urllib.request.urlopen(urllib.request.Request(f"{one}/patients/{patient}", method="DELETE"))
        tls = client_context() if name.endswith("tls") else None
        return Peer("localhost", PORTS[name], TITLES[name], tls=tls)

    return peer


def series(folder: Path, **options: Any) -> list[Path]:
    """Write a series of a patient and study of its own."""
    return write_series(folder, patient=str(generate_uid())[-10:], study=str(generate_uid()), **options)


def count(name: str) -> int:
    found: int = json.load(urllib.request.urlopen(f"{HTTP[name]}/statistics"))["CountInstances"]
    return found


ARCHIVES = ["orthanc", "orthanc-tls", "dcmqrscp"]


@pytest.mark.parametrize("name", PORTS)
def test_echo_and_store(peers: Callable[[str], Peer], name: str, tmp_path: Path) -> None:
    peer = peers(name)
    assert echo(peer) < 5
    written = series(tmp_path / "in", times=3)
    # Two at a time dcmqrscp does not bear: it refuses some with 0xC000.
    assert send(written, peer, jobs=1 if name == "dcmqrscp" else 2).summary == "12 stored"
    if name in HTTP:
        assert count(name) == 12


@pytest.mark.parametrize("how", ["get", "move"])
@pytest.mark.parametrize("name", ARCHIVES)
def test_find_and_fetch(peers: Callable[[str], Peer], files: Path, name: str, how: str, tmp_path: Path) -> None:
    peer = peers(name)
    written = series(tmp_path / "in", times=2, number=7)
    series(tmp_path / "other")
    header = pydicom.dcmread(written[0])
    send([tmp_path / "in", tmp_path / "other"], peer)
    found = query(peer, "study", {"PatientID": header.PatientID})
    assert list(found.StudyInstanceUID) == [header.StudyInstanceUID]
    assert len(query(peer, "series", {"PatientID": header.PatientID, "Modality": "MR"})) == 1
    assert len(query(peer, "image", {"StudyInstanceUID": header.StudyInstanceUID})) == 8
    assert len(query(peer, "patient", {"PatientID": header.PatientID})) == 1
    assert len(query(peer, "series", {"PatientID": "nobody at all"})) == 0
    tls = server_context(files / "server.crt", files / "server.key", files / "ca.crt") if peer.tls else None
    got = retrieve(peer, tmp_path / "out", study=header.StudyInstanceUID, how=how, tls=tls)  # type: ignore[arg-type]
    assert len(got) == 8
    image, again = ixr.open_series(tmp_path / "in", "time"), ixr.open_series(tmp_path / "out", "time")
    assert np.array_equal(image.values, again.values)
    assert image.attrs == again.attrs
    assert image.dicom.geometry_equal(again)


@pytest.mark.parametrize("name", ARCHIVES)
def test_open_by_url(peers: Callable[[str], Peer], name: str, tmp_path: Path) -> None:
    peer = peers(name)
    accession = str(generate_uid())[-12:]

    def accessed(ds: pydicom.Dataset, _t: int, _z: int) -> None:
        ds.AccessionNumber = accession

    written = series(tmp_path / "in", times=3, number=1004, mutate=accessed)
    header = pydicom.dcmread(written[0])
    send(written, peer)
    image = ixr.open_series(tmp_path / "in", "time")
    patient = f"{peer.url}/{header.PatientID}"
    for url in (
        f"{patient}/{header.StudyInstanceUID}/{header.SeriesInstanceUID}",
        f"{patient}/{accession}/1004",
        f"{peer.url}//{accession}",
    ):
        found = ixr.open_series(url, "time")
        assert np.array_equal(found.values, image.values)
        assert found.attrs == image.attrs
    assert len(ixr.scan(patient)) == 1
    assert main(["--order", "time", str(tmp_path / "out"), patient]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 12
    with pytest.raises(NoDicomError):
        ixr.open_series(f"{patient}/{accession}/1005")
    with pytest.raises(NoDicomError):
        ixr.open_series(f"{peer.url}/nobody/{accession}")
    second = series(tmp_path / "second", mutate=accessed)
    send(second, peer)
    with pytest.raises(MixedSeriesError, match="2 studies"):
        ixr.open_series(f"{peer.url}//{accession}")


@pytest.mark.parametrize("how", ["get", "move"])
def test_a_study_of_two_patients(peers: Callable[[str], Peer], how: str, tmp_path: Path) -> None:
    peer, study = peers("orthanc"), str(generate_uid())

    def shared(ds: pydicom.Dataset, _t: int, _z: int) -> None:
        ds.StudyInstanceUID = study

    send(write_series(tmp_path / "ours", patient="P1", study=study, number=4, mutate=shared), peer)
    send(write_series(tmp_path / "others", patient="P9", study=study, number=9, mutate=shared), peer)
    options = {"how": how}
    for url in (f"{peer.url}/P1/{study}", f"{peer.url}/P1/{study}/9"):
        with pytest.raises(NetworkError, match="its PatientID is another"):
            ixr.open_series(url, options=options)
    with pytest.raises(MixedSeriesError, match="2 patients"):
        ixr.open_series(f"{peer.url}//{study}", options=options)
    with pytest.raises(NetworkError, match="its PatientID is another"):
        ixr.scan(f"{peer.url}/P1/{study}")
    with pytest.raises(MixedSeriesError, match="2 patients"):
        query(peer, "series", {"PatientID": "P1"})
    assert ixr.open_series(f"{peer.url}/P1/{study}/4", options=options).attrs["PatientID"] == "P1"


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
@pytest.mark.parametrize("name", ARCHIVES)
def test_round_trip_of_each_transfer_syntax(
    peers: Callable[[str], Peer], name: str, syntax: Any, tmp_path: Path
) -> None:
    peer = peers(name)
    written = series(tmp_path / "in", rows=64, cols=64, transfer_syntax=syntax)
    header = pydicom.dcmread(written[0])
    assert send(written, peer).summary == "4 stored"
    image = ixr.open_series(tmp_path / "in")
    found = ixr.open_series(f"{peer.url}/{header.PatientID}/{header.StudyInstanceUID}")
    assert np.array_equal(found.values, image.values)
    assert found.attrs == image.attrs
    assert found.dicom.geometry_equal(image)


@pytest.mark.parametrize("name", ARCHIVES)
def test_commitment(peers: Callable[[str], Peer], files: Path, name: str, tmp_path: Path, monkeypatch: Any) -> None:
    peer = peers(name)
    if peer.tls:
        monkeypatch.setenv("IMAGEDATA_XR_TLS_CERT", str(files / "server.crt"))
        monkeypatch.setenv("IMAGEDATA_XR_TLS_KEY", str(files / "server.key"))
    written = series(tmp_path / "in")
    assert send(written, peer, commit=True).summary == "4 stored"
    never_sent = series(tmp_path / "other", slices=1)
    there = instances(written)
    assert list(uncommitted(peer, [*there, *instances(never_sent)])) == [instances(never_sent)[0].uid]


@pytest.mark.parametrize(
    ("certificates", "why"),
    [
        ({"ca": None}, "not trusted"),
        ({"ca": "otherca.crt"}, "not trusted"),
        ({"certificate": None}, "closed the connection|TLS failed"),
        ({"certificate": "stranger.crt", "key": "stranger.key"}, "closed the connection|TLS failed"),
    ],
)
@pytest.mark.parametrize("name", ["orthanc-tls", "storescp-tls"])
def test_tls_refuses(files: Path, name: str, certificates: dict[str, str | None], why: str) -> None:
    given = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key"} | certificates
    paths = {what: files / file for what, file in given.items() if file is not None}
    if "certificate" not in paths:
        paths.pop("key")
    with pytest.raises(NetworkError, match=why):
        echo(Peer("localhost", PORTS[name], TITLES[name], tls=client_context(**paths), timeout=3))


def test_a_large_instance_on_a_slow_wire(peers: Callable[[str], Peer], tmp_path: Path) -> None:
    paths = series(tmp_path / "in", slices=1, rows=3200, cols=3200)
    there = peers("storescp-tls")
    with slow_wire(there.port, 0.001) as way:
        peer = Peer("localhost", way.port, there.aet, tls=there.tls, timeout=3)
        assert send(paths, peer).summary == "1 stored"


def test_plain_and_tls_do_not_mix(peers: Callable[[str], Peer]) -> None:
    with pytest.raises(NetworkError, match="TLS failed"):
        echo(Peer("localhost", PORTS["orthanc"], "ORTHANC", tls=client_context(), timeout=3))
    with pytest.raises(NetworkError, match="may want TLS"):
        echo(Peer("localhost", PORTS["orthanc-tls"], "ORTHANC", timeout=3))


def test_a_wrong_ae_title(peers: Callable[[str], Peer], tmp_path: Path) -> None:
    peers("orthanc")
    wrong = Peer("localhost", PORTS["orthanc"], "WRONG")
    with pytest.raises(NetworkError, match="rejected"):
        echo(wrong)
    with pytest.raises(NotStoredError, match="rejected"):
        send(series(tmp_path / "in"), wrong)


def test_the_commands(peers: Callable[[str], Peer], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = peers("orthanc")
    written = series(tmp_path / "in", times=2)
    header = pydicom.dcmread(written[0])
    assert main(["echo", peer.url]) == 0
    assert "answered in" in capsys.readouterr().out
    assert main(["send", "--jobs", "2", "--commit", "--json", peer.url, str(tmp_path / "in")]) == 0
    assert len(json.loads(capsys.readouterr().out)["instances"]) == 8
    asked = ["query", "--level", "series", "-k", f"PatientID={header.PatientID}", peer.url]
    assert main([*asked, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert found["SeriesInstanceUID"] == header.SeriesInstanceUID
    assert main(asked) == 0
    assert header.SeriesInstanceUID in capsys.readouterr().out
    assert main(["query", "-k", "PatientID=nobody", peer.url]) == 3
    assert main(["query", "-k", "PatientID", peer.url]) == 2
    url = f"{peer.url}/{header.PatientID}/{header.StudyInstanceUID}/1"
    assert main(["info", url]) == 0
    assert main(["--sernum", "1004", "--serdes", "Processed data", peer.url, url]) == 0
    assert count("orthanc") == 16
    new = query(peer, "series", {"PatientID": header.PatientID, "SeriesNumber": "1004"})
    assert list(new.SeriesDescription) == ["Processed data"]
    assert main(["echo", "dicom+tls://localhost:14242/ORTHANC", "--timeout", "3"]) == 7


@pytest.mark.slow
def test_many_instances_by_the_count_of_the_pacs(peers: Callable[[str], Peer], tmp_path: Path) -> None:
    peer = peers("orthanc")
    written = series(tmp_path / "in", times=500, slices=4, rows=16, cols=16)
    assert send(written, peer, jobs=4).summary == "2000 stored"
    assert count("orthanc") == 2000


def test_old_tls_wrong_names_and_expired_certificates_are_refused(files: Path) -> None:
    openssl = shutil.which("openssl")
    assert openssl is not None
    for certificate, version, why in (
        ("server", "-tls1_1", "TLS failed"),
        ("elsewhere", "-tls1_2", "not trusted"),
        ("expired", "-tls1_2", "not trusted"),
    ):
        command = [openssl, "s_server", "-accept", "127.0.0.1:14299", "-quiet", version]
        command += ["-cert", f"{files}/{certificate}.crt", "-key", f"{files}/{certificate}.key"]
        command += ["-cipher", "DEFAULT@SECLEVEL=0"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            peer = Peer("localhost", 14299, "ANY", tls=client_context(files / "ca.crt"), timeout=3)
            for _ in range(50):
                with pytest.raises(NetworkError) as caught:
                    echo(peer)
                if "refused" not in str(caught.value):
                    break
            assert why in str(caught.value)
        finally:
            server.kill()
            server.wait()
