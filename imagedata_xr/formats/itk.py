"""MetaImage and NRRD files as images, through SimpleITK. ITK's frame is LPS+ too, its index order (col, row, slice)."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import GeometryError, MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.files import output_files
from imagedata_xr.formats.itk_header import (
    RGB,
    check_packed,
    check_pixels,
    check_scale,
    check_space,
    check_units,
    colours_told,
    fields_of,
    has_place,
    signs_of,
    warn_of_gradients,
)
from imagedata_xr.formats.labels import Labels, dim_names, labels_in, labels_of, tag_dims, with_labels
from imagedata_xr.formats.lazy import lazy_values, narrowed, signed_type, type_of_file
from imagedata_xr.formats.placing import evenly_spaced, place_by_affine
from imagedata_xr.formats.registry import Format
from imagedata_xr.headers import with_known_coords
from imagedata_xr.images import require_pictures
from imagedata_xr.options import OPTIONS
from imagedata_xr.placement import with_frame_attrs
from imagedata_xr.positions import affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "from_simpleitk", "read_itk", "to_simpleitk", "write_itk"]

_SUFFIXES: Final = (".mha", ".mhd", ".nrrd", ".nhdr")
_KEY: Final = "imagedata_xr"
"""Entry of the metadata with the tag dims and their labels."""

_LONGEST_ENTRY: Final = 32767
"""Characters of an entry of the metadata that MetaImage can be read with."""

_STRAIGHT: Final = 1e-5
"""Largest shear that a direction matrix of ITK may be taken to have none of."""

_TYPES: Final = (
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


def read_itk(paths: list[str], order: Any = "auto") -> xr.DataArray:
    """Return the image of a MetaImage or NRRD file; of an uncompressed MetaImage only what is indexed is read.

    It has a place if the file tells one; `open_series` takes that of another image from ``geometry=``. Pixels of
    several components that are no colours, such as vectors and lists, are volumes along a tag dim.

    Parameters
    ----------
    paths : list of str
        One file; of a header and its pixels, the header.
    order : str or sequence of str
        Names of the tag dims; "auto" takes those in the metadata, else ``volume``. ``rgb`` says that components are
        colours.

    Raises
    ------
    MixedSeriesError
        If several images are given.
    OrderError
        If the file has not as many dims as `order` names, or its components may be colours or not.
    UnreadableFileError
        If the file is damaged, its header names files outside its folder, or tells of a rescale.
    """
    if len(paths) > 1:
        names = ", ".join(Path(path).name for path in sorted(paths)[:8])
        msg = f"{len(paths)} ITK images are there, one was wanted: {names}. Open one of the files"
        raise MixedSeriesError(msg)
    (path,) = paths
    fields = fields_of(Path(path))
    check_scale(Path(path), fields)
    reader = _reader(path)
    size, components = tuple(reader.GetSize()), reader.GetNumberOfComponents()
    stored = _dtype(reader)
    told = _told(reader)
    is_colour = colours_told(reader, components, stored, told, order)
    dtype = _as_read(stored, is_colour)
    if int(np.prod(size[:2])) * (1 + 2 * is_colour) * stored.itemsize > OPTIONS["largest_frame"]:
        msg = f"{path} has slices of {size[:2]} pixels; imagedata_xr.set_options(largest_frame=...) allows more"
        raise UnreadableFileError(msg)
    check_pixels(Path(path), fields, math.prod(size) * components, stored.itemsize // (1 + (stored.kind == "c")))
    parts = 1 if is_colour or dtype.kind == "c" else components
    dims, sizes, coords = _tag_dims(size, parts, told, order)
    if not coords:
        warn_of_gradients(path, reader)
    shape = (*sizes, *_frame_shape(size, is_colour))
    values = lazy_values([path], shape, dtype, partial(_read, path, size, tuple(sizes), parts, is_colour))
    da = _labelled(values, dims, is_colour, coords)
    if len(size) >= 3 and has_place(reader, fields):
        check_units(Path(path), fields)
        matrix = np.diag([*signs_of(reader), 1]) @ _affine(reader, size)
        da = place_by_affine(da, matrix, orientation=_orientation(told))
    lead = len(da.dims) - (3 if is_colour else 2)
    da.encoding = {
        "source": path,
        "source_format": "itk",
        "stored_dtype": str(stored),
        "preferred_chunks": dict(zip(da.dims, preferred_chunks(da.shape, dtype.itemsize, lead), strict=True)),
    }
    return da


def from_simpleitk(image: Any, order: Any = "auto") -> xr.DataArray:
    """Return a `SimpleITK.Image` of three or four dimensions as an image at its place.

    Parameters
    ----------
    image : SimpleITK.Image
        Image of numbers, of colours of 8 or 16 bits, or of vectors, whose components become volumes.
    order : str or sequence of str
        Names of the tag dims; "auto" takes those in the metadata, else ``volume``. ``rgb`` says that components are
        colours.

    Raises
    ------
    GeometryError
        If it was read from a NRRD file in a space that SimpleITK does not turn to LPS+.
    OrderError
        If components may be colours or not, and nothing says which.
    TypeError
        If it is no image of SimpleITK.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> image = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "ct")
    >>> from_simpleitk(image.dicom.to_simpleitk()).dicom.geometry_equal(image)
    True
    """
    import SimpleITK as sitk

    if not isinstance(image, sitk.Image):
        kind = type(image).__name__
        msg = f"an image of SimpleITK is wanted, as SimpleITK.ReadImage returns it; this is of type {kind}"
        raise TypeError(msg)
    size, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    told = _told(image)
    values = sitk.GetArrayFromImage(image)
    is_colour = colours_told(image, components, values.dtype, told, order)
    parts = 1 if is_colour or values.dtype.kind == "c" else components
    dims, sizes, coords = _tag_dims(size, parts, told, order)
    values = _components_first(values, len(size), parts).reshape(*sizes, *_frame_shape(size, is_colour))
    values = values.astype(_as_read(values.dtype, is_colour), copy=False)
    da = _labelled(values, dims, is_colour, coords)
    if len(size) < 3:
        return da
    check_space(image)
    return place_by_affine(da, _affine(image, size), orientation=_orientation(told))


def to_simpleitk(da: xr.DataArray, *, resample: bool = False) -> Any:
    """Return an image as a `SimpleITK.Image` at the same place; volumes along its fourth dimension.

    Several tag dims become one; which they are and their labels is in the metadata, by which `from_simpleitk` brings
    them back. All values are computed.

    Parameters
    ----------
    da : DataArray
        Image.
    resample : bool
        Whether uneven slices are interpolated to even ones.

    Raises
    ------
    GeometryError
        If slices are unevenly spaced or sheared: an image of ITK has neither.
    ValuesNotStorableError
        If ITK has no such type of values.
    """
    import SimpleITK as sitk

    require_pictures(da)
    image = with_frame_attrs(with_known_coords(da))
    if "slice" not in image.dims:
        image = image.expand_dims("slice", axis=image.get_axis_num("row"))
    dims, colour = tag_dims(image), "rgb" in image.dims
    image = evenly_spaced(image.transpose(*dims, "slice", "row", "col", ...), resample=resample)
    matrix = affine(image)
    steps = np.linalg.norm(matrix[:3, :3], axis=0)
    directions = matrix[:3, :3] / steps
    if np.abs(directions.T @ directions - np.eye(3)).max() > _STRAIGHT:
        shear = np.round(np.atleast_1d(image.attrs.get("slice_shear", 0.0)), 4).tolist()
        msg = f"slices are sheared by {shear}, as of a tilted gantry; ITK has straight ones only. Write NIfTI instead"
        raise GeometryError(msg)
    values = narrowed(image.values, type_of_file(da, "itk"))
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if str(values.dtype) not in _TYPES:
        msg = f"ITK has no values of type {values.dtype}; convert them with image.astype(...)"
        raise ValuesNotStorableError(msg)
    shape = values.shape[len(dims) :]
    if dims:
        values = values.reshape(-1, *shape)
    made = sitk.GetImageFromArray(values, isVector=colour)
    extra = [1.0] * bool(dims)
    made.SetSpacing([*steps[::-1].tolist(), *extra])
    made.SetOrigin([*matrix[:3, 3].tolist(), *([0.0] * len(extra))])
    turned = np.eye(3 + len(extra))
    turned[:3, :3] = directions[:, ::-1]
    made.SetDirection(turned.ravel().tolist())
    told = labels_of(image) | {"sizes": [image.sizes[dim] for dim in dims]}
    told["ImageOrientationPatient"] = [float(v) for v in image.attrs["ImageOrientationPatient"]]
    made.SetMetaData(_KEY, json.dumps(told))
    return made


def write_itk(
    da: xr.DataArray, path: Path, *, overwrite: bool = False, resample: bool = False, compress: bool = False
) -> list[Path]:
    """Return the files that an image was written to: MetaImage or NRRD, by the suffix of the path.

    SimpleITK writes what is in memory: the whole image has to fit there.

    Parameters
    ----------
    da : DataArray
        Image, see `to_simpleitk`.
    path : path
        A file ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr``, or a folder to make with ``image.mha`` in it.
    overwrite : bool
        Replace files of the same names.
    resample : bool
        Whether uneven slices are interpolated to even ones.
    compress : bool
        Whether values are packed. Parts of packed files cannot be read without the rest.

    Raises
    ------
    GeometryError, ValuesNotStorableError
        See `to_simpleitk`; also if MetaImage has no place for complex values, or for the labels of so many volumes.
    FileExistsError
        If something is at `path`.
    """
    import SimpleITK as sitk

    is_meta = not path.name.lower().endswith((".nrrd", ".nhdr"))
    if is_meta and da.dtype.kind == "c":
        msg = "MetaImage has no complex values; write NRRD (.nrrd), or real and imaginary part"
        raise ValuesNotStorableError(msg)
    image = to_simpleitk(da, resample=resample)
    if is_meta and (length := len(image.GetMetaData(_KEY))) > _LONGEST_ENTRY:
        msg = f"labels take {length} characters, and MetaImage has {_LONGEST_ENTRY} for them; write NRRD (.nrrd)"
        raise ValuesNotStorableError(msg)
    with output_files(path, _SUFFIXES, overwrite=overwrite) as file:
        try:
            sitk.WriteImage(image, str(file), compress)
        except RuntimeError as err:
            msg = f"SimpleITK could not write {path}: {_reason(err)}"
            raise OSError(msg) from err
        written = sorted(found.name for found in file.parent.iterdir())
    folder = path.parent if path.name.lower().endswith(_SUFFIXES) else path
    return [folder / name for name in written]


def _reason(err: RuntimeError) -> str:
    """Return the last line of what SimpleITK says, which is the reason."""
    found = str(err).strip().splitlines()[-1].strip()
    # MetaImage does not say what it found, and ITK adds the last error of the system, whatever that was of.
    return "its pixels are cut short or damaged" if "File cannot be read" in str(err) else found


def _reader(path: str) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as err:
        msg = f"cannot read {path}: {_reason(err)}"
        raise UnreadableFileError(msg) from err
    return reader


def _as_read(stored: np.dtype[Any], is_colour: bool) -> np.dtype[Any]:
    """Return the type of stored values in an image."""
    return stored if is_colour else signed_type(stored)


def _dtype(reader: Any) -> np.dtype[Any]:
    """Return the type of values of a file.

    Raises
    ------
    UnreadableFileError
        If NumPy has none.
    """
    import SimpleITK as sitk

    name = sitk.GetPixelIDValueAsString(reader.GetPixelID()).replace("vector of ", "")
    sizes = {"8-bit": 8, "16-bit": 16, "32-bit": 32, "64-bit": 64}
    bits = next((size for word, size in sizes.items() if word in name), 0)
    kind = "u" if "unsigned" in name else "i" if "integer" in name else "f" if "float" in name else ""
    if "complex" in name:
        return np.dtype(f"c{bits // 4}")
    if not bits or not kind:
        msg = f"pixels are {name}; numbers are wanted"
        raise UnreadableFileError(msg)
    return np.dtype(f"{kind}{bits // 8}")


def _told(reader: Any) -> dict[str, Any]:
    """Return what the metadata tell of tag dims."""
    if not reader.HasMetaDataKey(_KEY):
        return {}
    try:
        told = json.loads(reader.GetMetaData(_KEY))
    except ValueError:
        return {}  # another program's entry of that name
    return told if isinstance(told, dict) else {}


def _orientation(told: dict[str, Any]) -> Any:
    """Return the orientation that rows and columns had, None if none is told."""
    found = told.get("ImageOrientationPatient")
    is_one = isinstance(found, list) and len(found) == 6 and all(isinstance(v, int | float) for v in found)
    return found if is_one else None


def _frame_shape(size: tuple[int, ...], is_colour: bool) -> tuple[int, ...]:
    """Return the shape (slice, row, col) of a volume, and (..., rgb) of colours."""
    col, row, slices = (*size[:3], 1)[:3]
    return (slices, row, col, 3) if is_colour else (slices, row, col)


def _components_first(values: NDArray[Any], ndim: int, parts: int) -> NDArray[Any]:
    """Return values (further dims..., slice, row, col, component) with a volume for each component."""
    return np.moveaxis(values, -1, max(0, ndim - 3)) if parts > 1 else values


def _tag_dims(
    size: tuple[int, ...], parts: int, told: dict[str, Any], order: Any
) -> tuple[list[str], list[int], Labels]:
    """Return the tag dims that the metadata tell or `order` names, their sizes, and their coordinates.

    The last one is of the components that are volumes.
    """
    volumes, sizes = int(np.prod(size[3:])) * parts, told.get("sizes")
    dims, coords = labels_in(told, sizes) if isinstance(sizes, list) else ([], {})
    if not dims or not isinstance(sizes, list) or np.prod(sizes) != volumes:
        sizes, coords = [n for n in (*size[:2:-1], parts) if n > 1], {}
        dims = ["dim7", "dim6", "dim5", "volume"][-len(sizes) :] if sizes else []
    names = [] if order in ("auto", None) else [name for name in dim_names(order) if name != RGB]
    if not names and order != "none":
        return dims, sizes, coords
    if len(names) != len(dims):
        msg = f"the file has {len(dims)} dims beyond slice, row and col, of sizes {sizes}; order names {names}"
        raise OrderError(msg)
    return (dims, sizes, coords) if sorted(names) == sorted(dims) and coords else (names, sizes, {})


def _labelled(values: Any, dims: list[str], is_colour: bool, coords: Labels) -> xr.DataArray:
    """Return values as an array with its tag dims labelled."""
    colour = ["rgb"] if is_colour else []
    return with_labels(xr.DataArray(xr.Variable((*dims, "slice", "row", "col", *colour), values), name="image"), coords)


def _affine(image: Any, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the affine from (slice, row, col) to LPS+ [mm] of an image of ITK."""
    n = len(size)
    direction = np.asarray(image.GetDirection(), float).reshape(n, n)[:3, :3]
    found = np.eye(4)
    found[:3, :3] = (direction * np.asarray(image.GetSpacing()[:3]))[:, ::-1]
    found[:3, 3] = image.GetOrigin()[:3]
    return found


