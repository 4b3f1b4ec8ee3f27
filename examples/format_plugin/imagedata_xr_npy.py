"""NumPy's .npy files with the affine beside them, as a format of imagedata_xr."""

from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from imagedata_xr.files import output_files
from imagedata_xr.formats.lazy import lazy_values
from imagedata_xr.formats.placing import evenly_spaced, place_by_affine
from imagedata_xr.formats.registry import Format


def _part(path, key):
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[key])


def read(paths, order="auto"):
    """Return the image of one .npy file of axes (slice, row, col), at the place in the file beside it."""
    (path,) = paths
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    lazily = lazy_values([path], values.shape, values.dtype, partial(_part, path))
    image = xr.DataArray(xr.Variable(("slice", "row", "col"), lazily), name="image")
    return place_by_affine(image, np.loadtxt(f"{path}.affine"))


def write(da, path, *, overwrite=False):
    """Return the files that an image of one volume was written to."""
    image = evenly_spaced(da.transpose("slice", "row", "col"))
    with output_files(path, (".npy",), overwrite=overwrite) as file:
        np.save(file, image.values, allow_pickle=False)
        np.savetxt(f"{file}.affine", image.dicom.affine, fmt="%.17g")
        names = [found.name for found in file.parent.iterdir()]
    return [(path.parent if path.suffix == ".npy" else path) / Path(name) for name in sorted(names)]


NPY = Format("npy", (".npy",), read, write)
