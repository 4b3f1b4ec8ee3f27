"""DICOMweb: what is found, and stored, by HTTP."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from imagedata_xr.errors import NetworkError
from imagedata_xr.pacs.identity import UID
from imagedata_xr.pacs.report import Instance, Report
from imagedata_xr.pacs.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagedata_xr.pacs.instances import FileInstance

__all__ = [
    "WEB_SCHEMES",
    "WebPlace",
    "client_of",
    "is_web",
    "plain_value",
    "refusals_told",
    "search",
    "split_web",
    "store",
]

WEB_SCHEMES: Final = ("dicomweb+https", "dicomweb+http")
_TIMEOUT: Final = 60.0
_AT_A_TIME: Final = 20
_ATTEMPTS: Final = 3
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


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
    ImportError
        If dicomweb-client is not installed.
    """
    try:
        from dicomweb_client.api import DICOMwebClient
    except ImportError as err:
        msg = 'DICOMweb needs dicomweb-client: pip install "imagedata_xr[dicomweb]"'
        raise ImportError(msg) from err
    import requests

    session = requests.Session()
    parts = urlsplit(base)
    if parts.scheme == "https":
        session.mount("https://", _adapter())
        session.verify = os.environ.get("IMAGEDATA_XR_TLS_CA") or True
    if parts.scheme == "https" or parts.hostname in _LOCAL:
        _authenticate(session, parts.hostname or "")
    else:
        session.trust_env = False  # a password of netrc would be seen on the way
    client = DICOMwebClient(base, session=session, permissive_uid=True, timeout=_TIMEOUT)
    client.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=200)
    return client


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=client_context(), **options)

    return Adapter()


def _authenticate(session: Any, host: str) -> None:
    """Give a session the credentials that the environment or the keyring have."""
    token, user = os.environ.get("IMAGEDATA_XR_WEB_TOKEN"), os.environ.get("IMAGEDATA_XR_WEB_USER")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
        session.trust_env = False  # or netrc would replace it
    elif user:
        password = os.environ.get("IMAGEDATA_XR_WEB_PASSWORD")
        if password is None:
            try:
                import keyring
            except ImportError:
                password = ""
            else:
                password = keyring.get_password("imagedata_xr", f"{user}@{host}") or ""
        session.auth = (user, password)


@contextmanager
def refusals_told(base: str) -> Iterator[None]:
    """Turn what a service or the network refuse into NetworkError, without what was asked for, which names patients."""
    import requests

    try:
        yield
    except requests.HTTPError as err:
        status = f"{err.response.status_code} {err.response.reason}" if err.response is not None else "an error"
        raise NetworkError(f"{base} answered {status}") from None
    except requests.exceptions.SSLError:
        raise NetworkError(f"TLS failed with {base}: its certificate is not trusted, or it speaks no TLS 1.2") from None
    except requests.RequestException as err:
        raise NetworkError(f"no answer from {base}: {type(err).__name__}") from None


def search(url: str, level: str, keys: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what a service has, by QIDO-RS, keyword to value; see `imagedata_xr.pacs.query.query`."""
    from pydicom import Dataset

    place = split_web(url)
    client = client_of(place.base)
    filters = {name: "\\".join(v) if isinstance(v, list) else v for name, v in keys.items() if v not in ("", None)}
    fields = list(dict.fromkeys([*names, *keys]))
    study = place.study or filters.pop("StudyInstanceUID", None)
    series = place.series or (filters.pop("SeriesInstanceUID", None) if level == "image" else None)
    with refusals_told(place.base):
        if level == "study":
            if study:
                filters["StudyInstanceUID"] = study
            found = client.search_for_studies(fields=fields, search_filters=filters, get_remaining=True)
        elif level == "series":
            found = client.search_for_series(study, fields=fields, search_filters=filters, get_remaining=True)
        elif level == "image":
            found = client.search_for_instances(
                study, series, fields=fields, search_filters=filters, get_remaining=True
            )
        else:
            msg = "DICOMweb has no level of patients; level='study' with PatientID"
            raise ValueError(msg)
    rows = []
    for answer in found:
        dataset = Dataset.from_json(answer)
        rows.append({e.keyword: plain_value(e.value) for e in dataset if e.keyword})
    return rows


def plain_value(value: Any) -> Any:
    """Return the value of an element as text, a number, or a list of these."""
    from pydicom.valuerep import PersonName

    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if float(value).is_integer() else float(value)
    # A name of a person can be iterated over, letter by letter, and is no str.
    if isinstance(value, str | PersonName) or not hasattr(value, "__iter__"):
        return str(value)
    return [plain_value(part) for part in value]


def store(base: str, files: list[FileInstance], progress: Callable[[int, int], None] | None = None) -> Report:
    """Return what became of each instance that was stored by STOW-RS."""
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    client = client_of(base)
    done: dict[str, Instance] = {}
    for start in range(0, len(files), _AT_A_TIME):
        some = files[start : start + _AT_A_TIME]
        for _ in range(_ATTEMPTS):
            left = [file for file in some if done.get(file.uid, _UNSENT).status == "unknown"]
            if not left:
                break
            try:
                with refusals_told(base), disable_value_validation():
                    answer = client.store_instances([dcmread(file.path) for file in left])
            except NetworkError as err:
                done.update({f.uid: Instance(f.uid, f.path, "unknown", None, str(err)) for f in left})
                continue
            done.update(_answered(answer, left))
        if progress is not None:
            progress(len(done), len(files))
    return Report(done[file.uid] for file in files)


_UNSENT: Final = Instance("", "", "unknown")


def _answered(answer: Any, files: list[FileInstance]) -> dict[str, Instance]:
    """Return what an answer says of each instance (PS3.18 10.5.3)."""
    stored = {str(i.ReferencedSOPInstanceUID): i for i in answer.get("ReferencedSOPSequence") or []}
    failed = {str(i.ReferencedSOPInstanceUID): i for i in answer.get("FailedSOPSequence") or []}
    found = {}
    for file in files:
        if file.uid in failed:
            code = int(failed[file.uid].get("FailureReason") or 0)
            found[file.uid] = Instance(file.uid, file.path, "refused", code, f"refused (0x{code:04X})")
        elif file.uid in stored:
            warning = stored[file.uid].get("WarningReason")
            code = int(warning or 0)
            kind = ("warning", f"changed (0x{code:04X})") if code else ("stored", "")
            found[file.uid] = Instance(file.uid, file.path, kind[0], code, kind[1])  # type: ignore[arg-type]
        else:
            found[file.uid] = Instance(file.uid, file.path, "unknown", None, "the answer does not name it")
    return found
