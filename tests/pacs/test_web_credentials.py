"""Credentials of DICOMweb: each goes to its service, over HTTPS or on this machine, and nowhere else."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from imagedata_xr.errors import NetworkError, NotStoredError
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.send import send
from imagedata_xr.pacs.web import client_of
from tests.generate import write_series
from tests.pacs.test_web_misbehaving import Answer, certified, instances, service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests

NAMES = ("IMAGEDATA_XR_WEB_TOKEN", "IMAGEDATA_XR_WEB_USER", "IMAGEDATA_XR_WEB_PASSWORD", "NETRC")
KINDS = ("token", "password", "keyring", "netrc")


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def given(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let a kind of credentials be there, and return what of them is sent."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    netrc.write_text(
        "".join(f"machine {host} login other password netrcSECRET\n" for host in ("localhost", "127.0.0.1"))
    )
    netrc.chmod(0o600)
    if kind == "token":
        monkeypatch.setenv("IMAGEDATA_XR_WEB_TOKEN", "tokenSECRET\n")
        return "Bearer tokenSECRET"
    if kind == "netrc":
        return basic("other", "netrcSECRET")
    monkeypatch.setenv("IMAGEDATA_XR_WEB_USER", "me")
    if kind == "password":
        monkeypatch.setenv("IMAGEDATA_XR_WEB_PASSWORD", "пароль:SECRET")
        return basic("me", "пароль:SECRET")
    keyring = pytest.importorskip("keyring")

    class Ring(keyring.backend.KeyringBackend):  # type: ignore[misc, name-defined] # it is imported here
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            if username == "me@locked.example":
                raise keyring.errors.KeyringLocked("SECRET")
            return "ringSECRET" if (service, username) == ("imagedata_xr", "me@localhost") else None

        def set_password(self, service: str, username: str, password: str) -> None:
            raise NotImplementedError

    before = keyring.get_keyring()
    monkeypatch.setattr(keyring.core, "_keyring_backend", before)  # and so it is put back
    keyring.set_keyring(Ring())
    return basic("me", "ringSECRET")


@contextmanager
def https(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Give the URL of a service by HTTPS, and the credentials of each request."""
    told: list[str] = []
    with service(lambda *_: answer, certified(monkeypatch), told) as (url, _):
        yield url.replace("http://127.0.0.1", "https://localhost"), told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=pytest.mark.pacs)])
def test_all_that_is_asked_for_and_sent_has_them(
    tls: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = instances(tmp_path / "in")
    wanted = given(kind, monkeypatch, tmp_path)
    stored = {
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]}} for ds in ours]}
    }
    told: list[str] = []

    def answer(path: str, body: bytes) -> Answer:
        if body:
            return Answer(200, json.dumps(stored).encode())
        # On the way it is sent on, within the service.
        return Answer(200, b"[]") if path.startswith("/web/new") else Answer(307, headers={"Location": "/web/new"})

    with service(answer, certified(monkeypatch) if tls else None, told) as (url, _):
        place = url.replace("http://127.0.0.1", f"http{'s' * tls}://localhost")
        assert len(query(place)) == 0
        assert send(tmp_path / "in", place).summary == "2 stored"
    assert told == [wanted] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_refuses_them_is_told_without_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "in")
    given(kind, monkeypatch, tmp_path)
    caplog.set_level("DEBUG")
    with service(lambda *_: Answer(401, b"SECRET")) as (url, asked):
        place = url.replace("127.0.0.1", "localhost")
        with pytest.raises(NetworkError, match=r"401 Unauthorized \(credentials come from") as of_query:
            query(place)
        with pytest.raises(NotStoredError, match=r"401 Unauthorized \(credentials come from") as of_sending:
            send(tmp_path / "in", place)
    assert len(asked) == 2
    assert "SECRET" not in f"{of_query.value} {of_sending.value} {of_sending.value.report} {caplog.text}"


@pytest.mark.pacs
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_not_sent_on(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "in")
    given(kind, monkeypatch, tmp_path)
    told: list[str] = []
    with ExitStack() as stack:
        plain, _ = stack.enter_context(service(lambda *_: Answer(200, b"[]"), told=told))
        other, told_by_tls = stack.enter_context(https(monkeypatch, Answer(200, b"[]")))
        for elsewhere in (plain, other):
            there = elsewhere.removeprefix("dicomweb+")
            url, asked = stack.enter_context(https(monkeypatch, Answer(302, headers={"Location": there})))
            with pytest.raises(NetworkError, match="sends on to"):
                query(url)
            with pytest.raises(NotStoredError, match="sends on to"):
                send(tmp_path / "in", url)
            assert len(asked) == 2
    assert told == told_by_tls == []


@pytest.mark.parametrize("kind", KINDS)
def test_without_tls_they_stay_on_this_machine(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(kind, monkeypatch, tmp_path)
    (tmp_path / "netrc").write_text("default login other password netrcSECRET\n")

    def sent(url: str) -> requests.PreparedRequest:
        import requests

        session = client_of(url)._session
        return session.prepare_request(requests.Request("GET", url))  # type: ignore[no-any-return]

    assert "Authorization" in sent("https://localhost/web").headers
    assert "Authorization" in sent("http://localhost/web").headers
    assert "Authorization" not in sent("http://pacs.example/web").headers
    assert "Authorization" not in sent("http://localhost.example/web").headers


class Proxy(NamedTuple):
    url: str
    asked: list[bytes]


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Give a proxy that connects to nothing, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(10_000))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}", asked)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_is_used_and_has_none_of_them(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(kind, monkeypatch, tmp_path)
    with proxy() as there:
        monkeypatch.setenv("https_proxy", there.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(NetworkError, match=r"no answer from https://pacs\.example/web"):
            query("dicomweb+https://pacs.example/web")
    assert there.asked
    assert all(asked.startswith(b"CONNECT pacs.example:443 ") and b"uthoriz" not in asked for asked in there.asked)


@pytest.mark.parametrize("token", ["two SECRET", "SECRET\r\nX: y", "SECRETü"])
def test_a_token_that_cannot_be_sent_is_not_shown(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "in")
    monkeypatch.setenv("IMAGEDATA_XR_WEB_TOKEN", token)
    for use in (
        lambda: query("dicomweb+https://localhost:9/web"),
        lambda: send(tmp_path, "dicomweb+https://localhost:9"),
    ):
        with pytest.raises(NetworkError, match="IMAGEDATA_XR_WEB_TOKEN is no token") as caught:
            use()
        assert "SECRET" not in str(caught.value)


def test_a_keyring_that_is_locked_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given("keyring", monkeypatch, tmp_path)
    with pytest.raises(NetworkError, match=r"me@locked\.example \(KeyringLocked\): unlock it, or set") as caught:
        client_of("https://locked.example/web")
    assert "SECRET" not in str(caught.value)
