"""Files that were made to the disk."""

from __future__ import annotations

import os
from collections import deque
from threading import local
from typing import TYPE_CHECKING, Final

from imagedata_xr.dicom.parts import LyingPixels, RescaledPixels, Room

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Part", "Parts", "Saver"]

Part = bytes | memoryview | LyingPixels | RescaledPixels
Parts = tuple[Part, ...]
"""A file, in parts that follow each other."""

_AT_ONCE: Final = 40
"""Files at most that are written together."""
_MOST_HELD: Final = 8_000_000
"""Bytes in memory from which on fewer are."""
_MOST_SAVING: Final = 2
"""Such lots that wait to be written, made already."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Saver:
    """Writes files, in threads: while the next ones are made, or with all threads before that.

    A thread that has to do little between two calls of the system waits for the interpreter longer than for the disk,
    while another makes files. So they are made and written in turns, unless what makes them is arithmetic, which frees
    the interpreter.
    """

    def __init__(self, threads: ThreadPoolExecutor, count: int, *, in_turns: bool) -> None:
        self._threads = threads
        self._count = count
        self._in_turns = in_turns
        self._saving: deque[Future[None]] = deque()
        self._lot: deque[tuple[str, Parts]] = deque()
        self._held = 0
        self._own = local()

    def add(self, path: str, parts: Parts) -> None:
        """Take a new file that is to be written; write, or wait, if many are taken already."""
        self._lot.append((path, parts))
        self._held += sum([len(part) if isinstance(part, bytes | memoryview) else part.held for part in parts])
        if len(self._lot) == _AT_ONCE or self._held >= _MOST_HELD:
            self.hand_over()

    def hand_over(self) -> None:
        """Write what was taken, or let it be written."""
        lot, self._lot, self._held = self._lot, deque(), 0
        helping = min(self._count, len(lot) - 1 if self._in_turns else len(lot))
        self._saving.extend([self._threads.submit(self._save, lot) for _ in range(helping)])
        if self._in_turns:
            self._save(lot)
        while self._saving and (self._in_turns or len(self._saving) > _MOST_SAVING * self._count):
            self._saving.popleft().result()

    def wait(self) -> None:
        """Return when all is written that was handed over."""
        for saved in self._saving:
            saved.result()

    def _save(self, lot: deque[tuple[str, Parts]]) -> None:
        """Write new files, until none is left; a stream and its buffers would cost as much as the rest of a frame."""
        room: Room | None = getattr(self._own, "room", None)
        if room is None:
            self._own.room = room = Room()
        while True:
            try:
                path, parts = lot.popleft()
            except IndexError:
                return
            whole = [part if isinstance(part, bytes | memoryview) else part.value(room) for part in parts]
            handle = os.open(path, _NEW, 0o666)
            try:
                done = os.writev(handle, whole) if hasattr(os, "writev") else 0
                if done < sum(map(len, whole)):
                    left = memoryview(b"".join(whole))[done:]
                    while left:
                        left = left[os.write(handle, left) :]
            finally:
                os.close(handle)
