"""An image to a NIfTI file, volume by volume, with its sidecar and tables of diffusion gradients."""

from __future__ import annotations

import json
import math
import os
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from imagedata_xr.ahead import ahead
from imagedata_xr.dicom.attributes import check_attributes
from imagedata_xr.dicom.frames import read_into
from imagedata_xr.errors import ValuesNotStorableError
from imagedata_xr.files import output_files
from imagedata_xr.formats.bids import KEY, TOLD, gradients_to_fsl, presence_of, sidecar_of
from imagedata_xr.formats.labels import tag_dims
from imagedata_xr.formats.lazy import narrowed, type_of_file
from imagedata_xr.formats.placing import evenly_spaced
from imagedata_xr.formats.registry import suffix_of
from imagedata_xr.headers import with_known_coords
from imagedata_xr.images import require_pictures
from imagedata_xr.positions import affine_ras
from imagedata_xr.times import are_numbers_of_volumes, in_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["BESIDE", "COMPONENT", "INTENTS_OF_VECTORS", "file_image", "file_order", "nifti_header", "write_nifti"]

_SUFFIXES: Final = (".nii.gz", ".nii", ".img.gz", ".hdr.gz", ".img", ".hdr")
BESIDE: Final = (".json", ".bval", ".bvec")
"""Ends of the names of sidecar and tables."""

COMPONENT: Final = "component"
"""Dim of the numbers of a vector, from 1."""
INTENTS_OF_VECTORS: Final = range(1004, 1011)
"""Codes of matrices, displacements, vectors, points, triangles and quaternions, which lie along the fifth dim."""
_VECTOR: Final = 1007

_DTYPES: Final = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
_LARGEST_NIFTI_1: Final = 32767
"""Voxels along a dim that the header of NIfTI-1 can say."""

_LEVEL: Final = 2
"""Of igzip: files of images are at most some hundredths larger than gzip makes them, in a tenth of the time."""
_THREADS: Final = 4


def write_nifti(
    da: xr.DataArray,
    path: Path,
    *,
    overwrite: bool = False,
    resample: bool = False,
    version: Literal[1, 2] | None = None,
) -> list[Path]:
    """Return the files that an image was written to: NIfTI, a BIDS sidecar, and ``.bval`` and ``.bvec`` of diffusion.

    Rows are stored from the last to the first, as dcm2niix does, and dims as (col, row, slice, tag dims...), ``time``
    first among these and ``component`` the fifth, as of vectors. sform and qform are the place in the scanner, or what
    the place of an original from NIfTI was of; a sheared stack has a sform only, since no qform tells a shear. Values
    are those of the array. Nothing names the patient.

    Parameters
    ----------
    da : DataArray
        Image with at most four tag dims.
    path : path-like
        A file ``.nii``, ``.nii.gz`` or ``.img``, or a folder to make with ``image.nii.gz`` in it.
    overwrite : bool
        Replace files of the same names; sidecar and tables of an image that is replaced go with it.
    resample : bool
        Whether uneven slices are interpolated to even ones.
    version : {1, 2}, optional
        Of NIfTI; None takes 2 only where 1 cannot hold the sizes.

    Raises
    ------
    GeometryError
        If slices are unevenly spaced, or the place is not known.
    ValuesNotStorableError
        If NIfTI has no such type of values.
    ValueError
        If there are too many dims.
    FileExistsError
        If something is at `path`.
    ConflictingOriginError
        If what the sidecar tells is of one of several series alone.
    """
    image, dims = file_image(da, resample=resample)
    check_attributes(image, only=TOLD)
    header = nifti_header(image, dims, version)
    with output_files(path, _SUFFIXES, overwrite=overwrite, beside=BESIDE) as file:
        suffix = suffix_of(file, _SUFFIXES)
        stem = file.with_name(file.name[: -len(suffix)])
        _save(image, dims, header, stem, suffix)
        told = sidecar_of(in_seconds(da))
        if present := presence_of(image):
            told[KEY] = {**told.get(KEY, {}), "present": present}
        sidecar = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False, default=_number)
        stem.with_name(f"{stem.name}.json").write_text(f"{sidecar}\n", encoding="utf-8")
        _save_tables(image, dims, stem, np.asarray(header.get_sform()))
        written = sorted(found.name for found in file.parent.iterdir())
    folder = path if not path.name.lower().endswith(_SUFFIXES) else path.parent
    return [folder / name for name in written]


def file_image(da: xr.DataArray, *, resample: bool = False) -> tuple[xr.DataArray, list[str]]:
    """Return an image evenly spaced and from the last row to the first, as other programs write it, and its tag dims.

    Raises
    ------
    GeometryError, ValueError
        See `write_nifti`.
    """
    require_pictures(da)
    image = in_seconds(with_known_coords(da))
    if "slice" not in image.dims:
        image = image.expand_dims("slice", axis=image.get_axis_num("row"))
    dims = tag_dims(image)
    if len(dims) > 4:
        msg = f"a NIfTI file has at most 4 dims beyond slice, row and col; the image has {dims}"
        raise ValueError(msg)
    colour = ["rgb"] if "rgb" in image.dims else []
    image = evenly_spaced(image.transpose(*dims, "slice", "row", "col", *colour), resample=resample)
    return image.isel(row=slice(None, None, -1)), dims


