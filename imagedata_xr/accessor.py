"""``da.dicom``: the functions of the package as methods of an image. Stateless; the work is in the functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

import xarray as xr

from imagedata_xr import positions
from imagedata_xr.geometry import POSITION_TOLERANCE
from imagedata_xr.images import listed
from imagedata_xr.origins import origins
from imagedata_xr.turning import to_patient_orientation

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from pydicom import Dataset

    from imagedata_xr.elements import Value
    from imagedata_xr.origins import Origin
    from imagedata_xr.pacs.peer import Peer
    from imagedata_xr.pacs.report import Report
    from imagedata_xr.viewer.browse import Viewer
    from imagedata_xr.viewer.pictures import Plot
    from imagedata_xr.viewer.roi import Roi

__all__ = ["DicomAccessor"]

_ELSEWHERE: Final = {
    **dict.fromkeys(("save", "to_dicom", "to_nifti"), "write(path)"),
    "show": "view()",
}
"""What others call methods that are here under another name."""


@xr.register_dataset_accessor("dicom")  # type: ignore[no-untyped-call] # of xarray
class _OfDataset:
    """Says where the accessor of images is, for those who look for it at the Dataset that holds them."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._names = [str(name) for name, variable in dataset.data_vars.items() if {"row", "col"} <= {*variable.dims}]

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        images = " or ".join(f"dataset[{image!r}].dicom.{name}" for image in self._names[:3])
        msg = f"dicom is of a DataArray, and this is a Dataset{': ' if images else ', without an image'}{images}"
        raise AttributeError(msg)


