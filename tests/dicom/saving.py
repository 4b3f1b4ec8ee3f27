"""Files that are saved as a writer does it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imagedata_xr.dicom.save import Saver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagedata_xr.dicom.save import Parts

__all__ = ["save"]


def save(files: Iterable[tuple[str, Parts]], *, in_turns: bool) -> None:
    """Save files, each a path and its parts, with two threads."""
    with ThreadPoolExecutor(2) as threads:
        saver = Saver(threads, 2, in_turns=in_turns)
        for path, parts in files:
            saver.add(path, parts)
        saver.hand_over()
        saver.wait()
