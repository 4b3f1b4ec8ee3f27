"""An index that lasts: what the heads of files said, kept in a folder, so that only new and changed files are read.

The folder holds Arrow files, the parts. A part is written under another name, renamed when it is complete, and never
changed; so writers need no lock, and one that is stopped leaves nothing that is read. The name ends in a digest of what
the part holds: of a damaged one nothing is believed. A part counts for the files that still have the size and
modification time that it knows. Many parts are now and then written as one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imagedata_xr.dicom.column import Column
from imagedata_xr.dicom.table import FrameTable, joined
from imagedata_xr.elements import Raw
from imagedata_xr.files import place_here
from imagedata_xr.remote import UNKNOWN_VERSION
from imagedata_xr.streams import is_elsewhere, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Index"]

_FORMAT: Final = "6"
"""To be raised whenever something else is kept of a head."""
_MOST_PARTS: Final = 16
"""Parts beyond which all are written as one."""
_SERIES_A_BATCH: Final = 64
"""Series of a part that are read together, or not at all."""
_ANY_NAME: Final = "surrogatepass"
"""Names of files need not be text in UTF-8."""
_ADVICE: Final = 'an index needs another package: pip install "imagedata_xr[index]"'
_OWN: Final = re.compile(r"part-\d{20}-[0-9a-f]{16}\.arrow|\.part-[^/]+\.part")
"""Names of parts, and of those that are being written."""
_COARSEST: Final = 2 * 10**9
"""Longest step [ns] of the clock by which a file system tells when files were changed, that of FAT."""
_A_DAY: Final = 86_400
_INTEGERS: Final = ("sizes", "mtimes", "offsets", "lengths", "pixel_tags", "frames")


class _Known(NamedTuple):
    """What a part says of one series; of files without an image where it has no UID."""

    uid: str | None
    table: FrameTable


class Index:
    """The index in a folder, which is made when there is something to keep.

    It holds what headers hold, names of patients too, and wants the same protection as the files.

    Raises
    ------
    ModuleNotFoundError
        If pyarrow is not installed.
    NotADirectoryError
        If a file has this name.
    ValueError
        If it is a URL.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import pyarrow  # noqa: F401 - said now, and not after hours of reading
        except ModuleNotFoundError as err:
            raise ModuleNotFoundError(_ADVICE) from err
        if isinstance(folder, str) and is_elsewhere(folder):
            msg = (
                f"index={folder!r} is a URL, and an index is a folder of this machine, also of files that are elsewhere"
            )
            raise ValueError(msg)
        self.folder = place_here(folder).absolute()
        is_file = False
        with suppress(OSError):  # whoever reads and writes there will say so
            is_file = self.folder.exists() and not self.folder.is_dir()
        if is_file:
            msg = f"{self.folder} is a file; an index is a folder of its own"
            raise NotADirectoryError(msg)

    def without_itself(self, paths: list[str]) -> list[str]:
        """Return paths but for the parts of the index, which may lie among what it is an index of."""
        own = f"{self.folder}{os.sep}"
        # What the first and the last share all paths do.
        shared = os.path.commonprefix([min(paths, default=""), max(paths, default="")])  # noqa: RUF071 - of URLs too
        if not (own.startswith(shared) or shared.startswith(own)):
            return paths
        return [path for path in paths if not (path.startswith(own) and _OWN.fullmatch(path, len(own)))]

    def lookup(self, paths: Sequence[str]) -> tuple[dict[str, FrameTable], dict[str, tuple[int, int] | None]]:
        """Return the frames that are known of files as they are now, by SeriesInstanceUID, and the files to be read.

        The latter come with their present versions, None where there is none.
        """
        sizes, mtimes = (np.asarray(told, np.int64) for told in statuses(paths))
        numbers: dict[str, int] = {}
        found: dict[str, list[FrameTable]] = {}
        known = np.zeros(len(paths), bool)
        first, last = min(paths, default=""), max(paths, default="")
        for part in self._parts():
            of_part = known.copy()
            for uid, table in _rows(part, first, last):
                if table.paths == paths:
                    at = np.arange(len(paths))
                else:
                    numbers = numbers or dict(zip(paths, range(len(paths)), strict=True))
                    at = np.asarray([numbers.get(path, -1) for path in table.paths], np.intp)
                fits = (at >= 0) & ~known[at] & (sizes[at] == table.sizes) & (mtimes[at] == table.mtimes)
                of_part[at[fits]] = True
                if uid is not None and fits.any():
                    fitting = table if fits.all() else table.take(np.flatnonzero(fits))
                    found.setdefault(uid, []).append(fitting)
            known = of_part
        # Whoever reads a file that cannot be asked will say why.
        unread: dict[str, tuple[int, int] | None] = {
            paths[k]: (int(sizes[k]), int(mtimes[k])) if sizes[k] >= 0 else None
            for k in np.flatnonzero(~known).tolist()
        }
        return {uid: joined(tables) for uid, tables in found.items()}, unread

    def add(self, tables: Mapping[str, FrameTable], imageless: Mapping[str, tuple[int, int]], since: int) -> None:
        """Keep the frames of files that were read since a moment [ns], and which files have none.

        Nothing is kept of files of which nobody could say later whether they are still the same.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        rows = [_Known(uid, table) for uid, table in tables.items()]
        if imageless:
            rows.append(_Known(None, _without_frames(imageless)))
        rows = [row for row in (_lasting(row, since) for row in rows) if len(row.table)]
        if not rows:
            return
        self._write(rows)
        parts = self._parts()
        if len(parts) > _MOST_PARTS:
            self._write(_latest(parts))
            killed = [file for file in self.folder.glob(".part-*.part") if _is_old(file)]
            for file in (*parts, *killed):
                with suppress(OSError):  # another process may have done the same
                    file.unlink()

    def _parts(self) -> list[Path]:
        """Return the parts, the latest first."""
        try:
            return sorted(self.folder.glob("part-*.arrow"), reverse=True)
        except OSError as err:
            msg = f"the index {self.folder} cannot be read ({err.strerror or err}) and is not used"
            warnings.warn(msg, stacklevel=2)
            return []

    def _write(self, rows: Sequence[_Known]) -> None:
        """Write a part."""
        # Nobody else is to read what headers say of patients.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = _as_bytes(rows)
        name = f"part-{time.time_ns():020d}-{_digest(data)}.arrow"
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}.part"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _latest(parts: Sequence[Path]) -> list[_Known]:
    """Return what the latest part that knows a file says of it, for all files of all parts."""
    seen: set[str] = set()
    latest: list[_Known] = []
    for part in parts:
        of_part: set[str] = set()
        for uid, table in _rows(part):
            rows = [row for row, path in enumerate(table.paths) if path not in seen]
            of_part.update(table.paths)
            if rows:
                latest.append(_Known(uid, table if len(rows) == len(table) else table.take(rows)))
        seen |= of_part
    return latest


def _is_old(file: Path) -> bool:
    """Whether a part cannot be one that is still being written."""
    try:
        return file.stat().st_mtime < time.time() - _A_DAY
    except OSError:
        return False


def _lasting(row: _Known, since: int) -> _Known:
    """Return what is known of the files whose version changes with them, read since a moment [ns].

    A file system whose clock goes by seconds gives the same time to a file that is changed once more in the same one.
    """
    mtimes = row.table.mtimes
    lasts = (mtimes != UNKNOWN_VERSION) & ((mtimes % 10**9 != 0) | (mtimes <= since - _COARSEST))
    return row if lasts.all() else _Known(row.uid, row.table.take(np.flatnonzero(lasts)))


def _without_frames(files: Mapping[str, tuple[int, int]]) -> FrameTable:
    """Return a table that tells of files and nothing else."""
    sizes, mtimes = (np.asarray([version[k] for version in files.values()], np.int64) for k in (0, 1))
    none = np.zeros(len(files), np.int64)
    tiles = np.zeros((len(files), 4), np.int64)
    return FrameTable({}, {}, list(files), sizes, mtimes, [""] * len(files), none, none, none, none, tiles)


def _as_bytes(rows: Sequence[_Known]) -> bytes:
    """Return series as an Arrow file, one row each, ordered by their files.

    It tells of each of its batches between which paths the files of that are.
    """
    import pyarrow as pa

    integers = pa.list_(pa.int64())
    columns: dict[str, Any] = {
        "uid": pa.string(),
        "paths": pa.binary(),
        "syntaxes": pa.list_(pa.string()),
        "tiles": integers,
        "common_tags": integers,
        "common": pa.list_(pa.binary()),
        "varying_tags": integers,
        "varying_counts": integers,
        "varying_vrs": pa.list_(pa.string()),
        "varying": pa.list_(pa.binary()),
        "varying_codes": pa.list_(pa.int32()),
        **dict.fromkeys(_INTEGERS, integers),
    }
    told = sorted(map(_told, rows), key=lambda row: str(row["from_path"]))
    batches = [told[start : start + _SERIES_A_BATCH] for start in range(0, len(told), _SERIES_A_BATCH)]
    ends = [(batch[0]["from_path"], max(row["to_path"] for row in batch)) for batch in batches]
    schema = pa.schema(columns, metadata={"imagedata_xr": _version(), "paths": json.dumps(ends)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in batches:
            columns_of = {name: [row[name] for row in batch] for name in columns}
            writer.write_batch(pa.RecordBatch.from_pydict(columns_of, schema=schema))
    return bytes(sink.getvalue())


def _told(row: _Known) -> dict[str, Any]:
    """Return a series as one row. The elements that vary stand tag after tag: their values, and which a frame has."""
    table = row.table
    columns = table.varying.values()
    return {
        "uid": row.uid,
        "from_path": min(table.paths),
        "to_path": max(table.paths),
        # As one text, since no name has a null in it: thousands of texts take ten times as long to read.
        "paths": "\0".join(table.paths).encode("utf-8", _ANY_NAME),
        "syntaxes": table.syntaxes,
        "tiles": table.tiles.ravel(),
        "common_tags": list(table.common),
        "common": [vr.encode() + value for vr, value in table.common.values()],
        "varying_tags": list(table.varying),
        "varying_counts": [len(column.values) for column in columns],
        "varying_vrs": [_vrs_as_text(column.vrs) for column in columns],
        "varying": [value for column in columns for value in column.values],
        "varying_codes": np.concatenate([np.zeros(0, np.intp), *(column.codes for column in columns)]),
        **{name: getattr(table, name) for name in _INTEGERS},
    }


def _vrs_as_text(vrs: Sequence[str]) -> str:
    """Return the VR of values that have one, else the VRs of all; of a value that is absent two spaces."""
    return vrs[0] if len(set(vrs)) == 1 else "".join(f"{vr:2}" for vr in vrs)


def _text_as_vrs(text: str, count: int) -> list[str]:
    return [text] * count if len(text) == 2 else [text[k : k + 2].strip() for k in range(0, 2 * count, 2)]


def _version() -> str:
    from imagedata_xr import __version__

    return f"{_FORMAT} of {__version__}"


def _rows(part: Path, first: str = "", last: str | None = None) -> Iterator[_Known]:
    """Give the series of a part that may have files from one path to another; none of a part of another version.

    A part that is damaged or cannot be read ends there with a warning: the files that it knew are read again.
    """
    import pyarrow as pa

    # Arrow's own memory comes in large pieces, which a process that reads one part pays for: ten times the reading.
    how = {"options": pa.ipc.IpcReadOptions(use_threads=False), "memory_pool": pa.system_memory_pool()}
    try:
        data = part.read_bytes()
        if _digest(data) != part.stem.rpartition("-")[2]:
            raise ValueError
        with pa.ipc.open_file(pa.BufferReader(data), **how) as file:
            metadata = file.schema.metadata or {}
            if metadata.get(b"imagedata_xr", b"").decode() != _version():
                return
            for number, (low, high) in enumerate(json.loads(metadata[b"paths"])):
                if high < first or (last is not None and low > last):
                    continue
                batch = file.get_batch(number)
                yield from (_known(batch, row) for row in range(batch.num_rows))
    except FileNotFoundError:
        return  # another process wrote several parts as one meanwhile; its files are read again
    except OSError as err:
        msg = f"the part {part} of the index cannot be read ({err.strerror or err}) and is not used; it can be removed"
        warnings.warn(msg, stacklevel=2)
    except (pa.ArrowException, KeyError, IndexError, ValueError) as err:
        msg = f"the part {part} of the index is damaged ({type(err).__name__}) and not used; it can be removed"
        warnings.warn(msg, stacklevel=2)


def _known(batch: Any, row: int) -> _Known:
    """Return one row of a part."""
    column = {name: batch.column(name)[row] for name in batch.schema.names}
    lists = {
        name: cell.values.to_numpy(zero_copy_only=False) for name, cell in column.items() if hasattr(cell, "values")
    }
    paths = column["paths"].as_py().decode("utf-8", _ANY_NAME).split("\0")
    n = len(paths)
    values = lists["varying"].tolist()
    codes = lists["varying_codes"].astype(np.intp).reshape(-1, n)
    ends = np.cumsum(lists["varying_counts"]).tolist()
    starts = [0, *ends]
    texts = lists["varying_vrs"].tolist()
    integers: dict[str, Any] = {name: np.array(lists[name], np.int64) for name in _INTEGERS}
    table = FrameTable(
        {
            number: Raw(packed[:2].decode(), packed[2:])
            for number, packed in zip(lists["common_tags"].tolist(), lists["common"].tolist(), strict=True)
        },
        {
            number: Column(codes[k], values[starts[k] : ends[k]], _text_as_vrs(texts[k], ends[k] - starts[k]))
            for k, number in enumerate(lists["varying_tags"].tolist())
        },
        paths,
        syntaxes=lists["syntaxes"].tolist(),
        tiles=np.array(lists["tiles"], np.int64).reshape(n, 4),
        **integers,
    )
    return _Known(column["uid"].as_py(), table)
