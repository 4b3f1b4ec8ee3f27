"""Output to archives and URLs: made in a temporary folder first, and there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imagedata_xr.files import check_replaceable, replace
from imagedata_xr.streams import is_archive, is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_packed_or_remote", "output_elsewhere"]


def is_packed_or_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of an archive or a URL."""
    return is_archive(os.fspath(path)) or is_elsewhere(os.fspath(path))


@contextmanager
def output_elsewhere(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder whose content goes to an archive or URL when the block ends well.

    Parameters
    ----------
    path : path-like
        An archive ``.zip``, ``.tar``, ``.tar.gz`` or ``.tgz``, or a URL that fsspec writes to.
    overwrite : bool
        Replace an archive, whose mode the new one has, or files of the same names.

    Yields
    ------
    Path
        An empty folder.

    Raises
    ------
    FileExistsError
        If something is there.
    PermissionError
        If an archive that would be replaced may not be written to.
    """
    target = os.fspath(path)
    if target.startswith("file://"):
        msg = f"{target}: give the path itself"
        raise ValueError(msg)
    _check(target, overwrite)
    with tempfile.TemporaryDirectory(prefix="imagedata_xr-") as name:
        folder = Path(name, "content")
        folder.mkdir()
        yield folder
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if is_elsewhere(target):
            if is_archive(target):
                packed = Path(name, "packed")
                _pack(files, folder, packed, target)
                _upload([(packed, target)])
            else:
                _upload([(file, f"{target.rstrip('/')}/{file.relative_to(folder).as_posix()}") for file in files])
            return
        goal = Path(target)
        goal.parent.mkdir(parents=True, exist_ok=True)
        part = goal.with_name(f".{goal.name}.{secrets.token_hex(6)}.part")
        try:
            _pack(files, folder, part, target)
            _check(target, overwrite)
            replace(part, goal)
        finally:
            part.unlink(missing_ok=True)


def _check(target: str, overwrite: bool) -> None:
    """Raise FileExistsError if something is there that may not be replaced."""
    if overwrite:
        if not is_elsewhere(target) and Path(target).exists():
            check_replaceable(Path(target))
        return
    if is_elsewhere(target):
        import fsspec

        filesystem, name = fsspec.core.url_to_fs(target)
        is_there = filesystem.exists(name) and (filesystem.isfile(name) or bool(filesystem.find(name)))
    else:
        is_there = Path(target).exists()
    if is_there:
        msg = f"{target} exists: write to another place, or replace it with overwrite=True"
        raise FileExistsError(msg)


def _pack(files: list[Path], folder: Path, part: Path, target: str) -> None:
    """Write files to an archive of the kind that the target's name says."""
    if target.lower().endswith(".zip"):
        with zipfile.ZipFile(part, "x", zipfile.ZIP_DEFLATED) as packed:
            for file in files:
                packed.write(file, file.relative_to(folder).as_posix())
        return
    with tarfile.open(part, "x:" if target.lower().endswith(".tar") else "x:gz") as tar:
        for file in files:
            tar.add(file, file.relative_to(folder).as_posix(), recursive=False)


def _upload(files: list[tuple[Path, str]]) -> None:
    """Copy files to URLs; where one fails, those that were copied are removed."""
    import fsspec

    done: list[str] = []
    try:
        for file, url in files:
            with open(file, "rb") as source, fsspec.open(url, "wb") as sink:
                done.append(url)
                shutil.copyfileobj(source, sink)
    except BaseException:
        for url in done:
            filesystem, name = fsspec.core.url_to_fs(url)
            if filesystem.exists(name):
                filesystem.rm(name)
        raise
