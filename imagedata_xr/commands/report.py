"""What a command tells, and where: data on standard output, the rest on standard error; and its exit status."""

from __future__ import annotations

import builtins
import csv
import json
import math
import os
import re
import sys
import traceback
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr import errors

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "ALL_DONE",
    "NETWORK",
    "NOTHING_FOUND",
    "PARTLY",
    "SCHEMA",
    "UNSORTABLE",
    "UNWRITABLE",
    "NoneDoneError",
    "UsageError",
    "flush",
    "guarded",
    "plain",
    "print_csv",
    "print_json",
    "print_table",
    "progress_bar",
    "say",
    "status_named",
    "status_of",
    "tell",
    "tell_damaged",
    "told_damaged",
    "while_read",
]

ALL_DONE, UNEXPECTED, USAGE, NOTHING_FOUND, UNSORTABLE, PARTLY, UNWRITABLE, NETWORK, INTERRUPTED = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    130,
)
SCHEMA: Final = 1
"""Version of the JSON documents: it changes when a name or meaning in them does."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UsageError(ValueError):
    """The arguments do not go together."""


class NoneDoneError(ValueError):
    """No series was done: its cause is what was wrong with the first one."""


_STATUS: Final = (
    (UsageError, USAGE),
    ((errors.NoDicomError, FileNotFoundError, NotADirectoryError, errors.UnreadableFileError), NOTHING_FOUND),
    ((errors.MixedSeriesError, errors.NotAStackError, errors.MissingFramesError, errors.OrderError), UNSORTABLE),
    ((errors.DuplicateFramesError, errors.GeometryError, errors.PairingError), UNSORTABLE),
    ((errors.ConflictingOriginError, errors.MissingHeaderError, errors.ValuesNotStorableError), UNWRITABLE),
    (ConnectionError, NETWORK),
    ((FileExistsError, PermissionError, OSError), UNWRITABLE),
)


_AS_OPTIONS: Final = {
    "overwrite=True": "--force",
    "give calling=": "give --calling",
    "certificate=, key= and ca=": "--cert, --key and --ca",
    "leave it out with errors='warn'": "move it away",
    "give geometry='image' (elsewhere=True of copy_headers) to keep the one, geometry=template to take the other": (
        "give --geometry image to keep the one, --geometry and the template to take the other"
    ),
    "give template=": "give --template",
    "write with nan=0 (or another number), or fill them first (fillna)": (
        "compute others first, as in image_data calc OUT 'where(isnan(a), 0, a)' IN"
    ),
    "keep_uid=True": "--keep-uid",
    "assign_geometry(da, like=other)": "--geometry OTHER",
    "say which with format=": "say which with --input-format",
    "where= passes none": "--input_acquisition or --input_echo passes none",
    "with series= or where=": "with --series",
    "with series= (": "with --series (",
    "open all with open_study(source), or read them as one with merge=True": "or read them as one with --merge",
    ", or open all with open_study(source)": "",
    "Name the dims with order=, tell frames apart by a function of the header, order={name: function}, or": (
        "Name the dims with --order, or"
    ),
    "order={name: function} tells them apart by a function of the header; ": "",
    "with missing= and duplicates=": "with --input_options missing=fill or duplicates=first, last or stack",
}
"""What the functions call what the commands call otherwise; none of these has an option to leave out a file."""

_AS_VALUES: Final = (
    (
        re.compile(r"Open some of them, as with where=lambda .*, name the dims with order="),
        "Name the dims with --order",
    ),
    (re.compile(r", or with where=lambda header: header\.get\(.*?\) == \.\.\."), ""),
    (re.compile(r"\border=('[^']*\([^']*')"), r"--order \1"),
    (re.compile(r"\border='([^']*)'"), r"--order \1"),
    (re.compile(r"\b(missing|duplicates)='(\w+)'"), r"--input_options \1=\2"),
)
"""The same of arguments with a value, or with a function, for which there is no option."""


def status_of(err: BaseException) -> int:
    """Return the exit status that tells of an error."""
    if isinstance(err, NoneDoneError) and err.__cause__ is not None:
        return status_of(err.__cause__)
    return _status_of_kind(type(err))


def _status_of_kind(kind: type[BaseException]) -> int:
    return next((status for kinds, status in _STATUS if issubclass(kind, kinds)), UNEXPECTED)


def status_named(error: str) -> int:
    """Return the exit status that tells of an error of which the name of its class is known."""
    kind = getattr(errors, error, None) or getattr(builtins, error, None)
    return _status_of_kind(kind) if isinstance(kind, type) and issubclass(kind, Exception) else UNEXPECTED


def guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace, program: str) -> int:
    """Return the exit status of a command; its errors and warnings become one line each on standard error."""
    verbose, quiet = getattr(arguments, "verbose", 0), getattr(arguments, "quiet", False)

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if not quiet and (verbose or not issubclass(category, DeprecationWarning)):
            tell(f"{program}: warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # Of files that a signal kept from being closed, as those of an import: nothing that a user can mend.
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.showwarning = show
        try:
            status = run(arguments)
            flush()
        except KeyboardInterrupt as err:
            _tell_notes(err, program)
            raise
        except Exception as err:
            return _told(err, program, verbose)
    return status


@contextmanager
def while_read() -> Iterator[None]:
    """Do what prints to standard output as long as somebody reads it, such as `head`; the rest goes nowhere.

    What was done is done, and the exit status is to tell of that. An error that comes here is of printing only: a
    server that hangs up breaks a pipe, too.
    """
    try:
        yield
    except BrokenPipeError:
        # Python would complain when it closes what is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_notes(err: BaseException, program: str) -> None:
    """Tell what an error has been given to say besides, such as how much was sent before it."""
    for note in getattr(err, "__notes__", ()):
        tell(f"{program}: {note}")


def _told(err: Exception, program: str, verbose: int) -> int:
    status = status_of(err)
    if verbose > 1:
        traceback.print_exc()
    reason = str(err) or type(err).__name__
    if isinstance(err, OSError) and err.filename and err.strerror:
        reason = f"{err.filename}: {err.strerror}"
    # What is not installed is told with how to get it (`imagedata_xr.extras`).
    known = status != UNEXPECTED or isinstance(err, ValueError | ModuleNotFoundError)
    tell(
        f"{program}: error: {reason}"
        if known
        else f"{program}: unexpected {type(err).__name__}: {reason}; -vv tells where"
    )
    _tell_notes(err, program)
    return status


def tell_damaged(damaged: Sequence[tuple[str, str]], *, others: bool) -> int:
    """Tell of files that cannot be read, path and reason of each, and return the exit status.

    It depends on whether there are others that can.
    """
    for path, reason in damaged:
        tell(f"image_data: not read: {path}: {reason}")
    return ALL_DONE if not damaged else PARTLY if others else NOTHING_FOUND


def told_damaged(damaged: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the same for JSON."""
    return [{"file": path, "reason": reason} for path, reason in damaged]


