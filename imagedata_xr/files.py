"""Output that appears complete or not at all, and temporary files, which go when the process ends."""

from __future__ import annotations

import atexit
import errno
import os
import re
import secrets
import shutil
import stat
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imagedata_xr.arguments import require_bools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    *("check_alone", "check_replaceable", "file_here", "full_disks_named", "output_directory", "output_files"),
    *("place_here", "remove_temporary", "removed_at_exit", "replace", "shortened"),
]

_PREAMBLE = 128
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How a URL begins, also one of which `Path` has made ``s3:/bucket``; a drive of Windows has one letter."""
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Errors that only a write meets: no room on the disk, in a file, in what the user may have."""


def place_here(path: str | os.PathLike[str]) -> Path:
    """Return a path of this machine, with ``~`` at its beginning for the home folder.

    Raises
    ------
    ValueError
        If it is a URL: a folder of such a name would be made here, and what was written looked for elsewhere. If it is
        "": it would be the current folder.
    TypeError
        If it is no path.

    Examples
    --------
    >>> place_here("results/brain.nii.gz").name
    'brain.nii.gz'
    """
    if not isinstance(path, str | os.PathLike):
        msg = f"the path is {path!r}: text or a pathlib.Path is wanted"
        raise TypeError(msg)
    if _URL.match(os.fspath(path)):
        msg = (
            f"{os.fspath(path)} is a URL, and a path of this machine is wanted (an absolute one, if a folder has such "
            "a name). imagedata_xr.write and image_data convert write to URLs, given as text and not as a Path"
        )
        raise ValueError(msg)
    if not os.fspath(path):
        msg = "the path is '': '.' is the current folder"
        raise ValueError(msg)
    # Not Path.expanduser, which fails where no user has such a name: then it is a name of a file.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def file_here(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Return the path of a file of this machine whose name ends with one of some suffixes.

    Raises
    ------
    ValueError
        If it does not: `output_files` would make a folder of that name; or as `place_here`.

    Examples
    --------
    >>> file_here("page.png", (".html", ".htm"))
    Traceback (most recent call last):
        ...
    ValueError: page.png: the name of the file has to end with .html or .htm
    """
    found = place_here(path)
    if not found.name.lower().endswith(suffixes):
        msg = f"{found}: the name of the file has to end with {' or '.join(suffixes)}"
        raise ValueError(msg)
    return found


_TEMPORARY: set[Path] = set()
"""What goes when the process ends."""


def removed_at_exit(path: str | os.PathLike[str]) -> Path:
    """Return the path of a temporary file or folder, which goes when the process ends.

    Parameters
    ----------
    path : path
        What was made; it may be gone before.
    """
    _TEMPORARY.add(Path(path))
    return Path(path)


@atexit.register
def remove_temporary() -> None:
    """Remove what goes when the process ends: to be called before `os._exit`, which calls nothing."""
    while _TEMPORARY:
        path = _TEMPORARY.pop()
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def shortened(name: str, most: int = 200) -> str:
    """Return as much of the name of a file as so many bytes hold: file systems allow 255, and count those of UTF-8.

    Parameters
    ----------
    name : str
        Name of a file, without its folder.
    most : int
        Bytes; the default leaves room for what hidden names have besides.

    Examples
    --------
    >>> shortened("brain"), shortened("\N{CJK UNIFIED IDEOGRAPH-8133}" * 80, 7)
    ('brain', '\u8133\u8133')
    """
    return os.fsencode(name)[:most].decode(errors="ignore")


@contextmanager
def full_disks_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let the error of a disk that is full, which Python raises without a name, name what was being written.

    Examples
    --------
    >>> with full_disks_named("result"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    OSError: [Errno 28] No space left on device: 'result'
    """
    try:
        yield
    except OSError as err:
        inner = err.__context__
        if err.errno is None and type(err) is OSError and isinstance(inner, OSError) and inner.errno in _FULL:
            # pydicom makes one of its text only.
            raise OSError(inner.errno, inner.strerror, os.fspath(path)) from err
        if err.errno in _FULL and err.filename is None:
            err.filename = os.fspath(path)
        raise


