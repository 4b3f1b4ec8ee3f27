"""C-STORE: instances sent to a PACS, each accounted for."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from imagedata_xr.errors import NetworkError, NotStoredError
from imagedata_xr.pacs.association import MAX_CONTEXTS, NothingAcceptedError, associate, context
from imagedata_xr.pacs.commit import uncommitted
from imagedata_xr.pacs.encoding import FALLBACKS, EncodingError, encoded
from imagedata_xr.pacs.identity import check_identity
from imagedata_xr.pacs.instances import FileInstance, file_and_head, instances
from imagedata_xr.pacs.peer import peer_of
from imagedata_xr.pacs.report import Instance, Report, meaning
from imagedata_xr.pacs.stow import store
from imagedata_xr.pacs.web import is_web, split_web
from imagedata_xr.pacs.whole import DamagedError, check_whole, why_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from imagedata_xr.pacs.link import Link
    from imagedata_xr.pacs.peer import Peer
    from imagedata_xr.pacs.report import Status
    from imagedata_xr.sources import Source

__all__ = ["send"]

_Item = TypeVar("_Item")

_BROKEN: Final = 5
"""Associations that break or are refused one after the other, with nothing confirmed in between, before we give up; of
each of those at a time, or several would wait no longer than one for a PACS that starts anew."""
_ATTEMPTS: Final = 4
"""Times that one instance is sent."""
_PAUSE: Final = 0.2
"""Seconds before the second of these; doubled for each that follows."""


def send(
    source: Source,
    place: str | Peer,
    *,
    jobs: int = 1,
    commit: bool = False,
    progress: Callable[[int, int], None] | None = None,
    made_from: Iterable[str] = (),
    so_far: list[Instance] | None = None,
) -> Report:
    """Return what became of each instance of a source that was sent to a PACS.

    Instances are sent as they are encoded. Where the PACS does not take that, they are transcoded without loss. Where
    an association breaks, what was not confirmed is sent again. A file that is cut short or cannot be read is not sent,
    and the others are. Whatever is raised in the middle, such as KeyboardInterrupt, has a note of what was stored.

    Parameters
    ----------
    source : path or list of paths
        DICOM files, and folders and archives of them.
    place : str or Peer
        ``dicom://host:port/AETITLE``, a `imagedata_xr.pacs.peer.Peer`, or the URL of a DICOMweb service,
        ``dicomweb+https://server/path``.
    jobs : int
        Associations at a time. Where the PACS allows fewer, those do all.
    commit : bool
        Whether the PACS is asked, in the end, to commit itself to keep what it has stored; see
        `imagedata_xr.pacs.commit.uncommitted`. What it does not is unknown.
    progress : callable, optional
        Called after each instance with two numbers: of instances done, and of all.
    made_from : iterable of str
        UIDs that derived instances must not have, see `imagedata_xr.pacs.identity.check_identity`.
    so_far : list of Instance, optional
        A list to which is added what became of each instance, also where something is raised in the middle.

    Raises
    ------
    NotStoredError
        Unless all were stored; its `report` tells what became of each. (A warning is one that was stored, but not as it
        is; then Python warns.)
    ConflictingOriginError, MissingHeaderError
        If derived images do not say whose they are; nothing is sent then.
    FileNotFoundError, NoDicomError, UnreadableFileError
        If the source cannot be read; nothing is sent then.
    ValueError
        If `jobs` is less than 1, or a DICOMweb service is asked to commit itself.
    """
    web = _service(place, commit) if isinstance(place, str) and is_web(place) else ""
    peer = None if web else peer_of(place)
    if jobs < 1:
        msg = f"jobs={jobs}: at least one association is needed"
        raise ValueError(msg)
    files = instances(source)
    check_identity(files, others=made_from)
    done: dict[str, Instance] = {}
    try:
        if peer is None:
            store(web, files, done, progress)
        else:
            _Sending(peer, files, jobs, done, progress).run()
        report = Report(done[file.uid] for file in files)
        if commit and peer is not None:
            report = _with_commitment(report, files, peer)
    except BaseException as err:
        report = _broken_off(files, done, commit)
        err.add_note(f"{len(report)} instances were to be sent to {peer or web}: {report.summary}")
        if so_far is not None:
            so_far.extend(report)
        raise
    if so_far is not None:
        so_far.extend(report)
    return _checked(report, str(peer or web))


def _service(url: str, commit: bool) -> str:
    """Return the URL of the DICOMweb service that is sent to."""
    if commit:
        msg = "commit=True is of DIMSE; DICOMweb has no such thing, query() tells what is there"
        raise ValueError(msg)
    place = split_web(url)
    if place.study:
        msg = f"{url} names a study: give the URL of the service, dicomweb+{place.base}"
        raise ValueError(msg)
    return place.base


def _broken_off(files: list[FileInstance], done: dict[str, Instance], commit: bool) -> Report:
    """Return what is known of each instance where sending ended in the middle."""
    report = Report()
    for file in files:
        found = done.get(file.uid, Instance(file.uid, file.path, "unknown", None, "broken off before it was confirmed"))
        if commit and found.status in ("stored", "warning"):
            found = found._replace(status="unknown", reason="stored, but broken off before it was committed")
        report.append(found)
    return report


def _checked(report: Report, place: str) -> Report:
    """Return a report of instances that were all stored; warn of those that were changed."""
    if report.failed:
        raise _not_stored(report, place)
    changed = [instance for instance in report if instance.status == "warning"]
    if changed:
        warnings.warn(
            f"{len(changed)} of {len(report)} instances were stored by {place}, but not as they are: {report.summary}; "
            f"the first is {changed[0].path}: {changed[0].reason}",
            stacklevel=3,
        )
    return report


def _with_commitment(report: Report, files: list[FileInstance], peer: Peer) -> Report:
    """Return a report in which nothing is stored that the PACS does not say it has."""
    failed = {instance.uid for instance in report.failed}
    claimed = [file for file in files if file.uid not in failed]
    try:
        lacking = uncommitted(peer, claimed) if claimed else {}
    except NetworkError as err:
        lacking = dict.fromkeys((file.uid for file in claimed), f"not committed: {err}")
    return Report(
        instance._replace(status="unknown", reason=lacking[instance.uid]) if instance.uid in lacking else instance
        for instance in report
    )


def _not_stored(report: Report, place: str) -> NotStoredError:
    """Return the error that tells of a report."""
    first = report.failed[0]
    return NotStoredError(
        f"{len(report.failed)} of {len(report)} instances are not known to be stored by {place}: {report.summary}. "
        f"The first is {first.path}: {first.reason}. Send those in the error's report.failed again",
        report,
    )


class _Sending:
    """Instances on their way, by several associations."""

    def __init__(
        self,
        peer: Peer,
        files: list[FileInstance],
        jobs: int,
        done: dict[str, Instance],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.peer, self.files, self.jobs, self.done, self.progress = peer, files, jobs, done, progress
        self.attempts = [0] * len(files)
        self.todo: deque[int] = deque()
        self.refused: list[int] = []
        """Those in a transfer syntax that the peer does not take."""
        self.lock = threading.Lock()
        self.connected = 0
        self.confirmed = 0
        self.problem = ""
        self.stopped = False

    def run(self) -> None:
        """Send all, and note what became of each."""
        pairs = [(file.sop_class, file.syntax) for file in self.files]
        rest = list(dict.fromkeys(pairs))
        for some in _batches(rest, MAX_CONTEXTS):
            self._send([n for n, pair in enumerate(pairs) if pair in some], some)
        for classes in _batches(
            sorted({self.files[n].sop_class for n in self.refused}), MAX_CONTEXTS // len(FALLBACKS)
        ):
            numbers = [n for n in self.refused if self.files[n].sop_class in classes]
            self.refused = [n for n in self.refused if n not in set(numbers)]
            self._send(numbers, [(sop_class, syntax) for sop_class in classes for syntax in FALLBACKS])
            for n in self.refused[:]:
                if n in set(numbers):
                    self._settle(n, "refused", None, self._not_taken(self.files[n]))
                    self.refused.remove(n)
        for n, file in enumerate(self.files):
            if file.uid not in self.done:
                never = "" if self.attempts[n] else "not sent, "
                self._settle(n, "unknown", None, f"{never}{self.problem}")

    def _not_taken(self, file: FileInstance) -> str:
        from pydicom.uid import UID

        tried = ", ".join(UID(syntax).name for syntax in dict.fromkeys((file.syntax, *FALLBACKS)))
        return f"it takes no {UID(file.sop_class).name} as {tried}"

    def _send(self, numbers: list[int], contexts: list[tuple[str, str]]) -> None:
        """Send some instances, within the presentation contexts of one association."""
        if self.stopped or not numbers:
            return
        self.todo.extend(numbers)
        jobs = min(self.jobs, len(numbers))
        if jobs == 1:
            # In the main thread, where an interrupt ends it.
            self._work(contexts)
            return
        with ThreadPoolExecutor(jobs, thread_name_prefix="C-STORE") as pool:
            workers = [pool.submit(self._work, contexts, number) for number in range(jobs)]
            try:
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                # One has raised, or we were interrupted: the others end, too.
                if not all(worker.done() for worker in workers):
                    self.stopped = True
        for worker in workers:
            worker.result()

    def _work(self, contexts: list[tuple[str, str]], number: int = 0) -> None:
        """Send what is there to send, by one association after the other; `number` is that of the thread."""
        broken, confirmed = 0, self.confirmed
        while self.todo and not self.stopped:
            try:
                with associate(self.peer, [context(sop, [syntax]) for sop, syntax in contexts]) as link:
                    with self.lock:
                        self.connected += 1
                    try:
                        with link.paused():
                            is_whole = self._send_by(link)
                    finally:
                        with self.lock:
                            self.connected -= 1
                    if is_whole:
                        continue
                    link.abort()
                    self.problem = f"the association broke before it was confirmed{self._sent_by_peer(link)}"
            except NothingAcceptedError:
                with self.lock:
                    self.refused.extend(self.todo)
                    self.todo.clear()
                return
            except NetworkError as err:
                self.problem = str(err)
                if self.connected:
                    return  # the peer allows no more at a time; the others do what is left
            if self.confirmed != confirmed:
                broken, confirmed = 0, self.confirmed
            broken += 1
            if broken >= _BROKEN:
                self.stopped = True
            if self.todo and not self.stopped:
                # Threads that came at the same time, and were all too many, do not come again at the same time.
                time.sleep(_PAUSE * 2 ** (broken - 1) * (1 + number / 2))

    def _sent_by_peer(self, link: Link) -> str:
        """Return what the peer sent for which we ended an association, "" if we did not."""
        return f": {self.peer} sent {link.refused}" if link.refused else ""

    def _send_by(self, link: Link) -> bool:
        """Send by an association until nothing is left; return whether it is still whole."""
        ids: dict[tuple[str, str], int] = {}
        for accepted in link.accepted_contexts:
            if accepted.abstract_syntax is not None and accepted.context_id is not None:
                ids[accepted.abstract_syntax, accepted.transfer_syntax[0]] = accepted.context_id
        while not self.stopped:
            try:
                n = self.todo.popleft()
            except IndexError:
                break
            file = self.files[n]
            found = next((syntax for syntax in (file.syntax, *FALLBACKS) if (file.sop_class, syntax) in ids), None)
            if found is None:
                with self.lock:
                    self.refused.append(n)
                continue
            try:
                data, begin = file_and_head(file.path)
                data = data[begin:]
                check_whole(file, data)
                if found != file.syntax:
                    data = encoded(file.path, found)
            except EncodingError as err:
                self._settle(n, "refused", None, f"it does not take its transfer syntax, and {err}")
                continue
            except (DamagedError, OSError) as err:
                # What was sent before, and not confirmed, may be there.
                self._settle(n, "unknown" if self.attempts[n] else "refused", None, why_unreadable(err))
                continue
            self.attempts[n] += 1
            code = link.store(file.sop_class, file.uid, ids[file.sop_class, found], data, n + 1)
            if code is None:
                if self.attempts[n] < _ATTEMPTS:
                    self.todo.append(n)
                else:
                    why = f"sent {_ATTEMPTS} times, and never confirmed"
                    self._settle(n, "unknown", None, why + self._sent_by_peer(link))
                return False
            with self.lock:
                self.confirmed += 1
            status, reason = meaning(code)
            self._settle(n, status, code, reason)
        return True

    def _settle(self, n: int, status: Status, code: int | None, reason: str) -> None:
        """Note what became of an instance."""
        with self.lock:
            file = self.files[n]
            self.done[file.uid] = Instance(file.uid, file.path, status, code, reason)
            if self.progress is None:
                return
            try:
                self.progress(len(self.done), len(self.files))
            except BaseException:
                self.stopped = True  # before the association is ended, which takes time: the others end, too
                raise


def _batches(items: list[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield so many items at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
