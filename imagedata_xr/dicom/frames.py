"""The pixels of a grid of frames, read when they are indexed: exactly the frames asked for, in modality units."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from imagedata_xr.errors import MissingHeaderError, UnreadableFileError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from imagedata_xr.dicom.scan import FrameTable

__all__ = ["FrameArray", "PixelFormat", "pixel_format", "read_stored"]


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of all frames are stored (PS3.3 C.7.6.3), as the elements say."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value that can be stored."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1


def pixel_format(table: FrameTable) -> PixelFormat:
    """Return the pixel format that all frames share; bits may vary in number, signs and sizes may not.

    Raises
    ------
    MissingHeaderError
        If an element is absent, or says what no image can be.
    """

    def one(name: str, default: int | None = None) -> int:
        values = {v for v in table.values(name) if isinstance(v, int)}
        if not values and default is not None:
            return default
        if len(values) != 1:
            found = "no value" if not values else "values " + ", ".join(map(str, sorted(values)))
            msg = f"the frames have {found} of {name}; one is wanted"
            raise MissingHeaderError(msg)
        return values.pop()

    allocated = one("BitsAllocated")
    if allocated not in (8, 16, 32):
        msg = f"BitsAllocated is {allocated}; 8, 16 or 32 can be read"
        raise MissingHeaderError(msg)
    stored = max((v for v in table.values("BitsStored") if isinstance(v, int)), default=allocated)
    if not 1 <= stored <= allocated:
        msg = f"BitsStored is {stored}, with BitsAllocated {allocated}"
        raise MissingHeaderError(msg)
    high = max((v for v in table.values("HighBit") if isinstance(v, int)), default=stored - 1)
    if not stored - 1 <= high < allocated:
        msg = f"HighBit is {high}, with BitsStored {stored} of {allocated}"
        raise MissingHeaderError(msg)
    photometric = table.values("PhotometricInterpretation")[0]
    return PixelFormat(
        one("Rows"),
        one("Columns"),
        one("SamplesPerPixel", 1),
        allocated,
        stored,
        high,
        bool(one("PixelRepresentation", 0)),
        str(photometric or ""),
    )


def read_stored(
    path: str, offset: int, length: int, form: PixelFormat, version: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Return the stored values of a frame, shape (row, col).

    Parameters
    ----------
    path, offset, length
        The file, and where in it the pixels lie [bytes]; an offset of -1 leaves it to pydicom.
    form : PixelFormat
        How they are stored.
    version : (int, int), optional
        Size [bytes] and modification time [ns] that the file must have.

    Raises
    ------
    UnreadableFileError
        If the file has changed, is cut short, or cannot be decoded.
    """
    try:
        with open(path, "rb", buffering=0 if offset >= 0 else -1) as file:
            status = os.fstat(file.fileno())
            if version is not None and version != (status.st_size, status.st_mtime_ns):
                msg = f"{path} has changed since it was opened; open the series again"
                raise UnreadableFileError(msg)
            frame = _decoded(path, file, form) if offset < 0 else _native(path, file, offset, length, form)
    except UnreadableFileError:
        raise
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    return _only_stored_bits(frame, form)


def _native(path: str, file: Any, offset: int, length: int, form: PixelFormat) -> NDArray[Any]:
    """Return the values of a frame that lie in the file as they are."""
    frame = np.empty((form.rows, form.columns), form.dtype.newbyteorder("<"))
    if not frame.nbytes <= length < 2 * frame.nbytes:
        msg = (
            f"{path} has {length} bytes of pixel data; {frame.nbytes} are wanted for {form.rows}×{form.columns} "
            f"of {form.bits_allocated} bits"
        )
        raise UnreadableFileError(msg)
    file.seek(offset)
    got = file.readinto(frame.reshape(-1).view(np.uint8).data)
    if got != frame.nbytes:
        msg = f"{path} is cut short: {got} of {frame.nbytes} bytes of pixel data are there"
        raise UnreadableFileError(msg)
    return frame


