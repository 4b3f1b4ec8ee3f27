"""MetaImage and NRRD files as images, through SimpleITK. ITK's frame is LPS+ too, its index order (col, row, slice)."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import GeometryError, MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.files import output_files
from imagedata_xr.formats.labels import Labels, dim_names, labels_in, labels_of, tag_dims, with_labels
from imagedata_xr.formats.lazy import lazy_values
from imagedata_xr.formats.placing import evenly_spaced, place_by_affine
from imagedata_xr.formats.registry import Format
from imagedata_xr.headers import with_known_coords
from imagedata_xr.options import OPTIONS
from imagedata_xr.placement import with_frame_attrs
from imagedata_xr.positions import affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "from_simpleitk", "read_itk", "to_simpleitk", "write_itk"]

_SUFFIXES: Final = (".mha", ".mhd", ".nrrd", ".nhdr")
_KEY: Final = "imagedata_xr"
"""Entry of the metadata with the tag dims and their labels."""

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

    Parameters
    ----------
    paths : list of str
        One file; of a header and its pixels, the header.
    order : str or sequence of str
        Names of the tag dims; "auto" takes those in the metadata, else ``volume``.

    Raises
    ------
    MixedSeriesError
        If several images are given.
    OrderError
        If the file has not as many dims as `order` names.
    UnreadableFileError
        If the file is damaged, or its header names files outside its folder.
    """
    if len(paths) > 1:
        names = ", ".join(Path(path).name for path in sorted(paths)[:8])
        msg = f"{len(paths)} ITK images are there, one was wanted: {names}. Open one of the files"
        raise MixedSeriesError(msg)
    (path,) = paths
    _check_parts(Path(path))
    reader = _reader(path)
    size, components = tuple(reader.GetSize()), reader.GetNumberOfComponents()
    dtype = _dtype(reader)
    if int(np.prod(size[:2])) * components * dtype.itemsize > OPTIONS["largest_frame"]:
        msg = f"{path} has slices of {size[:2]} pixels; imagedata_xr.set_options(largest_frame=...) allows more"
        raise UnreadableFileError(msg)
    told = _told(reader)
    dims, sizes, coords = _tag_dims(size, told, order)
    shape = (*sizes, *_frame_shape(size, components))
    values = lazy_values([path], shape, dtype, partial(_read, path, size, tuple(sizes), components))
    da = _labelled(values, dims, components, coords)
    if len(size) >= 3:
        da = place_by_affine(da, _affine(reader, size), orientation=_orientation(told))
    lead = len(da.dims) - (3 if components > 1 else 2)
    da.encoding = {
        "source": path,
        "source_format": "itk",
        "stored_dtype": str(dtype),
        "preferred_chunks": dict(zip(da.dims, preferred_chunks(da.shape, dtype.itemsize, lead), strict=True)),
    }
    return da