def tell(message: str) -> None:
    """Print a message to standard error, on lines that no control character from a header can disturb.

    Where it says what to call a function with, it says the option of the command.
    """
    for said, option in _AS_OPTIONS.items():
        message = message.replace(said, option)
    for said_so, option in _AS_VALUES:
        message = said_so.sub(option, message)
    with suppress(OSError):  # full, or nobody reads it: no reason not to do what was asked for
        print(plain(message), file=sys.stderr, flush=True)


def flush() -> None:
    """Have what was printed written now, if somebody reads it."""
    with while_read():
        sys.stdout.flush()


def say(message: str) -> None:
    """Print what was done to standard output, whether or not somebody still reads it."""
    with while_read():
        print(plain(message))


@contextmanager
def progress_bar(what: str, unit: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how many are done, of how many, and shows it: on a terminal, nothing in a log."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, disable=True if quiet else None, file=sys.stderr) as bar:

        def progress(count: int, total: int) -> None:
            bar.total = total
            bar.update(count - bar.n)

        yield progress


def plain(text: object) -> str:
    r"""Return text in which control characters, which could command a terminal, are written out.

    Examples
    --------
    >>> print(plain("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def print_json(command: str, **content: Any) -> None:
    """Print one JSON document."""
    document = {"schema_version": SCHEMA, "command": command, **content}
    with while_read():
        print(json.dumps(_plain_value(document), indent=2, allow_nan=False))


def _plain_value(value: Any) -> Any:
    """Return a value of kinds that JSON has: null is what is no finite number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_csv(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as comma-separated values (RFC 4180)."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    with while_read():
        table.writerow(names)
        table.writerows([["" if cell is None else plain(cell) for cell in row] for row in rows])


def print_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns."""
    cells = [list(names), *([plain("" if cell is None else cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(names))]
    with while_read():
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