def _read(
    path: str,
    size: tuple[int, ...],
    sizes: tuple[int, ...],
    parts: int,
    is_colour: bool,
    key: tuple[int | slice, ...],
) -> NDArray[Any]:
    """Return the values at an index of the array (tag dims..., slice, row, col).

    A box is read that holds them: all volumes from the first to the last one wanted.
    """
    import SimpleITK as sitk

    tags, spatial = key[: len(sizes)], key[len(sizes) : len(sizes) + 3]
    wanted = np.asarray(np.arange(int(np.prod(sizes))).reshape(sizes)[tags])
    shape, colour = _frame_shape(size, is_colour), (3,) * is_colour
    spans = [range(p, p + 1) if isinstance(p, int) else range(n)[p] for p, n in zip(spatial, shape, strict=False)]
    reader = _reader(path)
    if not wanted.size or not all(spans):
        lengths = [len(span) for span, part in zip(spans, spatial, strict=True) if not isinstance(part, int)]
        return np.empty((*wanted.shape, *lengths, *colour), _as_read(_dtype(reader), is_colour))
    is_one = len(size) == 4
    # Of the file, in each of which every component is a volume of the image.
    first, last = (wanted.min() // parts, wanted.max() // parts) if is_one else (0, np.prod(size[3:]) - 1)
    boxes = [(span[0], span[-1] - span[0] + 1) for span in spans[::-1]][: len(size)]
    boxes += [(int(first), int(last - first) + 1)] if is_one else [(0, n) for n in size[3:]]
    reader.SetExtractIndex([start for start, _ in boxes])
    reader.SetExtractSize([count for _, count in boxes])
    check_packed(Path(path), fields_of(Path(path)))
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as err:
        msg = f"cannot read {path}: {_reason(err)}"
        raise UnreadableFileError(msg) from err
    values = _components_first(values, len(size), parts)
    values = values.reshape(-1, *(span[-1] - span[0] + 1 for span in spans), *colour)
    inner = [0 if isinstance(p, int) else slice(None, None, s.step) for p, s in zip(spatial, spans, strict=True)]
    found: NDArray[Any] = values[wanted - int(first) * parts][(..., *inner, *([slice(None)] if colour else []))]
    return found[..., key[-1]] if colour else found.astype(_as_read(found.dtype, is_colour), copy=False)


FORMATS = {"itk": Format("itk", _SUFFIXES, read_itk, write_itk)}