def _number(value: Any) -> Any:
    """Return NumPy's numbers and arrays as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    msg = f"a {type(value).__name__} among the attributes cannot be written to JSON"
    raise TypeError(msg)


def file_order(dims: list[str]) -> list[str]:
    """Return tag dims as a file has them from its fourth dim on: time, if there is one, then the innermost first.

    Examples
    --------
    >>> file_order(["time", "te"]), file_order(["fa", "te"])
    (['time', 'te'], ['te', 'fa'])
    """
    return [*(["time"] if "time" in dims else []), *(dim for dim in reversed(dims) if dim != "time")]


def nifti_header(image: xr.DataArray, dims: list[str], version: Literal[1, 2] | None = None) -> Any:
    """Return nibabel's header of an image with the dims (tag dims..., slice, row, col), in the order it has them.

    Raises
    ------
    GeometryError, ValuesNotStorableError, ValueError
        See `write_nifti`.
    """
    import nibabel as nib

    names = ["col", "row", "slice", *file_order(dims)]
    shape = [image.sizes[dim] for dim in names]
    is_vector = COMPONENT in (names[3:4] if len(names) == 4 else names[4:5])
    if is_vector:
        # Other programs look for vectors along the fifth dim only.
        shape[3:-1] = shape[3:-1] or [1]
    one = version == 1 or (version is None and max(shape) <= _LARGEST_NIFTI_1)
    if version == 1 and max(shape) > _LARGEST_NIFTI_1:
        msg = f"NIfTI-1 has at most {_LARGEST_NIFTI_1} voxels along a dim, the image {max(shape)}: write version=2"
        raise ValueError(msg)
    header = nib.Nifti1Header() if one else nib.Nifti2Header()
    header.set_data_dtype(_stored_dtype(image))
    header.set_data_shape(shape)
    affine = affine_ras(image)[:, [2, 1, 0, 3]]
    zooms = [*np.linalg.norm(affine[:3, :3], axis=0).tolist(), *([1.0] * (len(shape) - 3))]
    has_times = "time" in dims and not are_numbers_of_volumes(image.coords.get("time"))
    header.set_xyzt_units("mm", "sec" if has_times else "unknown")
    if has_times and image.sizes["time"] > 1:
        times = image.coords["time"].values.astype(float) if "time" in image.coords else np.zeros(0)
        # The format has one step; where steps differ the sidecar tells the times.
        steps = np.diff(times)
        if steps.size and (steps > 0).all():
            zooms[3] = float(steps.mean())
    header.set_zooms(zooms)
    code = _code(image)
    header.set_sform(affine, code=code)
    if any(abs(v) > 1e-6 for v in np.atleast_1d(image.attrs.get("slice_shear", 0.0))):
        header.set_qform(None, code=0)
    else:
        header.set_qform(affine, code=code, strip_shears=True)
        # nibabel rounds zooms to the qform's; they are the steps of the affine.
        header.set_zooms(zooms)
    phase = {"ROW": 0, "COL": 1}.get(str(image.attrs.get("InPlanePhaseEncodingDirection", "")))
    header.set_dim_info(None if phase is None else 1 - phase, phase, 2)
    header["descrip"] = b"imagedata_xr"
    if is_vector:
        header.set_intent(*_intent(image))
    return header


def _intent(image: xr.DataArray) -> tuple[int, tuple[float, ...], str]:
    """Return code, parameters and name of vectors: what the file told of an original from NIfTI."""
    import nibabel as nib

    label, *parameters, name = image.encoding.get("intent") or ["", ""]
    codes: Any = nib.nifti1.intent_codes
    code = int(codes.code[label]) if label in codes.label else _VECTOR
    return (code, tuple(map(float, parameters)), str(name)) if code in INTENTS_OF_VECTORS else (_VECTOR, (), "")


def _code(image: xr.DataArray) -> int:
    """Return what the place is of: what its file told of an original that was read from NIfTI, else the scanner (1)."""
    if image.encoding.get("source_format") != "nifti":
        return 1
    return int(image.encoding.get("sform_code") or image.encoding.get("qform_code") or 1)


def _stored_dtype(image: xr.DataArray) -> np.dtype[Any]:
    """Return the type of the values in a file.

    Raises
    ------
    ValuesNotStorableError
        If NIfTI has none that holds them.
    """
    if "rgb" in image.dims:
        if image.dtype != np.uint8:
            msg = f"colours are {image.dtype}; NIfTI has colours of 8 bits only"
            raise ValuesNotStorableError(msg)
        return np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    if image.dtype == bool:
        return np.dtype(np.uint8)
    if image.dtype == np.float16:
        return np.dtype(np.float32)
    if str(image.dtype) not in _DTYPES:
        msg = f"NIfTI has no values of type {image.dtype}; convert them with image.astype(...)"
        raise ValuesNotStorableError(msg)
    is_scaled = any(image.encoding.get(name) != value for name, value in (("scl_slope", 1.0), ("scl_inter", 0.0)))
    return image.dtype if is_scaled else type_of_file(image, "nifti")


def _save(image: xr.DataArray, dims: list[str], header: Any, stem: Path, suffix: str) -> None:
    """Write header and values."""
    stored = _stored_dtype(image)
    packed = suffix.endswith(".gz")
    header["scl_slope"], header["scl_inter"] = 1, 0
    if suffix.startswith(".nii"):
        header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
        target, lead = stem.with_name(f"{stem.name}{suffix}"), header.binaryblock.ljust(header.single_vox_offset, b"\0")
    else:
        header["magic"], header["vox_offset"] = header.pair_magic, 0
        ending = ".gz" if packed else ""
        with _Output(stem.with_name(f"{stem.name}.hdr{ending}"), packed=packed) as out:
            out.write(header.binaryblock + b"\0" * 4)
        target, lead = stem.with_name(f"{stem.name}.img{ending}"), b""
    with _Output(target, packed=packed) as out:
        out.write(lead)
        # The coordinates of each volume would be made, and are not wanted.
        volumes = _volumes(image.variable, dims)
        for values in ahead(_as_stored(volumes, np.dtype(np.uint8) if stored.names else stored)):
            out.write(values.reshape(-1).view(np.uint8).data)


def _as_stored(volumes: Iterator[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield volumes as they lie in the file, in two arrays in turns: one is filled while the other is written."""
    turns: list[NDArray[Any]] = []
    for number, volume in enumerate(volumes):
        if len(turns) < 2:
            turns.append(np.empty(volume.shape, dtype))
        values = turns[number % 2]
        np.copyto(values, narrowed(volume, dtype))
        yield values


