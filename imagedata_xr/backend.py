"""xarray's entry point: ``xr.open_dataset(path, engine="dicom")`` and the same for DataTree.

Opening is one path for all: `imagedata_xr.open_series` calls xarray, xarray calls this.
"""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import xarray as xr
from xarray.backends import BackendEntrypoint

from imagedata_xr.arguments import require_bools
from imagedata_xr.errors import LeftOutWarning, MissingFramesError, NoDicomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydicom import Dataset as PydicomDataset

    from imagedata_xr.dicom.scan import Files
    from imagedata_xr.dicom.sort import Duplicates, Missing
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.dicom.tags import Order
    from imagedata_xr.sources import Source

__all__ = ["DicomBackendEntrypoint", "images_in", "open_image", "open_tree"]

_LOOK_AT = 8
"""Files of a folder that are looked at to guess whether it is one of DICOM files."""


def open_image(
    source: Source,
    *,
    order: Order = "auto",
    series: str | int | None = None,
    merge: bool = False,
    where: Callable[[PydicomDataset], bool] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
    rescale: bool = True,
    errors: Literal["raise", "warn"] = "raise",
    index: str | os.PathLike[str] | None = None,
) -> xr.Dataset:
    """Return one series as a Dataset with the lazy variable ``image``; see `imagedata_xr.open_series`."""
    from imagedata_xr.dicom.scan import scan
    from imagedata_xr.dicom.select import chosen, filtered, lacking_parts
    from imagedata_xr.dicom.series import build
    from imagedata_xr.dicom.sort import sort
    from imagedata_xr.dicom.stacks import only_stack

    require_bools(merge=merge, rescale=rescale)
    tables = scan(source, errors=errors, index=index)
    if where is not None:
        tables = filtered(tables, where)
    table = chosen(tables, series, merge=merge)
    lacking = lacking_parts(table)
    if lacking and missing == "error":
        raise MissingFramesError(lacking)
    stack = only_stack(table)
    grid = sort(stack, order, missing=missing, duplicates=duplicates)
    return build(stack, grid, rescale=rescale, source=_name(source), is_part=where is not None)


def _name(source: Source) -> str:
    """Return a source as one string."""
    source = getattr(source, "source", source)  # of files that were listed
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "\n".join(os.fspath(path) for path in source)


def open_tree(
    source: Source,
    *,
    order: Order = "auto",
    where: Callable[[PydicomDataset], bool] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
    rescale: bool = True,
    errors: Literal["raise", "warn"] = "raise",
    index: str | os.PathLike[str] | None = None,
) -> dict[str, xr.Dataset]:
    """Return the images of a source by path: patient, study and series, as deep as the data go.

    A level with one member is left out; its elements are in the attributes of the root. Stacks of one series are
    children of it.
    """
    from imagedata_xr.dicom.scan import list_files, scan
    from imagedata_xr.dicom.select import filtered, lacking_parts
    from imagedata_xr.dicom.series import build
    from imagedata_xr.dicom.sort import sort
    from imagedata_xr.dicom.stacks import split_stacks

    require_bools(rescale=rescale)
    files = list_files(source, errors)
    try:
        found = scan(files, errors=errors, index=index)
    except NoDicomError as err:
        msg = f"{err}{_others(files)}"
        raise NoDicomError(msg) from err
    readable = []
    for uid, table in (found if where is None else filtered(found, where)).items():
        try:
            label = " ".join(str(v) for n in ("SeriesNumber", "SeriesDescription") if (v := table.first(n)) != "")
            _shared([table])
            lacking = lacking_parts(table)
            if lacking and missing == "error":
                raise MissingFramesError(lacking)
            readable.append((table, label, split_stacks(table)))
        except (ValueError, OSError) as err:
            _leave_out(f"series {uid}", err, errors)
    tables = [table for table, _, _ in readable]
    levels = ["PatientID", "StudyInstanceUID"]
    split = [len({str(t.first(level)) for t in tables}) > 1 for level in levels]
    groups: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=_shared(tables))}
    nodes: dict[tuple[str, str], str] = {}
    for table, label, stacks in readable:
        place = ""
        for level, shown, is_split in zip(levels, ("PatientID", "StudyDate"), split, strict=True):
            if is_split:
                key = place, str(table.first(level))
                if key not in nodes:
                    nodes[key] = _unused(f"{place}/{_node(table.first(shown) or key[1])}", nodes.values())
                place = nodes[key]
        name = _unused(f"{place}/{_node(label or 'series')}", groups)
        for number, stack in enumerate(stacks):
            node = name if len(stacks) == 1 else f"{name}/stack {number}"
            try:
                with _warnings_of(f"series {node.lstrip('/')!r}"):
                    grid = sort(stack, order, missing=missing, duplicates=duplicates)
                    groups[node] = build(stack, grid, rescale=rescale, source=_name(source), is_part=where is not None)
            except (ValueError, OSError) as err:
                _leave_out(f"series {node.lstrip('/')!r}", err, errors)
    return groups


