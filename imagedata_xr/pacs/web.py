"""DICOMweb: what is found by HTTP, and the client that all else goes by."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import struct
import time
from collections.abc import MutableSequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from imagedata_xr.errors import NetworkError
from imagedata_xr.extras import needed
from imagedata_xr.pacs.identity import UID, answers, matches
from imagedata_xr.pacs.tls import client_context
from imagedata_xr.quiet import without_validation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LONGEST_PAUSE",
    "MOST_ROWS",
    "NARROWER",
    "TIMEOUT",
    "WEB_SCHEMES",
    "SentOnError",
    "WebPlace",
    "asked_to_wait",
    "client_of",
    "is_web",
    "plain_value",
    "refusals_told",
    "search",
    "sent_on_to",
    "split_web",
    "status_told",
    "understood",
]

WEB_SCHEMES: Final = ("dicomweb+https", "dicomweb+http")
TIMEOUT: Final = 60.0
"""Seconds that a service may take for an answer."""
_ATTEMPTS: Final = 3
_PAUSE: Final = 0.4
"""Seconds before the second of these; twice as long before the third."""
LONGEST_PAUSE: Final = 60.0
"""Seconds that a service may ask us to wait; where it asks for more, that is told."""
_BUSY: Final = (408, 429, 503, 504)
"""Statuses that may be better another time."""
_PARTIAL: Final = 206
_LOGGERS: Final = ("dicomweb_client.web", "urllib3.connectionpool")
"""What writes URLs to logs."""
MOST_ROWS: Final = 100_000
"""Answers to a query that are taken at most."""
NARROWER: Final = "ask for less, by PatientID, StudyDate or StudyInstanceUID"
_AS_IT_IS: Final = {"%2A": "*", "%3F": "?", "%2F": "/", "%3A": ":", "%2C": ",", "+": "%20"}
_TEXTS: Final = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
"""Value representations in which ``*`` stands for any letters (PS3.4 C.2.2.2.4)."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class SentOnError(NetworkError):
    """What is asked for is said to be on another machine, or to be had without TLS."""


class WebPlace(NamedTuple):
    """What a URL of DICOMweb names."""

    base: str
    """URL of the service, ``https://server/dicom-web``."""
    study: str = ""
    series: str = ""
    instance: str = ""


def is_web(place: object) -> bool:
    """Return whether a place is a URL of DICOMweb.

    Examples
    --------
    >>> is_web("dicomweb+https://pacs/dicom-web"), is_web("https://pacs/a.zip")
    (True, False)
    """
    return isinstance(place, str) and place.lower().startswith(tuple(f"{scheme}://" for scheme in WEB_SCHEMES))


