"""STOW-RS: files sent by HTTP, byte for byte, and what the service says of each."""

from __future__ import annotations

import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imagedata_xr.errors import NetworkError
from imagedata_xr.pacs.instances import file_and_head
from imagedata_xr.pacs.report import Instance, meaning
from imagedata_xr.pacs.web import (
    LONGEST_PAUSE,
    TIMEOUT,
    SentOnError,
    asked_to_wait,
    client_of,
    refusals_told,
    sent_on_to,
    status_told,
)
from imagedata_xr.pacs.whole import DamagedError, check_whole, why_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagedata_xr.pacs.instances import FileInstance

__all__ = ["store"]

_AT_A_TIME: Final = 20
_BYTES: Final = 1 << 26
"""Instances and bytes of one request; a larger instance goes alone."""
_ATTEMPTS: Final = 3
"""Times that one instance is sent."""
_PAUSE: Final = 0.2
"""Seconds before the second of these; twice as long before the third."""
_BUSY: Final = (429, 503)
"""Statuses by which a service says that the fault is its own; it may be better another time."""
_SILENT: Final = 3
"""Requests that are not answered by the service one after the other before we give up."""
_SILENT_PAUSE: Final = 1.0
"""Seconds before the second of these, where it does not say how long; twice as long before the third."""
_FAILED: Final = 5
"""Instances, each sent alone, that a service answers with an error of its own (5xx) one after the other before we give
up; where it has told of others, as many as are sent at a time."""
_TOO_LARGE: Final = 413
_OF_A_GATEWAY: Final = (408, 502, 504)
"""Statuses that a gateway gives where the service behind it does not answer."""
_TELLING: Final = (200, 202, 400, 409)
"""Statuses of answers that tell of each instance (PS3.18 10.5.3)."""
_HOPELESS: Final = (401, 403, 404, 405, 407)
"""Statuses that are no better for another instance, or another time; and so are those that send on (3xx)."""


class _Answer(NamedTuple):
    """What became of one request."""

    code: int | None
    """Status, None where there was no answer."""
    told: dict[str, Instance]
    """What became of each instance, by SOPInstanceUID."""
    reason: str
    """What was answered, in words."""
    wait: float | None
    """Seconds that the service asks us to wait, None where it does not."""
    is_hopeless: bool = False
    """Whether another instance, or another time, would fare no better."""
    has_told: bool = False
    """Whether it says of an instance what became of it."""


