"""``image_data sort OUT IN...``."""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagedata_xr.commands.opening import check_no_network, folder_here, safe_name, scan_all, short_digest
from imagedata_xr.commands.report import ALL_DONE, PARTLY, UsageError, print_json, say, status_of, tell, told_damaged
from imagedata_xr.dicom.expand import frame_of
from imagedata_xr.dicom.scan import read_head
from imagedata_xr.dicom.table import TableBuilder
from imagedata_xr.elements import tag
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from imagedata_xr.origins import name_key
from imagedata_xr.streams import is_elsewhere, open_binary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["run"]

_LEGIBLE: Final = 40
"""Letters of a name that a folder has, before the digest: three of them and a file have to fit a path of Windows."""
_PIECE: Final = 1 << 20
_OF_DIRECTORIES: Final = 0x0004
"""The group of elements that a DICOMDIR is made of."""


def run(arguments: argparse.Namespace) -> int:
    """Copy files to folders of patient, study and series, and return the exit status."""
    check_no_network(arguments.out, *arguments.sources)
    out = folder_here(arguments.out)
    _check_outside(out, arguments.sources)
    heap = scan_all(arguments.sources)
    failures = list(heap.damaged)
    folders = _Folders(out)
    places = [place for table in heap.tables.values() for place in folders.of(table)]
    done = {path for path, _ in places} | {path for path, _ in failures}
    others = 0
    for path in heap.files:
        if path not in done:
            try:
                table = _without_pixels(path)
            except UnreadableFileError as err:
                failures.append((path, str(err)))
                continue
            others += table is None
            places += [] if table is None else folders.of(table)
    if not places and not failures:
        raise NoDicomError(heap.nothing)
    taken: set[str] = set()
    errors: list[Exception] = [UnreadableFileError()] if failures else []
    copied, renamed, kept = 0, 0, 0
    for path, folder in places:
        try:
            target, is_new = _free(out / folder / _name(path), taken, source=path)
            taken.add(os.path.normcase(target))
            if target.exists():  # from the last time
                kept += 1
                continue
            if not arguments.dry_run:
                again = _copy(path, target, taken)
                if again is None:
                    kept += 1
                    continue
                is_new = is_new or again
        except OSError as err:
            errors.append(err)
            failures.append((path, err.strerror or str(err)))
            continue
        copied += 1
        renamed += is_new
    if arguments.json:
        counts = {"files": copied, "renamed": renamed, "kept": kept, "no_dicom": others}
        print_json("sort", dry_run=arguments.dry_run, **counts, failed=told_damaged(failures))
    elif not arguments.quiet:
        how = "would be copied" if arguments.dry_run else "copied"
        was_there = f"; {kept} were there already" if kept else ""
        stay = f"; {len(failures)} not copied" if failures else ""
        stay += f"; {others} of other kinds, and DICOMDIR, passed over" if others else ""
        series = len({folder for _, folder in places})
        say(f"{out}: {copied} files {how} in {series} series, {renamed} of them under a new name{was_there}{stay}")
    for path, reason in failures:
        tell(f"image_data: not copied: {path}: {reason}")
    if not failures:
        return ALL_DONE
    return PARTLY if copied or kept else status_of(errors[0])


def _check_outside(out: Path, sources: list[str]) -> None:
    """Raise UsageError where what is copied would be a source of the next run."""
    target = out.expanduser().resolve()
    for source in sources:
        if is_elsewhere(source):
            continue
        folder = Path(source).expanduser().resolve()
        if folder.is_dir() and target.is_relative_to(folder):
            where = "is" if target == folder else "lies in"
            msg = f"{out} {where} {source}, and the copies would be copied again; give a folder outside of it"
            raise UsageError(msg)


def _without_pixels(path: str) -> FrameTable | None:
    """Return what the header of a DICOM object without pixels says; None of a file that is none, and of DICOMDIR.

    Raises
    ------
    UnreadableFileError
        If it is damaged.
    """
    found = read_head(path)
    if found is None:
        return None
    head, size, mtime = found
    elements = head.elements.whole()
    if Path(_name(path)).stem.upper() == "DICOMDIR" or any(number >> 16 == _OF_DIRECTORIES for number in elements):
        return None
    if not {tag("SOPClassUID"), tag("SOPInstanceUID")} & elements.keys():
        msg = f"{path} is a damaged DICOM file: SOPClassUID and SOPInstanceUID are absent"
        raise UnreadableFileError(msg)
    builder = TableBuilder()
    builder.add(path, size, mtime, head, frame_of(head))
    return builder.table()


