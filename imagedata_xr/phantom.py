"""The header of nobody, for images of no patient: asked for as ``template="phantom"``, never given by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.origins import Origin, assign_origins
from imagedata_xr.placement import has_geometry
from imagedata_xr.positions import patient_orientation
from imagedata_xr.templates import copy_headers

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["of_nobody", "phantom_header"]


def of_nobody(image: xr.DataArray) -> xr.DataArray:
    """Return an image with the header of a phantom, and nothing else of a header: values, place and labels are left.

    Study, series and frame of reference are new ones. What is in the pixels stays, and so do labels
    of dims, dates too.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> image = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "ct")
    >>> nobody = of_nobody(image.assign_attrs(OperatorsName="Smith"))
    >>> nobody.attrs["PatientID"], "OperatorsName" in nobody.attrs
    ('PHANTOM', False)
    """
    image = image.copy(deep=False)
    image.attrs = {name: value for name, value in image.attrs.items() if name != "FrameOfReferenceUID"}
    return copy_headers(image, phantom_header(image), elsewhere=True)


def phantom_header(image: xr.DataArray) -> xr.DataArray:
    """Return an image without place, with a new study of a phantom, that serves as a template for any image.

    The header is that of Secondary Capture (PS3.3 A.8.1), which may have a place in a frame of reference all the same.

    Parameters
    ----------
    image : DataArray
        Image that is to get the header; its sizes are taken.

    Examples
    --------
    >>> phantom_header(xr.DataArray([[1, 2]], dims=("row", "col"))).attrs["PatientName"]
    'PHANTOM^ANONYMOUS'
    """
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    study, series, reference = (str(generate_uid(prefix=None)) for _ in range(3))
    sizes: dict[Hashable, int] = {dim: image.sizes.get(dim, 1) for dim in SPATIAL_DIMS}
    blank = xr.DataArray(0, dims=()).expand_dims(sizes)
    blank.attrs = {
        "SOPClassUID": str(SecondaryCaptureImageStorage),
        "PatientName": "PHANTOM^ANONYMOUS",
        "PatientID": "PHANTOM",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": reference,
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "SeriesNumber": 1,
        "SeriesDescription": "image of no patient",
        "Modality": "OT",
        "ConversionType": "WSD",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "made without a patient",
        "PositionReferenceIndicator": "",
        "Laterality": "",
        "Manufacturer": "",
    }
    if has_geometry(image):
        # What Secondary Capture wants, which may be without a place.
        _, row, col = patient_orientation(image)
        blank.attrs["PatientOrientation"] = [col, row]
    return assign_origins(blank, [Origin("PHANTOM", study, series, reference)])