@contextmanager
def output_directory(
    path: str | os.PathLike[str], *, overwrite: bool = False, is_ours: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Give a temporary directory beside ``path`` that takes its place when the block ends well.

    When the block raises (also KeyboardInterrupt), the temporary directory and any parent directory
    made for it are removed, and what was at ``path`` is as it was. A killed process can leave a hidden directory
    ``.<name>.<random>.part`` or ``.old`` behind, never a half-written ``path``. The new directory has the mode of
    the one that it replaces. Where that, out of its place, turns out not to be removable, a warning says where it is.

    Parameters
    ----------
    path : path-like
        Directory to write; parent directories are made. It must not exist, or be empty, unless ``overwrite``.
    overwrite : bool
        Replace a directory that holds nothing but DICOM files. The old one is complete until the new one is.
    is_ours : callable, optional
        Function that says of a directory whether it may be replaced, where it is no directory of DICOM files.

    Yields
    ------
    Path
        An empty directory on the same file system as ``path``.

    Raises
    ------
    FileExistsError
        ``path`` is a file or holds files (with ``overwrite``: other than those that may be replaced).
    PermissionError
        ``path`` is a directory that may not be written to, or holds one.
    TypeError
        ``overwrite`` is neither True nor False, as "no", by which all would be replaced.

    Examples
    --------
    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> with output_directory(parent / "result") as folder:
    ...     _ = (folder / "00001.dcm").write_bytes(b"")
    ...     (parent / "result").exists()
    False
    >>> [file.name for file in (parent / "result").iterdir()]
    ['00001.dcm']
    """
    require_bools(overwrite=overwrite)
    # A symbolic link stays one: the directory it names is replaced.
    target = Path(os.path.realpath(place_here(path)))
    _check_target(target, overwrite, is_ours)
    new_parents = _new_parents(target)
    temporary = target.with_name(f".{shortened(target.name)}.{secrets.token_hex(6)}.part")
    try:
        # Not tempfile.mkdtemp, which makes directories that nobody else can read.
        temporary.mkdir(parents=True)
        with full_disks_named(target):
            yield temporary
        _move_to(temporary, target, overwrite, is_ours)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if temporary.exists():
            error.add_note(f"could not remove the unfinished {temporary}")
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def output_files(
    path: str | os.PathLike[str],
    suffixes: tuple[str, ...],
    *,
    overwrite: bool = False,
    beside: tuple[str, ...] = (),
) -> Iterator[Path]:
    """Give the path of a file in a temporary directory; all files there take their places when the block ends well.

    Parameters
    ----------
    path : path-like
        A file, if its name ends with one of the suffixes: it and what is written beside it come to lie there. Else a
        directory, which must not exist or be empty, that gets the file ``image`` with the first suffix.
    suffixes : tuple of str
        Ends of names of files, in lower case.
    overwrite : bool
        Replace files of the same names; the new ones have their modes.
    beside : tuple of str
        Ends of names of files that a reader takes as belonging to the file, its own suffix replaced: those that are
        there and not written anew go with the file that is replaced.

    Yields
    ------
    Path
        The file to write; others may be written beside it.

    Raises
    ------
    FileExistsError
        If one of the files exists and `overwrite` is not set, or the directory holds others.
    PermissionError
        If a file that would be replaced may not be written to.
    TypeError
        If `overwrite` is neither True nor False.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with output_files(folder / "brain.nii.gz", (".nii.gz", ".nii")) as file:
    ...     _ = file.write_bytes(b""), file.with_name("brain.json").write_bytes(b"")
    >>> sorted(file.name for file in folder.iterdir())
    ['brain.json', 'brain.nii.gz']
    """
    require_bools(overwrite=overwrite)
    target = place_here(path)
    is_file = target.name.lower().endswith(suffixes)
    if not is_file and not overwrite:
        with output_directory(target) as folder:
            yield folder / f"image{suffixes[0]}"
        return
    folder = target.parent if is_file else target
    name = target.name if is_file else f"image{suffixes[0]}"
    if (folder / name).exists() and not overwrite:
        raise FileExistsError(f"{folder / name} exists: write to another file, or replace it with overwrite=True")
    if (folder / name).exists():
        check_replaceable(folder / name)
    new_parents = _new_parents(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{shortened(name)}.{secrets.token_hex(6)}.part"
    try:
        temporary.mkdir()
        with full_disks_named(folder / name):
            yield temporary / name
        if beside:
            check_alone(name, suffixes, lambda it: (folder / it).exists() and not (temporary / it).exists())
        _move_files(temporary, folder, overwrite, [f"{_stem(name, suffixes)}{end}" for end in beside])
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise
    temporary.rmdir()


def _new_parents(target: Path) -> list[Path]:
    """Return the folders that have to be made for a file or folder.

    Raises
    ------
    FileExistsError
        If one of them is a file.
    """
    new = []
    for parent in target.parents:
        if parent.is_dir():
            break
        if parent.exists():
            raise FileExistsError(f"{parent} is a file: write to another folder")
        new.append(parent)
    return new


def _stem(name: str, suffixes: tuple[str, ...]) -> str:
    return name[: -len(max((end for end in suffixes if name.lower().endswith(end)), key=len))]


def check_alone(name: str, suffixes: tuple[str, ...], is_another: Callable[[str], bool]) -> None:
    """Raise FileExistsError where what is to lie beside a file would be taken for that of another image, too.

    Such as of ``brain.nii.gz`` beside ``brain.nii``: both have ``brain.json``, and only one is what it tells of.
    """
    stem = _stem(name, suffixes)
    for other in (f"{stem}{end}" for end in suffixes):
        if is_another(other):
            msg = f"{other} is there, and would have the sidecar of {name}: write to another name, or move {other} away"
            raise FileExistsError(msg)


def _move_files(temporary: Path, folder: Path, overwrite: bool, beside: list[str]) -> None:
    """Move all files of a directory to another, or none; files beside them of the given names go if they are old."""
    files = sorted(temporary.iterdir())
    old = [name for name in beside if (folder / name).exists() and not (temporary / name).exists()]
    there = [file.name for file in files if (folder / file.name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{folder / there[0]} exists: write to another file, or replace it with overwrite=True")
    if old and not overwrite:
        raise FileExistsError(
            f"{folder / old[0]} exists and would be taken for a part of the new image: write to another file, or "
            "remove it with overwrite=True"
        )
    for name in (*there, *old):
        check_replaceable(folder / name)
    moved: list[Path] = []
    try:
        for name in old:
            (folder / name).rename(temporary / name)
        for file in files:
            target = folder / file.name
            if overwrite:
                replace(file, target)
                old = []  # what belongs to the old file is not put back beside the new one
                continue
            try:
                os.link(file, target)  # unlike rename, this never replaces
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                file.rename(target)
                moved.append(target)
                continue
            moved.append(target)
            file.unlink()
        for name in beside:
            (temporary / name).unlink(missing_ok=True)
    except BaseException:
        for target in moved:
            target.unlink()
        for name in old:
            if (temporary / name).exists():
                (temporary / name).rename(folder / name)
        raise


def _check_target(target: Path, overwrite: bool, is_ours: Callable[[Path], bool] | None) -> None:
    """Raise FileExistsError unless ``target`` is free or may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file: give the name of a directory")
    entries = sorted(os.scandir(target), key=lambda entry: entry.name)
    if entries and not overwrite:
        raise FileExistsError(
            f"{target} is not empty ({len(entries)} entries): "
            "write to another directory, or replace what is there with overwrite=True"
        )
    if is_ours is not None:
        if entries and not is_ours(target):
            raise FileExistsError(f"{target} holds other things: overwrite=True replaces only what was written alike")
    else:
        for entry in entries:
            if not _is_dicom_file(entry):
                raise FileExistsError(
                    f"{target} holds {entry.name!r}, which is not a DICOM file: "
                    "overwrite=True replaces only a directory that holds nothing but DICOM files"
                )
    # Before the new one is made: what cannot be removed would be known only when the new one is in its place.
    _check_writable(target)
    for parent, names, _ in os.walk(target):
        for folder in (Path(parent, name) for name in names):
            if not folder.is_symlink():
                _check_writable(folder)


def check_replaceable(file: Path) -> None:
    """Raise unless a file may be replaced by another.

    Raises
    ------
    IsADirectoryError
        If it is a directory.
    PermissionError
        If it may not be written to: a rename would replace it all the same.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a directory: write to another file, or remove it")
    _check_writable(file)


def replace(new: Path, old: Path) -> None:
    """Rename a file to the name of another, if there is one, and give it the mode of that."""
    with suppress(FileNotFoundError):
        new.chmod(_mode(old))
    new.replace(old)


def _check_writable(path: Path) -> None:
    """Raise PermissionError unless we may write to a file, or list a directory and remove what it holds."""
    wanted = os.R_OK | os.W_OK | os.X_OK if path.is_dir() else os.W_OK
    # By the rights that count, where they are not those of who started us.
    if not os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(
            f"{path} may not be written to (mode {_mode(path):o}) and is not replaced: write to another place, or "
            "allow it (chmod u+rwX, by the owner)"
        )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _is_dicom_file(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    with open(entry.path, "rb") as file:
        file.seek(_PREAMBLE)
        return file.read(4) == b"DICM"


def _move_to(temporary: Path, target: Path, overwrite: bool, is_ours: Callable[[Path], bool] | None) -> None:
    """Rename ``temporary`` to ``target``; a directory that is there goes only when that has succeeded."""
    if not target.exists():
        _rename(temporary, target)
        return
    old = temporary.with_suffix(".old")
    try:
        target.rename(old)
        # Looked at again under a name that nobody else writes to: what came in meanwhile is not to be lost.
        try:
            _check_target(old, overwrite, is_ours)
        except FileExistsError as err:
            raise FileExistsError(str(err).replace(str(old), str(target))) from None
        temporary.chmod(_mode(old))
        _rename(temporary, target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    try:
        shutil.rmtree(old)
    except OSError as err:
        # Not an error: what was asked for is done, and whoever does it again would only replace it once more.
        warnings.warn(
            f"{target} is replaced, but what was there cannot be removed and is in {old}: {err}", stacklevel=5
        )


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError as error:
        if target.exists():
            raise FileExistsError(f"{target} was made by someone else meanwhile: write to another directory") from error
        raise