def split_web(url: str) -> WebPlace:
    """Return the service and what of it a URL names.

    Parameters
    ----------
    url : str
        ``dicomweb+https://server/dicom-web``, followed by nothing, ``/studies/UID``, ``/series/UID`` and
        ``/instances/UID``.

    Raises
    ------
    ValueError
        If it is no such URL, or has a user or password in it.

    Examples
    --------
    >>> split_web("dicomweb+https://pacs.example/dicom-web/studies/1.2.840.1/series/1.2.840.2")
    WebPlace(base='https://pacs.example/dicom-web', study='1.2.840.1', series='1.2.840.2', instance='')
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        msg = f"the {parts.scheme} URL has a user in it, and URLs are shown; see imagedata_xr.pacs.web.client_of"
        raise ValueError(msg)
    base, _, rest = url.partition("/studies/")
    words = rest.strip("/").split("/") if rest else []
    uids = words[::2]
    if words[1::2] != ["series", "instances"][: len(words[1::2])] or not all(UID.fullmatch(uid) for uid in uids):
        msg = (
            f"{url} is no URL of DICOMweb: .../studies/UID/series/UID/instances/UID is wanted, UIDs as in the standard"
        )
        raise ValueError(msg)
    if not is_web(url) or not parts.hostname or parts.query or parts.fragment or (words and len(words) % 2 == 0):
        msg = f"{url} is no URL of DICOMweb: dicomweb+https://server/path is wanted"
        raise ValueError(msg)
    return WebPlace(base.removeprefix("dicomweb+").rstrip("/"), *uids)


def client_of(base: str) -> Any:
    """Return a client of a DICOMweb service, with our certificates and credentials.

    Certificates are those of `imagedata_xr.pacs.tls.client_context`. Credentials are a bearer token in the environment
    variable ``IMAGEDATA_XR_WEB_TOKEN``; or user and password in ``IMAGEDATA_XR_WEB_USER`` and
    ``IMAGEDATA_XR_WEB_PASSWORD``, the password else from the keyring ``imagedata_xr``, if the package `keyring` is
    installed; or those in the user's netrc file. They are sent over HTTPS only, or to this machine.

    Raises
    ------
    ModuleNotFoundError
        If dicomweb-client is not installed.
    """
    make_client = needed("dicomweb_client.api", "DICOMweb", "dicomweb").DICOMwebClient
    session = _session()
    parts = urlsplit(base)
    if parts.scheme == "https":
        session.mount("https://", _adapter())
        session.verify = os.environ.get("IMAGEDATA_XR_TLS_CA") or True
    if parts.scheme == "https" or parts.hostname in _LOCAL:
        _authenticate(session, parts.hostname or "")
    else:
        session.trust_env = False  # a password of netrc would be seen on the way
    client = make_client(base, session=session, permissive_uid=True, timeout=TIMEOUT)
    client.set_http_retry_params(retry=False)  # its own is of interrupts, too, and hides the status; see _session
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_query)  # which is there once, however often it is added
    return client


def _without_query(record: logging.LogRecord) -> bool:
    """Take what was asked for out of a message that is logged: it names patients."""
    record.msg, record.args = re.sub(r"\?[^\s\"]+", "?...", record.getMessage()), ()
    return True


def asked_to_wait(answer: Any) -> float | None:
    """Return the seconds that a service which is busy asks us to wait (RFC 9110 10.2.3); None where it does not."""
    text = str(answer.headers.get("Retry-After", "")).strip()
    if answer.status_code not in _BUSY or not text:
        return None
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _session() -> Any:
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            # Elsewhere, or without TLS, patients would be named to others, and others be believed.
            target = super().get_redirect_target(resp)
            if target is None:
                return None
            here, there = urlsplit(resp.url), urlsplit(urljoin(resp.url, target))
            if (here.scheme, here.netloc) != (there.scheme, there.netloc):
                resp.close()
                raise _RedirectedError(f"{there.scheme}://{there.hostname}{f':{there.port}' if there.port else ''}")
            return target

        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            # It is the same service, see above: requests would take what netrc has in place of what was sent.
            pass

        # dicomweb-client encodes queries as forms are, where a space is "+"; and services that do not decode them
        # (Orthanc 1.10) find nothing by "%2A". What a query may have in it as it is (RFC 3986 3.4) is sent so.
        def get(self, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
            path, mark, asked = str(url).partition("?")
            asked = re.sub(r"%2A|%3F|%2F|%3A|%2C|\+", lambda found: _AS_IT_IS[found[0]], asked)
            attempt = 0
            while True:
                attempt += 1
                pause: float | None = None
                try:
                    answer = super().get(path + mark + asked, *arguments, **options)
                    if answer.status_code == _PARTIAL:
                        raise requests.HTTPError(response=answer)
                    if answer.status_code not in _BUSY or attempt == _ATTEMPTS:
                        return answer
                    pause = asked_to_wait(answer)
                    if pause is not None and pause > LONGEST_PAUSE:
                        return answer
                except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as err:
                    if isinstance(err, requests.exceptions.SSLError) or attempt == _ATTEMPTS:
                        raise
                time.sleep(_PAUSE * attempt if pause is None else pause)

    return Session()


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=client_context(), **options)

    return Adapter()


def _authenticate(session: Any, host: str) -> None:
    """Give a session the credentials that the environment or the keyring have.

    Raises
    ------
    NetworkError
        If the token cannot be sent, or the keyring not be asked.
    """
    from requests.auth import HTTPBasicAuth

    token, user = os.environ.get("IMAGEDATA_XR_WEB_TOKEN", "").strip(), os.environ.get("IMAGEDATA_XR_WEB_USER")
    if token:
        # Who sends it would show it in the error.
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise NetworkError("IMAGEDATA_XR_WEB_TOKEN is no token: ASCII without spaces is wanted (RFC 6750 2.1)")
        # Not as a header of the session, which what netrc has would replace.
        session.auth = _Bearer(token)
    elif user:
        password = os.environ.get("IMAGEDATA_XR_WEB_PASSWORD")
        if password is None:
            password = _of_keyring(user, host)
        session.auth = HTTPBasicAuth(user.encode(), password.encode())


class _Bearer:
    """A bearer token (RFC 6750 2.1), which no repr shows."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _of_keyring(user: str, host: str) -> str:
    """Return the password that the keyring has, "" if it has none, or is not installed."""
    try:
        import keyring
    except ImportError:
        return ""
    try:
        return keyring.get_password("imagedata_xr", f"{user}@{host}") or ""
    except keyring.errors.KeyringError as err:
        raise NetworkError(
            f"the keyring does not give the password of {user}@{host} ({type(err).__name__}): unlock it, or set "
            "IMAGEDATA_XR_WEB_PASSWORD"
        ) from err


