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

from imagedata_xr.files import check_alone, check_replaceable, full_disks_named, place_here, replace
from imagedata_xr.remote import filesystem_of
from imagedata_xr.streams import is_archive, is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["is_packed_or_remote", "output_elsewhere", "output_file_elsewhere"]


def is_packed_or_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of an archive or a URL."""
    if not isinstance(path, str | os.PathLike):
        return False  # `place_here` says so
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
    _check(target, overwrite)
    with _temporary_folder() as made:
        folder = made / "content"
        folder.mkdir()
        with full_disks_named(folder):
            yield folder
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if is_elsewhere(target):
            if is_archive(target):
                packed = made / "packed"
                with full_disks_named(packed):
                    _pack(files, folder, packed, target)
                _upload([(packed, target)])
            else:
                _upload([(file, f"{target.rstrip('/')}/{file.relative_to(folder).as_posix()}") for file in files])
            return
        goal = Path(target)
        goal.parent.mkdir(parents=True, exist_ok=True)
        part = goal.with_name(f".{goal.name}.{secrets.token_hex(6)}.part")
        try:
            with full_disks_named(target):
                _pack(files, folder, part, target)
            _check(target, overwrite)
            replace(part, goal)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def output_file_elsewhere(
    url: str, suffixes: tuple[str, ...], beside: Callable[[str], list[str]] | None, *, overwrite: bool = False
) -> Iterator[Path]:
    """Give the path of a file of this machine that goes to a URL, with what lies beside it, when the block ends well.

    Parameters
    ----------
    url : str
        The file.
    suffixes, beside
        Of its format, see `imagedata_xr.formats.registry.Format`.
    overwrite : bool
        Replace files of the same names; what lies beside the old file goes with it.

    Yields
    ------
    Path
        The file to write; others may be written beside it.

    Raises
    ------
    FileExistsError
        If something is there, or another file has the same things beside it.
    """
    _check(url, overwrite)
    above, _, name = url.rpartition("/")
    with _temporary_folder() as folder:
        with full_disks_named(folder / name):
            yield folder / name
        files = [(file, f"{above}/{file.relative_to(folder).as_posix()}") for file in sorted(folder.rglob("*"))]
        files = [(file, goal) for file, goal in files if file.is_file()]
        written = {goal for _, goal in files}
        near = [f"{above}/{other}" for other in beside(name)] if beside else []
        if near:
            check_alone(
                name, suffixes, lambda other: f"{above}/{other}" not in written and _is_there(f"{above}/{other}")
            )
        for goal in near:
            _check(goal, overwrite)
        _upload(files)
        for old in near:
            if old not in written and _is_there(old):
                filesystem, place = filesystem_of(old)
                filesystem.rm(place)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Give a folder that goes when the block ends; where its disk is full, the error says how another is chosen."""
    with tempfile.TemporaryDirectory(prefix="imagedata_xr-") as name:
        try:
            yield Path(name)
        except OSError as err:
            if str(err.filename).startswith(name):
                err.add_note(
                    f"what goes to an archive or URL is made in the temporary folder {tempfile.gettempdir()} first: "
                    "make room there, or name another with the environment variable TMPDIR"
                )
            raise


def _check(target: str, overwrite: bool) -> None:
    """Raise FileExistsError if something is there that may not be replaced, ValueError for a path that is a URL."""
    if target.startswith("file://"):
        msg = f"{target}: give the path itself"
        raise ValueError(msg)
    if target.startswith(("http://", "https://")):
        msg = f"{target}: nothing is written to a web server; DICOMweb is dicomweb+https://server/path"
        raise ValueError(msg)
    if not is_elsewhere(target):
        place_here(target)
    if overwrite:
        if not is_elsewhere(target) and Path(target).exists():
            check_replaceable(Path(target))
        return
    if _is_there(target) if is_elsewhere(target) else Path(target).exists():
        msg = f"{target} exists: write to another place, or replace it with overwrite=True"
        raise FileExistsError(msg)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Raise what is no error of a file as one: libraries of servers raise whatever they do."""
    try:
        yield
    except (OSError, ValueError, ImportError):
        raise
    except Exception as err:
        msg = f"cannot write to {url}: {type(err).__name__}: {err}"
        raise OSError(msg) from err


def _is_there(url: str) -> bool:
    filesystem, name = filesystem_of(url)
    with _named(url):
        return bool(filesystem.exists(name) and (filesystem.isfile(name) or filesystem.find(name)))


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
            with _named(url), open(file, "rb") as source, fsspec.open(url, "wb") as sink:
                done.append(url)
                shutil.copyfileobj(source, sink)
    except BaseException:
        for url in done:
            filesystem, name = filesystem_of(url)
            if filesystem.exists(name):
                filesystem.rm(name)
        raise