def _volumes(image: xr.Variable, dims: list[str]) -> Iterator[NDArray[Any]]:
    """Yield the values of each volume (slice, row, col), in the order of the file; a dask chunk is computed once.

    A volume is there until the next one is asked for. Where the tag dims of a file run otherwise than those of the
    image, chunks that hold several volumes are computed for each part of the file that lies together.
    """
    outer = list(reversed(file_order(dims)))
    blocks = []
    for dim in outer:
        sizes = image.chunksizes.get(dim, (1,) * image.sizes[dim])
        stops = np.cumsum(sizes).tolist()
        blocks.append([slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)])
    # Only along the outermost dim may a block be whole: further in, blocks of several dims would interleave.
    for number, dim in enumerate(outer):
        if number + 1 < len(outer):
            blocks[number] = [slice(n, n + 1) for n in range(image.sizes[dim])]
    # One for all volumes: to get new memory would cost as much as to read into it.
    together = [size for dim, size in image.sizes.items() if dim not in (outer or ["slice"])]
    room = np.empty(math.prod(together) * image.dtype.itemsize, np.uint8)
    for corner in product(*blocks):
        part = image.isel(dict(zip(outer, corner, strict=True))).transpose(*outer, ...)
        if not dims and image.chunks is None:
            # One volume may be all there is: slice by slice.
            for number in range(image.sizes["slice"]):
                yield read_into(part.isel(slice=slice(number, number + 1)), room)
            continue
        values = read_into(part, room)
        yield from values.reshape(-1, *values.shape[len(outer) :])


class _Output:
    """A file to write to, packed or not."""

    def __init__(self, path: Path, *, packed: bool) -> None:
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115 - closed by __exit__
        self._packer: Any = None
        if packed:
            from isal import igzip_threaded

            pack: Any = igzip_threaded.open  # without types
            self._packer = pack(self._file, "wb", compresslevel=_LEVEL, threads=min(_THREADS, os.cpu_count() or 1))

    def __enter__(self) -> Self:
        return self

    def write(self, data: Any) -> None:
        """Write bytes."""
        (self._packer or self._file).write(data)

    def __exit__(self, *error: object) -> None:
        try:
            if self._packer is not None:
                self._packer.close()
        finally:
            self._file.close()


def _save_tables(image: xr.DataArray, dims: list[str], stem: Path, affine: NDArray[np.float64]) -> None:
    """Write b-values and directions where the image has them along its only tag dim."""
    if len(dims) != 1 or "b" not in image.coords or image.coords["b"].dims != (dims[0],):
        return
    values = image.coords["b"].values.astype(float)
    if not np.isfinite(values).all():
        return
    stem.with_name(f"{stem.name}.bval").write_text(" ".join(f"{v:.10g}" for v in values) + "\n")
    if not all(f"b{axis}" in image.coords for axis in "xyz"):
        return
    directions = np.stack([image.coords[f"b{axis}"].values for axis in "xyz"], axis=1)
    vectors = gradients_to_fsl(directions, affine)
    lines = [" ".join(f"{v:.8g}" for v in column) for column in vectors.T]
    stem.with_name(f"{stem.name}.bvec").write_text("\n".join(lines) + "\n")