def store(
    base: str,
    files: list[FileInstance],
    done: dict[str, Instance],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Send files by STOW-RS, and note what became of each.

    Parameters
    ----------
    base : str
        URL of the service.
    files : list of FileInstance
        What is sent.
    done : dict
        What became of each, by SOPInstanceUID, is put here as soon as it is known.
    progress : callable, optional
        Called with the numbers of instances done and of all.
    """
    session = client_of(base)._session
    hopeless, reason, silent, pause, is_busy, failed, has_told = "", "", 0, 0.0, False, 0, False
    batches = _Batches(files, done)
    for some in batches:
        for attempt in range(_ATTEMPTS):
            left = [(file, data) for file, data in some if file.uid not in done or done[file.uid].status == "unknown"]
            if not left or hopeless:
                break
            pause = pause or _PAUSE * attempt
            # What goes wrong with many at a time may be the fault of one, unless the service says that it is its own.
            parts = deque([left] if attempt == 0 or is_busy else [[one] for one in left])
            while parts:
                part = parts.popleft()
                time.sleep(pause)
                answer = _posted(session, base, part)
                reason = answer.reason
                done.update(answer.told)
                has_told |= answer.has_told
                is_silent = answer.code is None or answer.code in (*_BUSY, *_OF_A_GATEWAY)
                silent = silent + 1 if is_silent else 0
                if not is_silent and len(part) == 1:
                    failed = failed + 1 if (answer.code or 0) >= 500 else 0
                is_busy = answer.wait is not None or answer.code in _BUSY
                pause = _SILENT_PAUSE * silent if answer.wait is None else answer.wait
                if answer.is_hopeless or pause > LONGEST_PAUSE:
                    hopeless = answer.reason
                elif silent == _SILENT:
                    # The next batch would fare no better, and there may be thousands.
                    hopeless = f"{answer.reason}, and {_SILENT} requests in a row had no better answer"
                elif failed == (_AT_A_TIME if has_told else _FAILED):
                    hopeless = f"{answer.reason}, and for {failed} instances in a row, each alone, no better"
                elif answer.code == _TOO_LARGE:
                    if len(part) == 1:
                        file = part[0][0]
                        done[file.uid] = Instance(file.uid, file.path, "refused", None, answer.reason)
                    else:
                        batches.halve(part)
                        parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
                if is_busy or hopeless:
                    break
        for file, _ in some:
            done.setdefault(file.uid, Instance(file.uid, file.path, "unknown", None, f"not sent, {hopeless or reason}"))
        if progress is not None:
            progress(len(done), len(files))


class _Batches:
    """Instances and their files, a request at a time; what cannot be read is noted."""

    def __init__(self, files: list[FileInstance], done: dict[str, Instance]) -> None:
        self.files, self.done, self.most = files, done, _BYTES

    def halve(self, part: list[tuple[FileInstance, bytes]]) -> None:
        """Have no more bytes in further requests than in half of one that was too large."""
        self.most = min(self.most, sum(len(data) for _, data in part) // 2)

    def __iter__(self) -> Iterator[list[tuple[FileInstance, bytes]]]:
        some: list[tuple[FileInstance, bytes]] = []
        size = 0
        for file in self.files:
            try:
                data = _whole(file)
            except (DamagedError, OSError) as err:
                self.done[file.uid] = Instance(file.uid, file.path, "refused", None, why_unreadable(err))
                continue
            if some and (len(some) == _AT_A_TIME or size + len(data) > self.most):
                yield some
                some, size = [], 0
            some.append((file, data))
            size += len(data)
        yield some


def _whole(file: FileInstance) -> bytes:
    """Return the bytes of a file, after a look whether it is whole."""
    data, begin = file_and_head(file.path)
    check_whole(file, memoryview(data)[begin:])
    return data


def _posted(session: Any, base: str, part: list[tuple[FileInstance, bytes]]) -> _Answer:
    """Return what became of a request."""
    boundary = secrets.token_hex(16)
    body = b"".join(
        piece
        for _, data in part
        for piece in (f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(), data)
    )
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
        "Accept": "application/dicom+json",
    }
    files = [file for file, _ in part]

    def unknown(reason: str) -> dict[str, Instance]:
        return {f.uid: Instance(f.uid, f.path, "unknown", None, reason) for f in files}

    try:
        with refusals_told(base):
            # Not to where it may be redirected: that may be another machine, or without TLS.
            answer = session.post(
                f"{base}/studies",
                data=body + f"\r\n--{boundary}--\r\n".encode(),
                headers=headers,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
    except NetworkError as err:
        return _Answer(None, unknown(str(err)), str(err), None, isinstance(err, SentOnError))
    code = answer.status_code
    told = _told(answer) if code in _TELLING else {}
    reason = f"{base} answered {status_told(answer)}{sent_on_to(answer)}"
    found = unknown(f"{reason}, and does not say what became of it")
    found |= {f.uid: told[f.uid]._replace(path=f.path) for f in files if f.uid in told}
    return _Answer(code, found, reason, asked_to_wait(answer), code in _HOPELESS or 300 <= code < 400, bool(told))


def _told(answer: Any) -> dict[str, Instance]:
    """Return what the body of an answer says of instances (PS3.18 10.5.3); nothing where it is no DICOM JSON."""
    found: dict[str, Instance] = {}
    try:
        document = answer.json()
        (document,) = document if isinstance(document, list) else [document]
        # Where all failed, nothing is stored, whatever else is said; and who is said to have failed has.
        if answer.status_code in (200, 202):
            for item in _items(document, "00081199"):
                code = int(_first(item, "00081196") or 0)
                uid = str(_first(item, "00081155"))
                found[uid] = Instance(uid, "", "warning" if code else "stored", code, meaning(code)[1])
        for item in _items(document, "00081198"):
            code = int(_first(item, "00081197") or 0)
            uid = str(_first(item, "00081155"))
            found[uid] = Instance(uid, "", "refused", code, meaning(code)[1] or "refused without a reason")
    except (ValueError, TypeError, AttributeError, LookupError):
        return {}
    return found


def _items(item: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """Return the items of a sequence in DICOM JSON (PS3.18 F.2)."""
    return list(item.get(tag, {}).get("Value") or [])


def _first(item: dict[str, Any], tag: str) -> Any:
    """Return the first value of an element in DICOM JSON."""
    return (item.get(tag, {}).get("Value") or [None])[0]