@contextmanager
def _warnings_of(name: str) -> Iterator[None]:
    """Say of which series the warnings of a block are; in threads beside others nobody knows whose a warning is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for warning in caught:
            kind = warning.category
            told = kind(f"{name}: {warning.message}") if issubclass(kind, UserWarning) else warning.message
            warnings.warn_explicit(told, kind, warning.filename, warning.lineno)


def _others(files: Files) -> str:
    """Return what is to be said of a source of another format; "" where there is none."""
    from imagedata_xr.formats.registry import format_of, formats_of
    from imagedata_xr.sources import paths_in

    names = {*formats_of(files), *map(format_of, paths_in(files.source))} - {None}
    # A store is a folder of files whose names tell nothing.
    names |= {"zarr"} if any(".zarr/" in file.replace(os.sep, "/").lower() for file in files) else set()
    told = ", ".join(sorted(map(str, names)))
    return f"; there is {told}: imagedata_xr.open_series opens one image of it" if told else ""


def images_in(tree: xr.DataTree) -> list[tuple[str, xr.DataArray]]:
    """Return path and image of each node of a study that has one, with the elements that all of it share."""
    return [
        (node.path, node.dataset["image"].assign_attrs({**tree.attrs, **node.dataset["image"].attrs}))
        for node in tree.subtree
        if "image" in node.data_vars
    ]


def _leave_out(name: str, err: ValueError | OSError, errors: Literal["raise", "warn"]) -> None:
    """Raise the error of one series, or warn of it."""
    msg = f"{name}: {err}"
    if errors == "raise":
        raise type(err)(f"{msg}\nLeave out what cannot be opened with errors='warn'") from err
    told = LeftOutWarning(f"left out: {msg}", name)
    told.__cause__ = err
    warnings.warn(told, stacklevel=6)


def _shared(tables: list[FrameTable]) -> dict[str, Any]:
    """Return the elements of patient and study that all series share."""
    patient = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
    study = ["StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"]
    values = {name: {repr(v): v for t in tables for v in t.values(name)} for name in patient + study}
    return {
        name: value
        for name, found in values.items()
        if len(found) == 1 and (value := next(iter(found.values()))) is not None
    }


def _node(text: object) -> str:
    """Return text as the name of a node, in which a slash would open a level."""
    return str(text).replace("/", "-").strip() or "unknown"


def _unused(name: str, taken: Iterable[str]) -> str:
    known, number, free = set(taken), 2, name
    while free in known:
        free, number = f"{name} ({number})", number + 1
    return free


def _is_dicom(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _some_files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        files = sorted(e.path for e in entries if e.is_file())
    yield from files[:_LOOK_AT]


class DicomBackendEntrypoint(BackendEntrypoint):
    """Opens series and studies of DICOM files."""

    description = "DICOM series and studies, with patient positions as coordinates"
    open_dataset_parameters: ClassVar[Any] = (
        "filename_or_obj", "drop_variables", "order", "series", "merge", "where", "missing", "duplicates", "rescale",
        "errors", "index",
    )  # fmt: skip

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        order: Order = "auto",
        series: str | int | None = None,
        merge: bool = False,
        where: Callable[[PydicomDataset], bool] | None = None,
        missing: Missing = "error",
        duplicates: Duplicates = "error",
        rescale: bool = True,
        errors: Literal["raise", "warn"] = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> xr.Dataset:
        """Return one series as a Dataset with the variable ``image``; see `imagedata_xr.open_series`."""
        dataset = open_image(
            filename_or_obj,
            order=order,
            series=series,
            merge=merge,
            where=where,
            missing=missing,
            duplicates=duplicates,
            rescale=rescale,
            errors=errors,
            index=index,
        )
        return dataset if drop_variables is None else dataset.drop_vars(drop_variables, errors="ignore")

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        order: Order = "auto",
        where: Callable[[PydicomDataset], bool] | None = None,
        missing: Missing = "error",
        duplicates: Duplicates = "error",
        rescale: bool = True,
        errors: Literal["raise", "warn"] = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Return every series by its path in the tree; see `imagedata_xr.open_study`."""
        groups = open_tree(
            filename_or_obj,
            order=order,
            where=where,
            missing=missing,
            duplicates=duplicates,
            rescale=rescale,
            errors=errors,
            index=index,
        )
        if drop_variables is None:
            return groups
        return {name: ds.drop_vars(drop_variables, errors="ignore") for name, ds in groups.items()}

    def open_datatree(self, filename_or_obj: Any, **kwargs: Any) -> xr.DataTree:
        """Return every series as a DataTree; see `imagedata_xr.open_study`."""
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **kwargs))

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is a DICOM file, or a folder whose first files are; folders below are not looked at."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = os.fspath(filename_or_obj)
        if os.path.isdir(path):  # noqa: PTH112 - xarray gives strings
            # Zarr keeps arrays in folders too, and xarray asks us first.
            if any(os.path.exists(os.path.join(path, name)) for name in ("zarr.json", ".zgroup", ".zarray")):  # noqa: PTH110, PTH118 - as above
                return False
            return any(_is_dicom(file) for file in _some_files(path))
        return _is_dicom(path)