class _Folders:
    """The folders that series are copied to, one each, whatever words single files have for it.

    Letters that not every system allows are replaced, and scanners make UIDs that end alike: what tells patients,
    studies and series apart is the digest of all that names them, and that is the same every time.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._names: dict[tuple[str, ...], str] = {}

    def of(self, table: FrameTable) -> Iterator[tuple[str, str]]:
        """Give each file of a series once, and the folder that it belongs to."""
        names = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID")
        shown = ("StudyDate", "SeriesNumber", "SeriesDescription")
        rows = {path: row for row, path in reversed(list(enumerate(table.paths)))}
        identities = list(zip(*(_texts(table, name) for name in names), strict=True))
        legible = list(zip(*(_texts(table, name) for name in shown), strict=True))
        for path, row in sorted(rows.items()):
            patient, name, study, series = identities[row]
            date, number, description = legible[row]
            identity = (patient, name_key(name), study, series)
            folder = self._folder("", patient or "unknown", identity[:2])
            folder = self._folder(folder, date or "undated", identity[:3])
            yield path, self._folder(folder, f"{number}-{description}", identity)

    def _folder(self, parent: str, legible: str, identity: tuple[str, ...]) -> str:
        """Return the folder in another that is of one patient, study or series: that which is there, or a new one."""
        name = self._names.get(identity)
        if name is None:
            digest = short_digest("\0".join(identity))
            there = sorted(found.name for found in (self._out / parent).glob(f"*-{digest}"))
            name = there[0] if there else f"{safe_name(legible.replace('/', '_'))[:_LEGIBLE]}-{digest}"
            self._names[identity] = name
        return os.path.join(parent, name)  # noqa: PTH118 - thousands of files


def _texts(table: FrameTable, name: str) -> list[str]:
    """Return the text of an element in every frame, as it lies there where it cannot be decoded."""
    try:
        values = ["" if value is None else str(value) for value in table.values(name)]
    except (OSError, ValueError):
        values = ["" if raw is None else raw.value.decode("latin-1") for raw in table.column(tag(name))]
    # Trailing carets are components of a name that nobody filled in.
    return [value.strip(" \0^") for value in values]


def _name(path: str) -> str:
    """Return the name of a file, without the folders and the archive that it lies in."""
    if is_elsewhere(path):
        path = path.partition("://")[2]
        path = path.rpartition("::")[0] or path
        return safe_name(path.replace("\\", "/").rpartition("/")[2])
    return safe_name(Path(path).name)


def _free(target: Path, taken: set[str], source: str = "") -> tuple[Path, bool]:
    """Return a name that nothing has yet, or a copy of `source`, and whether it is another than was wanted."""
    candidate, number = target, 1
    while os.path.normcase(candidate) in taken or (candidate.exists() and not _is_copy(candidate, source)):
        number += 1
        candidate = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return candidate, number > 1


def _is_copy(file: Path, source: str) -> bool:
    if not source or not file.is_file():
        return False
    if not is_elsewhere(source):
        return filecmp.cmp(source, file, shallow=False)
    with open_binary(source) as one, file.open("rb") as other:
        while piece := one.read(_PIECE):
            if piece != other.read(len(piece)):
                return False
        return not other.read(1)


def _copy(source: str, target: Path, taken: set[str]) -> bool | None:
    """Copy a file whole or not at all, never over another one, and return whether it got another name.

    None where a copy has come there meanwhile, as of another run.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{secrets.token_hex(6)}.part")
    again = False
    try:
        if is_elsewhere(source):
            with open_binary(source) as file, part.open("xb") as room:
                shutil.copyfileobj(file, room, _PIECE)
        else:
            shutil.copy2(source, part)
        while True:
            try:
                os.link(part, target)
                break
            except OSError as err:
                if not isinstance(err, FileExistsError) and not target.exists():  # a file system without links
                    part.rename(target)
                    break
                if _is_copy(target, source):
                    return None
                target, again = _free(target, taken)
                taken.add(os.path.normcase(target))
    finally:
        part.unlink(missing_ok=True)
    return again