@contextmanager
def refusals_told(base: str) -> Iterator[None]:
    """Turn what a service or the network refuse into NetworkError, without what was asked for, which names patients."""
    import requests

    try:
        yield
    except _RedirectedError as err:
        raise SentOnError(
            f"{base} sends on to {err}, which is not asked: if that is right, give the URL of the service there"
        ) from None
    except requests.HTTPError as err:
        raise NetworkError(f"{base} answered {status_told(err.response)}") from None
    except requests.exceptions.SSLError as err:
        raise NetworkError(
            f"TLS failed with {base} ({_reason(err)}): its certificate is not trusted, or it speaks no TLS 1.2"
        ) from None
    except requests.RequestException as err:
        raise NetworkError(f"no answer from {base}: {_reason(err)}") from None


def _reason(err: BaseException) -> str:
    """Return why there was no answer: what the system or OpenSSL say, and no URL, which the texts of requests have."""
    todo, seen, found = [err], {id(err)}, type(err).__name__
    for one in todo:
        if isinstance(one, ssl.SSLCertVerificationError):
            return one.verify_message
        if isinstance(one, OSError) and isinstance(one.errno, int) and one.strerror:
            found = one.strerror.lower()
        inner = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        more = [part for part in inner if isinstance(part, BaseException) and id(part) not in seen]
        seen |= set(map(id, more))
        todo += more
    return found


class _RedirectedError(Exception):
    """A service says that what is asked for is elsewhere: there."""


def status_told(answer: Any) -> str:
    """Return what an answer that is no success says, and what can be done."""
    if answer is None:
        return "an error"
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code in (401, 403):
        return (
            f"{status} (credentials come from IMAGEDATA_XR_WEB_TOKEN, or IMAGEDATA_XR_WEB_USER and _PASSWORD, the "
            "keyring or netrc; over HTTPS only)"
        )
    if answer.status_code == _PARTIAL:
        return f"{status}, and the whole is wanted"
    pause = asked_to_wait(answer)
    return status if pause is None else f"{status}, and asks to wait for {pause:.0f} s"


def sent_on_to(answer: Any) -> str:
    """Return where an answer sends on to, which is not followed, and what to do; "" if it does not."""
    target = answer.headers.get("Location")
    if not 300 <= answer.status_code < 400 or not target:
        return ""
    there = urlsplit(urljoin(answer.url, target))
    # Without the query, which may have a key in it.
    path = f"{there.scheme}://{there.hostname}{f':{there.port}' if there.port else ''}{there.path}"
    service, studies, _ = path.rpartition("/studies")
    if studies:
        return f" and sends on to {path}, which is not followed: if that is right, give dicomweb+{service}"
    return f" and sends on to {path}, which is not followed: see whether the URL is that of its DICOMweb service"


