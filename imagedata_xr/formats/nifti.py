"""NIfTI-1 and NIfTI-2 files as images, through nibabel (nifti.nimh.nih.gov/nifti-1, nifti1.h)."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import MixedSeriesError, OrderError, UnreadableFileError
from imagedata_xr.formats.bids import (
    KEY,
    attrs_of,
    gradients_from_fsl,
    presence_in,
    read_sidecar,
    read_tables,
    tag_dims_of,
)
from imagedata_xr.formats.labels import COUNTED_FROM_FIRST, Labels, dim_names, with_labels
from imagedata_xr.formats.lazy import lazy_values, narrowed, signed_type
from imagedata_xr.formats.nifti_load import affine_told, check_told, load
from imagedata_xr.formats.nifti_write import (
    BESIDE,
    COMPONENT,
    INTENTS_OF_VECTORS,
    file_image,
    file_order,
    nifti_header,
    write_nifti,
)
from imagedata_xr.formats.placing import place_by_affine
from imagedata_xr.formats.registry import Format, suffix_of
from imagedata_xr.geometry import lps_to_ras
from imagedata_xr.names import TAG_UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FORMATS", "from_nibabel", "image_of", "read_nifti", "to_nibabel"]

_SUFFIXES: Final = (".nii.gz", ".nii", ".img.gz", ".hdr.gz", ".img", ".hdr")
_SECONDS: Final = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_EXACT: Final = 24
"""Bits that a float32 keeps."""
Key = tuple[int | slice, ...]
Extra = tuple[int, int]
"""A dim of a file beyond three: its number from the fourth one on, and its size."""


def read_nifti(paths: list[str], order: Any = "auto") -> xr.DataArray:
    """Return the image of a NIfTI file, read lazily.

    Its place is that of the sform, else of the qform, and there is none if neither has a code. A sidecar of the
    same name (``.json``) and tables of diffusion gradients (``.bval``, ``.bvec``) tell what the volumes are; else they
    are a ``time`` where the file has a unit of time, or numbers along a dim ``volume``.

    Parameters
    ----------
    paths : list of str
        One file; header and pixels may be two.
    order : str or sequence of str
        Names of the tag dims; "auto" takes those that the files tell.

    Returns
    -------
    DataArray
        Rows and columns turned as in DICOM pictures, slices ascending along their normal.

    Raises
    ------
    MixedSeriesError
        If several images are given.
    OrderError
        If the file has not as many dims as `order` names.
    UnreadableFileError
        If a file is damaged, or an Analyze file, whose place in the patient nobody knows.
    """
    # Only header and pixels of a pair are one image; a.nii and a.nii.gz are two.
    images = {(_stem(path), suffix_of(path, _SUFFIXES).replace("hdr", "img")): path for path in sorted(paths)}
    if len(images) > 1:
        names = ", ".join(sorted(Path(path).name for path in images.values())[:8])
        msg = f"{len(images)} NIfTI images are there, one was wanted: {names}. Open one of the files"
        raise MixedSeriesError(msg)
    (((stem, _), path),) = images.items()
    image = load(path)
    files = sorted({str(holder.filename) for holder in image.file_map.values() if holder.filename})
    return image_of(image, files, order, stem=stem)


def image_of(image: Any, files: Sequence[str], order: Any = "auto", *, stem: Path | None = None) -> xr.DataArray:
    """Return the image that nibabel has opened; its values lazily from its files, or from memory if there are none."""
    header = image.header
    if stem is None:
        told: dict[str, Any] = {}
        tables = None
    else:
        told = read_sidecar(stem.with_name(f"{stem.name}.json"))
    shape = [int(n) for n in image.shape] + [1] * (3 - len(image.shape))
    volumes = [size for size in shape[3:] if size > 1]
    if stem is not None:
        tables = read_tables(stem, volumes[0]) if len(volumes) == 1 else None
    extra, dims, coords = _tag_dims(header, told, shape[3:], order, stem if tables else None)
    shape += [1] * (3 + max((number + 1 for number, _ in extra), default=0) - len(shape))
    colour = _has_colours(image)
    values = _values(image, files, shape, dims, extra, colour=colour)
    da = xr.DataArray(xr.Variable((*dims, "slice", "row", "col", *(["rgb"] if colour else [])), values), name="image")
    da = with_labels(da, coords)
    if (present := presence_in(told, {str(dim): size for dim, size in da.sizes.items()})) is not None:
        da = da.assign_coords(present=present)
    da.attrs = attrs_of(told) | _directions(header, told)
    affine = affine_told(image)
    if affine is not None:
        da = place_by_affine(da, affine[:, [2, 1, 0, 3]], orientation=told.get("ImageOrientationPatientDICOM"))
    if tables is not None and affine is not None and dims in (["dti"], ["b"]):
        da = _with_gradients(da, *tables, gradients_from_fsl(tables[1], lps_to_ras(affine)))
    da.encoding = _encoding(image, files, da)
    return da


def from_nibabel(image: Any, order: Any = "auto") -> xr.DataArray:
    """Return an image of nibabel's as one of ours, at the place of its sform or qform.

    Parameters
    ----------
    image : nibabel.Nifti1Image or nibabel.Nifti2Image
        From a file, whose values are then read lazily, or from memory.
    order : str or sequence of str
        Names of the tag dims; "auto" takes ``time`` where the header has a unit of time, else ``volume``.

    Raises
    ------
    TypeError
        If it is no image of nibabel.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> image = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "ct")
    >>> from_nibabel(image.dicom.to_nibabel()).dicom.geometry_equal(image, tolerance=0.01)
    True
    """
    if not hasattr(image, "file_map"):
        msg = f"an image of nibabel is wanted, as nibabel.load returns it; this is of type {type(image).__name__}"
        raise TypeError(msg)
    path = image.file_map["image"].filename
    in_file = path is not None and not image.in_memory and Path(path).is_file()
    if in_file:
        check_told(image)
    return image_of(image, [str(path)] if in_file else [], order)


def to_nibabel(da: xr.DataArray, *, resample: bool = False) -> Any:
    """Return an image as a `nibabel.Nifti1Image` or `Nifti2Image` at the same place, all values computed.

    Dims run as in the files of `imagedata_xr.formats.nifti_write.write_nifti`, which says what raises.
    """
    import nibabel as nib

    image, dims = file_image(da, resample=resample)
    header = nifti_header(image, dims)
    axes = [*reversed(file_order(dims)), "slice", "row", "col"]
    values = image.transpose(*axes, ...).values
    stored = header.get_data_dtype()
    values = np.ascontiguousarray(values).view(stored)[..., 0] if stored.names else narrowed(values, stored)
    data = values.T.reshape(header.get_data_shape(), order="F")
    if header.sizeof_hdr == nib.Nifti2Header.sizeof_hdr:
        return nib.Nifti2Image(data, header.get_sform(), header)
    return nib.Nifti1Image(data, header.get_sform(), header)


def _beside(name: str) -> list[str]:
    """Return the names of sidecar and tables of a file, and of the other half of a pair."""
    suffix = suffix_of(name, _SUFFIXES)
    other = {".hdr": [".img"], ".img": [".hdr"], ".hdr.gz": [".img.gz"], ".img.gz": [".hdr.gz"]}.get(suffix, [])
    return [f"{name[: len(name) - len(suffix)]}{end}" for end in (*BESIDE, *other)] if suffix else []


def _stem(path: str) -> Path:
    file = Path(path)
    return file.with_name(file.name[: len(file.name) - len(suffix_of(path, _SUFFIXES))])


def _tag_dims(
    header: Any, told: dict[str, Any], sizes: list[int], order: Any, tables: Path | None
) -> tuple[list[Extra], list[str], Labels]:
    """Return the dims of the file that become tag dims, the tag dims, outermost first, and their coordinates.

    Dims of one volume are there only where the sidecar or `order` tells of them.
    """
    in_file = list(enumerate(sizes))
    extra = [(number, size) for number, size in in_file if size > 1]
    names = [] if order in ("auto", "none", None) else dim_names(order)
    if order == "none":
        if extra:
            msg = (
                f"the file has volumes {[size for _, size in extra]}; order='none' is for one volume. Leave order out, "
                "or name the dims"
            )
            raise OrderError(msg)
        return [], [], {}
    its, dims, coords = _told_dims(told, in_file, extra)
    if tables and not {"dti", "b", "bvector"} & set(dims) and "b" not in coords:
        if KEY in told and any(
            dim in coords and not COUNTED_FROM_FIRST.keys() <= coords[dim][2].keys() for dim in dims
        ):
            msg = (
                f"{tables}.bval tells b-values, but {tables.name}.json that volumes are along {', '.join(dims)}: move "
                "away the one that is not of this image"
            )
            raise UnreadableFileError(msg)
        its, dims, coords = extra, ["dti"], {}
    if not dims and [number for number, _ in extra] == [0] and (step := _time_step(header)) is not None:
        times = np.round(step * np.arange(sizes[0]), 9).tolist()
        dims, coords = ["time"], {"time": ("time", times, {"units": TAG_UNITS["time"], **COUNTED_FROM_FIRST})}
    if not names:
        if dims:
            return its, dims, coords
        # Innermost in the file is dim 4, and that is the last one here.
        names = [_name(header, number) for number, _ in reversed(extra)]
        return extra, names, {n: (n, list(range(1, sizes[1] + 1)), {}) for n in names if n == COMPONENT}
    for found in (its, extra, in_file):
        if len(found) == len(names):
            break
    else:
        counts = [size for _, size in extra]
        msg = f"the file has {len(extra)} dims beyond slice, row and col, of sizes {counts}; order names {names}"
        raise OrderError(msg)
    several = [dim for dim, (_, size) in zip(file_order(dims), its, strict=False) if size > 1]
    if sorted(names) not in (sorted(dims), sorted(several)):
        coords = {}
    return found, names, {name: coord for name, coord in coords.items() if coord[0] in names}


def _told_dims(told: dict[str, Any], in_file: list[Extra], extra: list[Extra]) -> tuple[list[Extra], list[str], Labels]:
    """Return the dims that a sidecar tells, of one volume too where it is ours, and what they are in the file."""
    own = told[KEY].get("dims") if isinstance(told.get(KEY), dict) else None
    names = [str(dim) for dim in own] if isinstance(own, list) else []
    # Other programs leave out the last dims of a file if they are of one volume.
    whole = in_file + [(number, 1) for number in range(len(in_file), len(names))]
    for found in (whole, extra):
        sizes = [size for _, size in found]
        if len(names) == len(set(names)) == len(sizes):
            by_file = dict(zip(file_order(names), sizes, strict=True))
            sizes = [by_file[name] for name in names]
        dims, coords = tag_dims_of(told, sizes)
        if dims:
            return found, dims, coords
    return extra, [], {}


def _name(header: Any, number: int) -> str:
    """Return the name of a dim beyond three of which only the header tells; the fifth is that of vectors."""
    if number == 1 and int(header["intent_code"]) in INTENTS_OF_VECTORS:
        return COMPONENT
    return "volume" if number == 0 else f"dim{number + 4}"


def _time_step(header: Any) -> float | None:
    """Return pixdim[4] [s], None where the file has no unit of time."""
    # By way of text: the header has 3.2 in single precision, which is not 3.200000048.
    unit, step = header.get_xyzt_units()[1], float(str(header["pixdim"][4]))
    return step * _SECONDS[unit] if unit in _SECONDS and step > 0 else None


def _directions(header: Any, told: dict[str, Any]) -> dict[str, str]:
    """Return the phase encoding direction in the image that dim_info tells."""
    phase = header.get_dim_info()[1]
    if phase not in (0, 1) or "InPlanePhaseEncodingDirectionDICOM" in told:
        return {}
    return {"InPlanePhaseEncodingDirection": ("ROW", "COL")[phase]}


def _with_gradients(
    da: xr.DataArray, values: NDArray[np.float64], vectors: NDArray[np.float64], directions: NDArray[np.float64]
) -> xr.DataArray:
    """Return the image with b-values [s/mm2] and directions (LPS+) of its volumes."""
    dim = str(da.dims[0])
    known = {} if dim == "b" else {"b": xr.Variable((dim,), values, {"units": TAG_UNITS["b"]})}
    if np.isfinite(vectors).any():  # NaN is where there is no direction, as of b = 0
        known |= {
            f"b{axis}": xr.Variable((dim,), directions[:, n], {"long_name": f"gradient direction {axis}, LPS+"})
            for n, axis in enumerate("xyz")
        }
    kept = da.drop_vars([name for name in known if name in da.coords])
    return kept.assign_coords(xr.Coordinates(known, indexes={}))


def _has_colours(image: Any) -> bool:
    """Return whether values are colours.

    Raises
    ------
    UnreadableFileError
        If they are transparent.
    """
    names = image.get_data_dtype().names
    if names and "A" in names:
        msg = "the file has colours with transparency; images have none. Convert it to RGB24 first"
        raise UnreadableFileError(msg)
    return names is not None


def _values(
    image: Any, files: Sequence[str], shape: list[int], dims: list[str], extra: list[tuple[int, int]], *, colour: bool
) -> Any:
    """Return the values with the dims of the image, lazily."""
    names = file_order(dims)
    axis = dict(zip(names, (3 + number for number, _ in extra), strict=True))
    axes = [*(axis[dim] for dim in dims), 2, 1, 0]
    sizes = [shape[n] for n in axes] + ([3] if colour else [])
    if not files:
        data = np.asanyarray(image.dataobj).reshape(shape)
        if colour:
            data = np.stack([data[name] for name in "RGB"], axis=-1)
            return data.transpose([*axes, *(n for n in range(3, len(shape)) if n not in axes), len(shape)]).reshape(
                sizes
            )
        data = data.astype(signed_type(data.dtype), copy=False)
        return data.transpose([*axes, *(n for n in range(3, len(shape)) if n not in axes)]).reshape(sizes)
    stored = image.get_data_dtype()
    slope, intercept = (1.0, 0.0) if colour else _scaling(image)
    dtype = np.dtype(np.uint8) if colour else _dtype(stored, slope, intercept)
    pixels = str(image.file_map["image"].filename)
    read = partial(
        _read, pixels, tuple(shape), stored, int(image.dataobj.offset), tuple(axes), slope, intercept, dtype, colour
    )
    return lazy_values(files, sizes, dtype, read)


def _scaling(image: Any) -> tuple[float, float]:
    """Return slope and intercept; (1, 0) where the file has none."""
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    return slope, intercept


def _dtype(stored: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """Return the type that holds the scaled values: integers where these are whole, else a float that keeps them."""
    if (slope, intercept) == (1.0, 0.0) or stored.kind == "c":
        return signed_type(stored)
    if stored.kind in "iu" and slope.is_integer() and intercept.is_integer():
        info = np.iinfo(stored)
        # The slope is multiplied in the same type.
        held = (slope * info.min + intercept, slope * info.max + intercept, slope)
        for name in ("int16", "int32", "int64"):
            if np.iinfo(name).min <= min(held) and max(held) <= np.iinfo(name).max:
                return np.dtype(name)
    small = stored.itemsize * 8 <= _EXACT if stored.kind in "iu" else stored.itemsize <= 4
    return np.dtype(np.float32 if small else np.float64)


def _read(
    path: str,
    shape: tuple[int, ...],
    stored: np.dtype[Any],
    offset: int,
    axes: tuple[int, ...],
    slope: float,
    intercept: float,
    dtype: np.dtype[Any],
    colour: bool,
    key: Key,
) -> NDArray[Any]:
    """Return the values at an index of the image; only the bytes between its first and last one are read."""
    import zlib

    from nibabel.fileslice import fileslice
    from nibabel.openers import ImageOpener

    inner = key[: len(axes)]
    wanted: list[int | slice] = [0] * len(shape)
    for axis, part in zip(axes, inner, strict=True):
        wanted[axis] = part
    try:
        with ImageOpener(path, "rb") as file:
            values = fileslice(file, tuple(wanted), shape, stored, offset, order="F")
            if path.lower().endswith(".gz") and file.tell() >= offset + math.prod(shape) * stored.itemsize:
                file.read(1)  # the end of a packed file, where its checksum is compared, comes after all values
    except (OSError, EOFError, ValueError, zlib.error) as err:
        msg = f"cannot read {path}: {err}"
        raise UnreadableFileError(msg) from err
    # The axes that are left are in the order of the file; those of the image are wanted.
    left = [axis for axis in sorted(axes) if not isinstance(wanted[axis], int)]
    values = values.transpose([left.index(axis) for axis in axes if axis in left])
    if colour:
        values = np.stack([values[name] for name in "RGB"], axis=-1)
        return np.asarray(values[..., key[-1]])
    if (slope, intercept) == (1.0, 0.0):
        return np.asarray(values, dtype)
    if dtype.kind in "iu":
        return np.asarray(values.astype(dtype) * int(slope) + int(intercept), dtype)
    return np.asarray(values * dtype.type(slope) + dtype.type(intercept), dtype)


def _encoding(image: Any, files: Sequence[str], da: xr.DataArray) -> dict[str, Any]:
    header = image.header
    slope, intercept = _scaling(image) if files else (1.0, 0.0)
    lead = len(da.dims) - (3 if "rgb" in da.dims else 2)
    sizes = preferred_chunks(da.shape, da.dtype.itemsize, lead)
    code, parameters, name = header.get_intent()
    return {
        "source": files[-1] if files else "",
        "source_format": "nifti",
        "stored_dtype": str(da.dtype if "rgb" in da.dims else image.get_data_dtype() if files else image.dataobj.dtype),
        "scl_slope": slope,
        "scl_inter": intercept,
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "intent": [str(code), *map(float, parameters), str(name)],
        "preferred_chunks": dict(zip(da.dims, sizes, strict=True)),
    }


FORMATS = {"nifti": Format("nifti", _SUFFIXES, read_nifti, write_nifti, _beside)}