@xr.register_dataarray_accessor("dicom")  # type: ignore[no-untyped-call] # of xarray
class DicomAccessor:
    """Geometry, headers and output of an image; each method says which function does the work.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> image = ixr.open_series(ixr.sample.write_patient(folder / "phantom") / "ct")
    >>> image.dicom.spacing.round(3), image.dicom.patient_orientation
    (array([5. , 2.4, 2.4]), ('H', 'P', 'L'))
    >>> crop = image.isel(slice=slice(2, None, 2), row=slice(10, None))
    >>> (image.dicom.affine @ [2, 10, 0, 1])[:3].round(6) == crop.dicom.position.round(6)
    array([ True,  True,  True])
    >>> (point,) = image.dicom.map_indices_to_reference([[3, 40, 50]])
    >>> image.dicom.sel_patient(point).item() == image[3, 40, 50].item()
    True
    >>> image.dicom.map_reference_to_indices([point]).round(6)
    array([[ 3., 40., 50.]])
    >>> image.dicom.to_patient_orientation("LFP").dicom.patient_orientation
    ('L', 'F', 'P')
    >>> image.dicom.geometry_equal(crop), image.dicom.get("Modality"), image.dicom.header(slice=0).Modality
    (False, 'CT', 'CT')
    >>> len(crop.dicom.write(folder / "crop"))
    5
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    if not TYPE_CHECKING:  # it would have every attribute

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, which says where what is not here is."""
            from imagedata_xr.keywords import is_keyword, keyword_meant

            element = name if is_keyword(name) else keyword_meant(name)
            if name in _ELSEWHERE:
                advice = f"; there is image.dicom.{_ELSEWHERE[name]}"
            elif hasattr(xr.DataArray, name):
                advice = f"; the image itself has it, image.{name}"
            else:
                advice = f"; the element is image.dicom.get({element!r})" if element else ""
            msg = f"image.dicom has no {name!r}{advice}"
            raise AttributeError(msg, name=name, obj=self)

    def __repr__(self) -> str:
        """Return what is here: who asks for it does not know yet what to call."""
        return f"image.dicom has {', '.join(name for name in dir(type(self)) if not name.startswith('_'))}"

    # --- geometry

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 × 4 matrix from (slice, row, col) to the patient [mm, LPS+]. See `imagedata_xr.positions.affine`."""
        return positions.affine(self._da)

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """4 × 4 matrix from (slice, row, col) to RAS+ [mm]. See `imagedata_xr.positions.affine_ras`."""
        return positions.affine_ras(self._da)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Distance of slices, rows and columns [mm]. See `imagedata_xr.positions.spacing`."""
        return positions.spacing(self._da)

    @property
    def position(self) -> NDArray[np.float64]:
        """Centre of the first voxel [mm, LPS+]. See `imagedata_xr.positions.image_position`."""
        return positions.image_position(self._da)

    @property
    def direction_cosines(self) -> NDArray[np.float64]:
        """Directions of a row and of a column, shape (6,). See `imagedata_xr.positions.direction_cosines`."""
        return positions.direction_cosines(self._da)

    @property
    def patient_orientation(self) -> tuple[str, str, str]:
        """Letters of where slice, row and col lead. See `imagedata_xr.positions.patient_orientation`."""
        return positions.patient_orientation(self._da)

    @property
    def frame_of_reference_uid(self) -> str | None:
        """FrameOfReferenceUID, None where it is absent or the operands' differ. See `imagedata_xr.origins.origins`."""
        uids = {origin.FrameOfReferenceUID for origin in origins(self._da)}
        return (uids.pop() or None) if len(uids) == 1 else None

    @property
    def is_evenly_spaced(self) -> bool:
        """Whether all distances along each axis agree. See `imagedata_xr.positions.is_evenly_spaced`."""
        return positions.is_evenly_spaced(self._da)

    def patient_coords(self) -> xr.Dataset:
        """Return x, y, z [mm, LPS+] of every voxel. See `imagedata_xr.positions.patient_coords`."""
        return positions.patient_coords(self._da)

    def sel_patient(self, point: ArrayLike, tolerance: float | None = None) -> xr.DataArray:
        """Return the voxel nearest to a point [mm, LPS+]. See `imagedata_xr.positions.sel_patient`."""
        return positions.sel_patient(self._da, point, tolerance)

    def map_indices_to_reference(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Return where voxels are [mm, LPS+]. See `imagedata_xr.positions.map_indices_to_reference`."""
        return positions.map_indices_to_reference(self._da, indices)

    def map_reference_to_indices(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return (slice, row, col) of points. See `imagedata_xr.positions.map_reference_to_indices`."""
        return positions.map_reference_to_indices(self._da, points)

    def to_patient_orientation(self, orientation: str | Sequence[str]) -> xr.DataArray:
        """Return the image with dims exchanged and flipped. See `imagedata_xr.turning.to_patient_orientation`."""
        return to_patient_orientation(self._da, orientation)

    def turn_like(self, like: xr.DataArray) -> xr.DataArray:
        """Return the image with dims turned as those of another. See `imagedata_xr.templates.turn_like`."""
        from imagedata_xr.templates import turn_like

        return turn_like(self._da, like)

    def geometry_equal(self, other: xr.DataArray, tolerance: float = POSITION_TOLERANCE) -> bool:
        """Return whether two images have the same voxels in space. See `imagedata_xr.positions.geometry_equal`."""
        return positions.geometry_equal(self._da, other, tolerance)

    def assign_geometry(self, like: xr.DataArray) -> xr.DataArray:
        """Return the image at the place of another. See `imagedata_xr.positions.assign_geometry`."""
        return positions.assign_geometry(self._da, like)

    def resample_like(
        self,
        like: xr.DataArray,
        *,
        interpolation: str = "linear",
        fill_value: complex = math.nan,
        registered: bool = False,
    ) -> xr.DataArray:
        """Return the image on the grid of another. See `imagedata_xr.resampling.resample_like`."""
        from imagedata_xr.resampling import resample_like

        return resample_like(self._da, like, interpolation=interpolation, fill_value=fill_value, registered=registered)

    def index_positions(self) -> xr.DataArray:
        """Return the image with its tolerant indexes again. See `imagedata_xr.positions.index_positions`."""
        return positions.index_positions(self._da)

    # --- headers

    @property
    def is_original(self) -> bool:
        """Whether the values are those that were read, or a selection of them, as far as xarray knows.

        What was put into ``image.values`` is not noticed here; `write` compares values with those of the files.
        """
        return "TransferSyntaxUID" in self._da.encoding

    @property
    def origins(self) -> frozenset[Origin]:
        """Every patient, study and series that is in the image. See `imagedata_xr.origins.origins`."""
        return origins(self._da)

    @property
    def timeline(self) -> xr.DataArray:
        """Times of the volumes [s], from the first one.

        Raises
        ------
        ValueError
            If the image has no dim ``time``.
        """
        times = self._dim("time")
        return times - times[0]

    @property
    def bvalues(self) -> xr.DataArray:
        """b-values along their dim [s/mm2].

        Raises
        ------
        ValueError
            If the image has no dim ``b``.
        """
        return self._dim("b")

    def _dim(self, name: str) -> xr.DataArray:
        if name not in self._da.dims:
            msg = f"the image has dims {self._da.dims}, and no {name!r}; open it with order={name!r}"
            raise ValueError(msg)
        return self._da[name]

    def header(self, **indexers: int) -> Dataset:
        """Return the whole header of one frame: ``header(time=0, slice=3)``. See `imagedata_xr.headers.header`."""
        from imagedata_xr.headers import header

        return header(self._da, **indexers)

    def overlays(self, **indexers: int) -> xr.DataArray:
        """Return the overlays of one frame, dims (overlay, row, col). See `imagedata_xr.overlays.overlays`."""
        from imagedata_xr.overlays import overlays

        return overlays(self._da, **indexers)

    def get(self, name: str | int) -> Value | xr.DataArray | None:
        """Return an element: its value, a DataArray where it varies. See `imagedata_xr.headers.get`."""
        from imagedata_xr.headers import get

        return get(self._da, name)

    def copy_headers(self, like: xr.DataArray, *, extend: bool = False, elsewhere: bool = False) -> xr.DataArray:
        """Return the image with the header of another. See `imagedata_xr.templates.copy_headers`."""
        from imagedata_xr.templates import copy_headers

        return copy_headers(self._da, like, extend=extend, elsewhere=elsewhere)

    # --- pictures

    def window(self, center: float | None = None, width: float | None = None, **options: Any) -> xr.DataArray:
        """Return values from 0 (black) to 1 (white) by a window. See `imagedata_xr.window.window`."""
        from imagedata_xr.window import window

        return window(self._da, center, width, **options)

    def to_rgb(self, colormap: str | None = None, **options: Any) -> xr.DataArray:
        """Return the image as colours. See `imagedata_xr.window.to_rgb`."""
        from imagedata_xr.window import to_rgb

        return to_rgb(self._da, colormap, **options)

    def view(self, *others: xr.DataArray | Iterable[xr.DataArray], **options: Any) -> Viewer:
        """Return a viewer of this and other images, and show it. See `imagedata_xr.viewer.browse.view`."""
        from imagedata_xr.viewer.browse import view

        return view([self._da, *(one for other in others for one in listed(other))], **options)

    def hv(self, **options: Any) -> Any:
        """Return the image as an element of holoviews, to compose. See `imagedata_xr.viewer.composable.hv_image`."""
        from imagedata_xr.viewer.composable import hv_image

        return hv_image(self._da, **options)

    def fuse_mask(self, mask: xr.DataArray, **options: Any) -> xr.DataArray:
        """Return the image as colours, with a mask laid over it. See `imagedata_xr.viewer.pictures.fuse_mask`."""
        from imagedata_xr.viewer.pictures import fuse_mask

        return fuse_mask(self._da, mask, **options)

    @property
    def plot(self) -> Plot:
        """Plain pictures, without a browser. See `imagedata_xr.viewer.pictures.Plot`."""
        from imagedata_xr.viewer.pictures import Plot

        return Plot(self._da)

    def to_png(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Return the PNG file with all slices of a volume. See `imagedata_xr.viewer.pictures.to_png`."""
        from imagedata_xr.viewer.pictures import to_png

        return to_png(self._da, path, **options)

    def to_gif(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Return the moving picture of an image. See `imagedata_xr.viewer.pictures.to_gif`."""
        from imagedata_xr.viewer.pictures import to_gif

        return to_gif(self._da, path, **options)

    def roi_mask(self, rois: Sequence[Roi]) -> xr.DataArray:
        """Return which voxels are inside outlines. See `imagedata_xr.viewer.roi.roi_mask`."""
        from imagedata_xr.viewer.roi import roi_mask

        return roi_mask(self._da, rois)

    def roi_statistics(self, rois: Sequence[Roi]) -> xr.Dataset:
        """Return what is measured in regions, along the tag dims. See `imagedata_xr.viewer.roi.roi_statistics`."""
        from imagedata_xr.viewer.roi import roi_statistics

        return roi_statistics(self._da, rois)

    # --- out

    def to_nibabel(self, **options: Any) -> Any:
        """Return the image as one of nibabel's. See `imagedata_xr.formats.nifti.to_nibabel`."""
        from imagedata_xr.formats.nifti import to_nibabel

        return to_nibabel(self._da, **options)

    def to_simpleitk(self, **options: Any) -> Any:
        """Return the image as one of SimpleITK's. See `imagedata_xr.formats.itk.to_simpleitk`."""
        from imagedata_xr.formats.itk import to_simpleitk

        return to_simpleitk(self._da, **options)

    def to_virtual(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Return the file that says where the frames lie. See `imagedata_xr.formats.virtual.to_virtual`."""
        from imagedata_xr.formats.virtual import to_virtual

        return to_virtual(self._da, path, overwrite=overwrite)

    def send(self, place: str | Peer, **options: Any) -> Report:
        """Return what became of each instance sent to a PACS. See `imagedata_xr.pacs.outgoing.send_image`."""
        from imagedata_xr.pacs.outgoing import send_image

        return send_image(self._da, place, **options)

    def write(self, path: str | os.PathLike[str], **options: Any) -> list[Any]:
        """Return the files that the image was written to. See `imagedata_xr.write`."""
        from imagedata_xr.api import write

        return write(self._da, path, **options)
