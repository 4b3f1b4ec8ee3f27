"""A folder for instances that come over the network: names of our own, whole files, limits."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.pacs.identity import UID
from imagedata_xr.pacs.instances import file_head, identifiers
from imagedata_xr.pacs.whole import DamagedError, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["KEEP_FREE", "Inbox"]

_STORED, _OUT_OF_RESOURCES, _DUPLICATE, _MISMATCH, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0x0111, 0xA900, 0xC000
KEEP_FREE: Final = 1 << 28
"""Bytes of a disk that are left free."""
_TOLD: Final = 10_000
"""Refused instances of which the reason is kept."""


class Inbox:
    """Keeps instances in a folder, one file each, named after a digest of the SOPInstanceUID.

    Parameters
    ----------
    folder : Path
        Where the files go; it is made if need be.
    largest_total : int, optional
        Bytes that all may take; None: as many as the disk has.
    keep_free : int
        Bytes of the disk that are left free.
    arrived : callable, optional
        Called with each file that has come. It is kept and confirmed whatever this raises; `wait` and
        `raise_errors` raise that.
    unwanted : callable, optional
        Called with what a data set says it is (`imagedata_xr.pacs.instances.identifiers`); what it returns is why the
        instance is refused, "" if it is not.
    turned_away : callable, optional
        Called with the SOPInstanceUID of each instance that is refused, and why. What it raises is raised as that of
        `arrived`.
    only_here : bool
        Whether who sends an instance may delete its own when it is confirmed, so that it has to be on the disk by then;
        a PACS that something is fetched from does not, and this takes a third of the time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        largest_total: int | None = None,
        keep_free: int = KEEP_FREE,
        arrived: Callable[[Path], None] | None = None,
        unwanted: Callable[[Mapping[str, str]], str] | None = None,
        turned_away: Callable[[str, str], None] | None = None,
        only_here: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.keep_free, self.arrived, self.turned_away = folder, keep_free, arrived, turned_away
        self.files: dict[str, Path] = {}
        """File of each SOPInstanceUID that came."""
        self.refused = 0
        self.reasons: dict[str, str] = {}
        """Why an instance was refused, by the SOPInstanceUID under which it came."""
        self.disputed: set[str] = set()
        """Those of which another version came."""
        self._errors: list[BaseException] = []
        self._unwanted, self._only_here = unwanted, only_here
        self._left, self._lock = largest_total, threading.Condition()

    def take(self, event: Any) -> int:
        """Keep the instance of a C-STORE request, and return the status to answer with."""
        uid = str(event.request.AffectedSOPInstanceUID)
        status, why = self._keep(event)
        if status == _STORED:
            self._announce(self.files[uid])
        elif self.turned_away is not None:
            try:
                self.turned_away(uid, why)
            except BaseException as err:
                with self._lock:
                    self._errors.append(err)
        with self._lock:
            self.refused += status != _STORED
            if not why and uid not in self.disputed:
                self.reasons.pop(uid, None)  # damaged on its way before, say
            if why and len(self.reasons) < _TOLD:
                self.reasons[uid] = why
            self._lock.notify_all()
        return status

    def _announce(self, file: Path) -> None:
        """Tell that a file has come; an error in what is told says nothing of the file, which is kept."""
        if self.arrived is None:
            return
        try:
            self.arrived(file)
        except BaseException as err:
            # Of any kind, also SystemExit: this is a thread of the network, and who waits is to have it.
            err.add_note(f"raised by arrived= of {file}, which is kept and confirmed to its sender")
            with self._lock:
                self._errors.append(err)

    def wait(self, count: int, timeout: float | None = None) -> bool:
        """Return whether so many instances have come, after waiting for them; raise what `arrived` raised."""
        with self._lock:
            self._lock.wait_for(lambda: len(self.files) >= count or bool(self._errors), timeout)
        self.raise_errors()
        return len(self.files) >= count

    def raise_errors(self) -> None:
        """Raise the first error of `arrived` that was not raised yet, if there is one."""
        with self._lock:
            errors, self._errors = self._errors, []
        if errors:
            if len(errors) > 1:
                errors[0].add_note(f"and for {len(errors) - 1} other files it raised, too")
            raise errors[0]

    def _keep(self, event: Any) -> tuple[int, str]:
        """Keep an instance; return the status, and why it was refused."""
        uid, sop_class = str(event.request.AffectedSOPInstanceUID), str(event.request.AffectedSOPClassUID)
        # Neither goes into a path, but both go into the file, and from there to who reads it.
        if not UID.fullmatch(uid) or not UID.fullmatch(sop_class) or event.request.DataSet is None:
            return _CANNOT_UNDERSTAND, "it has no UIDs as in the standard (PS3.5 9.1), or no data set"
        syntax = str(event.context.transfer_syntax)
        try:
            identity_of(event.request.DataSet.getbuffer(), syntax)
            event.request.DataSet.seek(0)
            found = identifiers(event.request.DataSet, syntax)
        except (DamagedError, UnreadableFileError) as err:
            return _CANNOT_UNDERSTAND, str(err)
        for name, value in (("SOPInstanceUID", uid), ("SOPClassUID", sop_class)):
            if found[name] != value:
                return _MISMATCH, f"its data set has another {name} than it was sent under"
        if self._unwanted is not None and (why := self._unwanted(found)):
            return _MISMATCH, why
        head, body = file_head(sop_class, uid, syntax), event.request.DataSet.getbuffer()
        size = len(head) + len(body)
        name = hashlib.sha256(uid.encode()).hexdigest()[:32]
        file, part = self.folder / f"{name}.dcm", self.folder / f".{name}.{secrets.token_hex(6)}.part"
        with self._lock:
            if self._left is not None and size > self._left:
                return _OUT_OF_RESOURCES, f"it has {size} bytes, and of those that all may take {self._left} are left"
            try:
                free = shutil.disk_usage(self.folder).free
            except OSError as err:
                return _OUT_OF_RESOURCES, f"its folder cannot be written to: {err.strerror or type(err).__name__}"
            if free - size < self.keep_free:
                told = f"it has {size} bytes, and the disk {free}, of which {self.keep_free} are to be left free"
                return _OUT_OF_RESOURCES, told
            if self._left is not None:
                self._left -= size
        is_kept = False
        try:
            with part.open("xb") as out:
                out.write(head)
                out.write(body)
                if self._only_here:
                    out.flush()
                    os.fsync(out.fileno())
            # Never replaced: who sends an instance again has the same, and who sends another is not to be believed.
            try:
                os.link(part, file)
                is_kept = True
                if self._only_here:
                    _name_kept(self.folder)
            except FileExistsError:
                if not _same(part, file):
                    with self._lock:
                        self.disputed.add(uid)
                    return _DUPLICATE, f"{file} has another version of it, which is kept: fetch into an empty folder"
        except OSError as err:
            return _OUT_OF_RESOURCES, f"it cannot be written: {err.strerror or type(err).__name__}"
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if not is_kept and self._left is not None:
                with self._lock:
                    self._left += size
        with self._lock:
            self.files[uid] = file
        return _STORED, ""


def _name_kept(folder: Path) -> None:
    """Have the names in a folder written to the disk: who is told that a file is kept may delete its own."""
    with suppress(OSError):  # some systems do so anyway, and know no such thing of folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while piece := a.read(1 << 20):
            if piece != b.read(1 << 20):
                return False
    return True