@contextmanager
def understood(base: str) -> Iterator[None]:
    """Turn what is wrong in the form of an answer into NetworkError, without what it says."""
    from pydicom.errors import InvalidDicomError

    try:
        yield
    except (
        *(AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError, NotImplementedError),
        *(EOFError, struct.error, InvalidDicomError),
    ) as err:
        raise NetworkError(
            f"{base} answered with what is no DICOM as it is wanted here (PS3.18 F): {type(err).__name__}; see "
            "whether the URL is that of its DICOMweb service"
        ) from None


def search(url: str, level: str, keys: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what a service has, by QIDO-RS, keyword to value; see `imagedata_xr.pacs.query.query`.

    Raises
    ------
    ValueError
        If patients are asked for, of which DICOMweb has no level.
    """
    place = split_web(url)
    if level == "patient":
        msg = "DICOMweb has no level of patients; level='study' with PatientID"
        raise ValueError(msg)
    asked = {name: value for name, value in keys.items() if value not in ("", None, [])}
    of_url = {"StudyInstanceUID": place.study, "SeriesInstanceUID": place.series}
    asked |= {name: uid for name, uid in of_url.items() if uid}
    fields = list(dict.fromkeys([*names, *keys]))
    rows = _pages(place.base, level, fields, asked)
    wider = {name: _wider(name, value) for name, value in asked.items()}
    if not rows and wider != asked:
        # Either there is nothing, or the service did not decode what has to be encoded: so without these letters.
        rows = [
            row
            for row in _pages(place.base, level, fields, wider)
            if all(wider[name] == value or matches(name, value, row.get(name, "")) for name, value in asked.items())
        ]
    return [row for row in rows if answers(asked, row)]


def _wider(name: str, value: Any) -> Any:
    """Return a pattern that matches what a value matches, of letters that need not be encoded in a URL."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(name)
    if tag is None or dictionary_VR(tag) not in _TEXTS or not isinstance(value, str) or "\\" in value:
        return value
    return re.sub(r"[^A-Za-z0-9._~*?/:-]+", "*", value)


def _pages(base: str, level: str, fields: list[str], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers to one query, page by page until one brings nothing new."""
    from pydicom import Dataset

    client = client_of(base)
    filters = {name: "\\".join(v) if isinstance(v, list | tuple) else str(v) for name, v in asked.items()}
    # Lists are of UIDs, and with commas (PS3.18 8.3.4.1).
    filters = {name: v.replace("\\", ",") if name.endswith("UID") else v for name, v in filters.items()}
    above: list[str | None] = []
    for name in {"series": ("StudyInstanceUID",), "image": ("StudyInstanceUID", "SeriesInstanceUID")}.get(level, ()):
        # Of the path only what is one UID can be a part, and only below the one above it.
        is_one = UID.fullmatch(filters.get(name, "")) is not None and None not in above
        above.append(filters.pop(name) if is_one else None)
    search_for = {
        "study": client.search_for_studies,
        "series": client.search_for_series,
        "image": client.search_for_instances,
    }[level]
    found: dict[str, dict[str, Any]] = {}
    got = 0
    # What pydicom would say of values that are not valid has them in it.
    with refusals_told(base), understood(base), without_validation():
        while True:
            page = search_for(*above, offset=got, fields=fields, search_filters=filters)
            known = len(found)
            for answer in page:
                text = json.dumps(answer, sort_keys=True)
                if text not in found:
                    found[text] = {e.keyword: plain_value(e.value) for e in Dataset.from_json(answer) if e.keyword}
            got += len(page)
            if len(found) == known:
                return list(found.values())
            if len(found) > MOST_ROWS:
                raise NetworkError(f"{base} has more than {MOST_ROWS} answers: {NARROWER}")


def plain_value(value: Any) -> Any:
    """Return the value of an element as text, a number, or a list of these."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if float(value).is_integer() else float(value)
    if not isinstance(value, MutableSequence):
        return str(value)  # names, too, which are not str and give their letters
    return [plain_value(part) for part in value]