def from_simpleitk(image: Any, order: Any = "auto") -> xr.DataArray:
    """Return a `SimpleITK.Image` of three or four dimensions as an image at its place.

    Parameters
    ----------
    image : SimpleITK.Image
        Scalar or RGB image.
    order : str or sequence of str
        Names of the tag dims; "auto" takes those in the metadata, else ``volume``.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> image = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "ct")
    >>> from_simpleitk(image.dicom.to_simpleitk()).dicom.geometry_equal(image)
    True
    """
    import SimpleITK as sitk

    size, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    told = json.loads(image.GetMetaData(_KEY)) if image.HasMetaDataKey(_KEY) else {}
    dims, sizes, coords = _tag_dims(size, told, order)
    values = sitk.GetArrayFromImage(image).reshape(*sizes, *_frame_shape(size, components))
    da = _labelled(values, dims, components, coords)
    if len(size) < 3:
        return da
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
    values = image.values
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
        See `to_simpleitk`.
    FileExistsError
        If something is at `path`.
    """
    import SimpleITK as sitk

    image = to_simpleitk(da, resample=resample)
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
    return str(err).strip().splitlines()[-1].strip()


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


def _check_parts(path: Path) -> None:
    """Refuse a header that names files outside its folder: it may come from anybody."""
    with open(path, "rb") as file:
        head = file.read(1 << 16).decode("latin-1")
    wanted = r"^\s*(?:ElementDataFile\s*=|data\s*file\s*:)\s*(.+?)\s*$"
    for name in re.findall(wanted, head, flags=re.MULTILINE | re.IGNORECASE):
        if name.upper() == "LOCAL":
            return
        if name.upper().startswith("LIST") or "%" in name:
            msg = f"{path} is spread over several files ({name}); write it as one"
            raise UnreadableFileError(msg)
        named = Path(name.replace("\\", "/"))
        if named.is_absolute() or ".." in named.parts or ":" in named.parts[0]:
            msg = f"{path} names pixels outside its folder, {name!r}; that is not followed"
            raise UnreadableFileError(msg)


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


def _frame_shape(size: tuple[int, ...], components: int) -> tuple[int, ...]:
    """Return the shape (slice, row, col) of a volume, and (..., rgb) of colours.

    Raises
    ------
    UnreadableFileError
        If pixels are neither numbers nor colours.
    """
    if components not in (1, 3):
        msg = f"pixels have {components} components; 1 or 3 (red, green, blue) can be read"
        raise UnreadableFileError(msg)
    col, row, slices = (*size[:3], 1)[:3]
    return (slices, row, col, 3) if components == 3 else (slices, row, col)


def _tag_dims(size: tuple[int, ...], told: dict[str, Any], order: Any) -> tuple[list[str], list[int], Labels]:
    """Return the tag dims that the metadata tell or `order` names, their sizes, and their coordinates."""
    volumes, sizes = int(np.prod(size[3:])), told.get("sizes")
    dims, coords = labels_in(told, sizes) if isinstance(sizes, list) else ([], {})
    if not dims or not isinstance(sizes, list) or np.prod(sizes) != volumes:
        sizes, coords = [n for n in size[:2:-1] if n > 1], {}
        dims = ["dim6", "dim5", "volume"][-len(sizes) :] if sizes else []
    if order in ("auto", None):
        return dims, sizes, coords
    names = dim_names(order)
    if len(names) != len(dims):
        msg = f"the file has {len(dims)} dims beyond slice, row and col, of sizes {sizes}; order names {names}"
        raise OrderError(msg)
    return (dims, sizes, coords) if sorted(names) == sorted(dims) and coords else (names, sizes, {})


def _labelled(values: Any, dims: list[str], components: int, coords: Labels) -> xr.DataArray:
    """Return values as an array with its tag dims labelled."""
    colour = ["rgb"] if components == 3 else []
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
    path: str, size: tuple[int, ...], sizes: tuple[int, ...], components: int, key: tuple[int | slice, ...]
) -> NDArray[Any]:
    """Return the values at an index of the array (tag dims..., slice, row, col).

    A box is read that holds them: all volumes from the first to the last one wanted.
    """
    import SimpleITK as sitk

    tags, spatial = key[: len(sizes)], key[len(sizes) : len(sizes) + 3]
    wanted = np.asarray(np.arange(int(np.prod(sizes))).reshape(sizes)[tags])
    shape, colour = _frame_shape(size, components), (3,) * (components == 3)
    spans = [range(p, p + 1) if isinstance(p, int) else range(n)[p] for p, n in zip(spatial, shape, strict=False)]
    reader = _reader(path)
    if not wanted.size or not all(spans):
        lengths = [len(span) for span, part in zip(spans, spatial, strict=True) if not isinstance(part, int)]
        return np.empty((*wanted.shape, *lengths, *colour), _dtype(reader))
    is_one = len(size) == 4
    first, last = (int(wanted.min()), int(wanted.max())) if is_one else (0, int(np.prod(size[3:])) - 1)
    boxes = [(span[0], span[-1] - span[0] + 1) for span in spans[::-1]][: len(size)]
    boxes += [(first, last - first + 1)] if is_one else [(0, n) for n in size[3:]]
    reader.SetExtractIndex([start for start, _ in boxes])
    reader.SetExtractSize([count for _, count in boxes])
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as err:
        msg = f"cannot read {path}: {_reason(err)}"
        raise UnreadableFileError(msg) from err
    values = values.reshape(-1, *(span[-1] - span[0] + 1 for span in spans), *colour)
    inner = [0 if isinstance(p, int) else slice(None, None, s.step) for p, s in zip(spatial, spans, strict=True)]
    found: NDArray[Any] = values[wanted - first][(..., *inner, *([slice(None)] if colour else []))]
    return found[..., key[-1]] if colour else found


FORMATS = {"itk": Format("itk", _SUFFIXES, read_itk, write_itk)}
