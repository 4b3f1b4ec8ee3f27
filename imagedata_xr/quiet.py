"""Warnings and pydicom's validation, switched off while a block runs, and as they were when the last one has ended.

`warnings.catch_warnings` and `pydicom.config.disable_value_validation` set again what they have found. Where blocks of
two threads overlap the second finds what the first has switched off, and leaves it off for good.
"""

from __future__ import annotations

import itertools
import re
import threading
import warnings
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["filtered_warnings", "without_validation"]

_NUMBERS: Final = itertools.count()
_LOCK: Final = threading.Lock()
_VALIDATION: Final = ExitStack()
_users = 0
"""Blocks without validation that run now."""


@contextmanager
def filtered_warnings(
    action: Literal["ignore", "error"] = "ignore", message: str = "", category: type[Warning] = Warning
) -> Iterator[None]:
    """Ignore warnings while the block runs, or raise them; in all threads, as Python knows no other way.

    Parameters
    ----------
    action : {"ignore", "error"}
        What becomes of them.
    message : str
        Regular expression that matches the beginning of their text; by default that of all.
    category : type
        Their class.
    """
    # A filter that is like no other: Python has only one of those that are the same.
    text = f"(?#{next(_NUMBERS)}){message}"
    before: Any = warnings.filters
    warnings.filterwarnings(action, text, category)
    try:
        yield
    finally:
        ours = (action, re.compile(text, re.IGNORECASE), category, None, 0)
        now: Any = warnings.filters
        for filters in (before, now):
            with suppress(ValueError):  # it is in one of them, or both: another thread may have copied them
                filters.remove(ours)


@contextmanager
def without_validation() -> Iterator[None]:
    """Have pydicom take values that are not valid while the block runs, without a word: it would quote them."""
    global _users
    from pydicom.config import disable_value_validation

    with _LOCK:
        if not _users:
            _VALIDATION.enter_context(disable_value_validation())
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users:
                _VALIDATION.close()