def _only_stored_bits(frame: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Return values without the bits beside those stored; the sign extended from the highest stored one."""
    above = form.bits_allocated - 1 - form.high_bit
    unused = form.bits_allocated - form.bits_stored
    if not unused:
        return frame
    only: NDArray[Any] = np.right_shift(np.left_shift(frame, above), unused)
    return only


def _decoded(path: str, file: Any, form: PixelFormat) -> NDArray[Any]:
    """Return the stored values of a compressed or unusual file, decoded by pydicom."""
    import pydicom

    from imagedata_xr.dicom.codecs import register

    register()
    try:
        dataset = pydicom.dcmread(file, force=True)
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
            from imagedata_xr.dicom.scan import guessed_syntax

            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(guessed_syntax(dataset))
        syntax = dataset.file_meta.TransferSyntaxUID
        frame = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, TypeError, KeyError, EOFError) as err:
        name = pydicom.uid.UID(syntax).name if "syntax" in locals() else "unknown transfer syntax"
        msg = f"cannot decode {path} ({name}): {err}"
        raise UnreadableFileError(msg) from err
    if frame.shape != (form.rows, form.columns):
        msg = f"{path} decodes to {frame.shape}; {(form.rows, form.columns)} is wanted"
        raise UnreadableFileError(msg)
    return frame.astype(form.dtype, copy=False)


def _forms(table: FrameTable, form: PixelFormat) -> list[PixelFormat] | None:
    """Return the pixel format of each frame where frames differ in bits; None where one serves for all."""
    bits = list(zip(table.values("BitsStored"), table.values("HighBit"), strict=True))
    if len(set(map(str, bits))) == 1:
        return None
    whole = [(s if isinstance(s, int) else form.bits_stored, h) for s, h in bits]
    return [replace(form, bits_stored=s, high_bit=h if isinstance(h, int) else s - 1) for s, h in whole]


class FrameArray(BackendArray):
    """Values of a grid of frames, dims (tags..., slice, row, col); reads a frame when it is indexed."""

    def __init__(
        self,
        table: FrameTable,
        rows: NDArray[np.intp],
        form: PixelFormat,
        dtype: DTypeLike,
        slope: NDArray[np.float64] | None,
        intercept: NDArray[np.float64] | None,
        fill: float,
    ) -> None:
        self.rows = rows
        self.form = form
        self.dtype = np.dtype(dtype)
        self.shape = (*rows.shape, form.rows, form.columns)
        self.slope, self.intercept, self.fill = slope, intercept, fill
        self.paths = table.paths
        self.offsets, self.lengths = table.offsets, table.lengths
        self._version = (table.sizes, table.mtimes)
        self._forms = _forms(table, form)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what identifies the values: files, sizes and modification times, and the way they are read."""
        return (
            type(self).__name__,
            tuple(self.paths),
            *(a.tobytes() for a in (*self._version, self.offsets, self.rows)),
            *(None if a is None else a.tobytes() for a in (self.slope, self.intercept)),
            self.form,
            str(self.dtype),
            self.fill,
        )

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the values at an index, read now."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        lead = self.rows.ndim
        rows = self.rows
        for axis in range(lead - 1, -1, -1):
            rows = rows[(slice(None),) * axis + (key[axis],)]
        row_key, col_key = key[lead], key[lead + 1]
        crop = np.broadcast_to(np.False_, (self.form.rows, self.form.columns))[row_key][..., col_key].shape
        out = np.empty((*rows.shape, *crop), self.dtype)
        flat = out.reshape(-1, *crop)
        for place, row in enumerate(rows.ravel()):
            flat[place] = self._frame(int(row), row_key, col_key)
        return out

    def _frame(self, row: int, row_key: Any, col_key: Any) -> NDArray[Any] | float:
        """Return the values of one frame, cropped."""
        if row < 0:
            return self.fill
        form = self.form if self._forms is None else self._forms[row]
        version = int(self._version[0][row]), int(self._version[1][row])
        frame = read_stored(self.paths[row], int(self.offsets[row]), int(self.lengths[row]), form, version)
        stored: NDArray[Any] = frame[row_key][..., col_key]
        if self.slope is None or self.intercept is None:
            return stored
        slope, intercept = float(self.slope[row]), float(self.intercept[row])
        if self.dtype.kind in "iu":
            return stored.astype(self.dtype) * int(slope) + int(intercept)
        return stored * slope + intercept
