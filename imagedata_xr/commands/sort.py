"""``image_data sort OUT IN...``."""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from imagedata_xr.commands.opening import check_no_network, safe_name
from imagedata_xr.commands.report import ALL_DONE, PARTLY, plain, print_json, tell

if TYPE_CHECKING:
    import argparse

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Copy files to folders of patient, study and series, and return the exit status."""
    from imagedata_xr.dicom.scan import scan

    check_no_network(arguments.out)
    out = Path(arguments.out)
    tables = scan(arguments.sources, errors="warn")
    taken: set[str] = set()
    copied, renamed, kept, failures = 0, 0, 0, []
    for table in tables.values():
        for path, folder in _folders(table):
            target, is_new = _free(out / folder / safe_name(Path(path).name), taken, source=path)
            taken.add(os.path.normcase(target))
            if target.exists():  # from the last time
                kept += 1
                continue
            renamed += is_new
            if arguments.dry_run:
                copied += 1
                continue
            try:
                target, again = _copy(Path(path), target, taken)
                renamed += again and not is_new
                copied += 1
            except OSError as err:
                failures.append((path, err.strerror or str(err)))
    if arguments.json:
        failed = [{"file": path, "reason": reason} for path, reason in failures]
        print_json("sort", dry_run=arguments.dry_run, files=copied, renamed=renamed, kept=kept, failed=failed)
    elif not arguments.quiet:
        how = "would be copied" if arguments.dry_run else "copied"
        was_there = f"; {kept} were there already" if kept else ""
        print(
            plain(f"{out}: {copied} files {how} in {len(tables)} series, {renamed} of them under a new name{was_there}")
        )
    for path, reason in failures:
        tell(f"image_data: not copied: {path}: {reason}")
    return PARTLY if failures else ALL_DONE


def _folders(table: FrameTable) -> list[tuple[str, str]]:
    """Return each file of a series once, and the folder that it belongs to."""
    rows = {path: row for row, path in reversed(list(enumerate(table.paths)))}

    def of(name: str) -> list[str]:
        return [str(value if value not in (None, "") else "") for value in table.values(name)]

    patients, dates, studies = of("PatientID"), of("StudyDate"), of("StudyInstanceUID")
    series_numbers, descriptions, series = of("SeriesNumber"), of("SeriesDescription"), of("SeriesInstanceUID")
    found = []
    for path, row in sorted(rows.items()):
        # The ends of the UIDs keep apart what has one date or number.
        study = f"{dates[row]}-{studies[row][-8:]}"
        name = f"{series_numbers[row]}-{descriptions[row]}-{series[row][-8:]}"
        parts = (patients[row] or "unknown", study, name)
        found.append((path, safe_name("/".join(part.replace("/", "_") for part in parts))))
    return found


def _free(target: Path, taken: set[str], source: str = "") -> tuple[Path, bool]:
    """Return a name that nothing has yet, or a copy of `source`, and whether it is another than was wanted."""
    candidate, number = target, 1
    while os.path.normcase(candidate) in taken or (candidate.exists() and not _is_copy(candidate, source)):
        number += 1
        candidate = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return candidate, number > 1


def _is_copy(file: Path, source: str) -> bool:
    return bool(source) and file.is_file() and filecmp.cmp(source, file, shallow=False)


def _copy(source: Path, target: Path, taken: set[str]) -> tuple[Path, bool]:
    """Copy a file whole or not at all, never over another one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{secrets.token_hex(6)}.part")
    again = False
    try:
        shutil.copy2(source, part)
        while True:
            try:
                os.link(part, target)
                break
            except FileExistsError:
                target, again = _free(target, taken)
                taken.add(os.path.normcase(target))
            except OSError:  # a file system without links
                if target.exists():
                    continue
                part.rename(target)
                break
    finally:
        part.unlink(missing_ok=True)
    return target, again
