"""Medical images as labelled xarray arrays: heaps of DICOM in, lazy DataArrays, valid DICOM out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from imagedata_xr import errors
from imagedata_xr.accessor import DicomAccessor
from imagedata_xr.api import from_array, open_series, open_study, scan, write
from imagedata_xr.combine import concat
from imagedata_xr.options import set_options

if TYPE_CHECKING:
    from imagedata_xr import sample
    from imagedata_xr.batch import convert
    from imagedata_xr.formats.itk import from_simpleitk
    from imagedata_xr.formats.nifti import from_nibabel
    from imagedata_xr.formats.virtual import open_virtual
    from imagedata_xr.viewer.browse import view

_LATE = {
    "convert": "imagedata_xr.batch",
    "from_nibabel": "imagedata_xr.formats.nifti",
    "from_simpleitk": "imagedata_xr.formats.itk",
    "load_ipython_extension": "imagedata_xr.viewer.notebook",
    "open_virtual": "imagedata_xr.formats.virtual",
    "unload_ipython_extension": "imagedata_xr.viewer.notebook",
    "view": "imagedata_xr.viewer.browse",
}
__version__ = "0.1.0"
__all__ = [
    "DicomAccessor",
    "concat",
    "convert",
    "errors",
    "from_array",
    "from_nibabel",
    "from_simpleitk",
    "open_series",
    "open_study",
    "open_virtual",
    "sample",
    "scan",
    "set_options",
    "view",
    "write",
]


def __getattr__(name: str) -> Any:
    # Modules that load more than xarray wait until they are used.
    if name == "sample":
        return import_module("imagedata_xr.sample")
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    advice = "; there is imagedata_xr.open_series(source)" if name in ("load", "open", "open_dicom", "read") else ""
    msg = f"module {__name__!r} has no attribute {name!r}{advice}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    # What is for users, and not what is imported here: this is what the tab key offers.
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
