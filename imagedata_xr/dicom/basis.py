"""The header that a written frame starts from, and what the user has set in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.dicom.classic import OF_MANY, to_classic
from imagedata_xr.dicom.derive import drop_private_elements
from imagedata_xr.dicom.vendors import OF_TILES
from imagedata_xr.elements import Value, tag, to_element, to_value
from imagedata_xr.errors import GeometryError
from imagedata_xr.formats.labels import tag_dims
from imagedata_xr.geometry import COSINE_TOLERANCE, unit_vectors
from imagedata_xr.headers import described_dataset, header_values, is_between, source_dataset
from imagedata_xr.names import TILED
from imagedata_xr.pairing import DIFFUSION, named_volumes, partners
from imagedata_xr.placement import frame, has_geometry, positions_along, same_place
from imagedata_xr.quiet import without_validation
from imagedata_xr.verbatim import remember_texts, turn_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

__all__ = ["as_text", "check_settings", "first_header", "paired", "template_frame"]

_OF_TEMPLATE: Final = frozenset(  # PS3.3 C.7.2, C.7.3, C.7.4: of which examination it is, and what kind of image
    (
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
        *("ReferringPhysicianName", "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers"),
        *("ConsultingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
        *("AdmittingDiagnosesDescription", "FrameOfReferenceUID", "PositionReferenceIndicator", "SOPClassUID"),
        *("Modality", "SpecificCharacterSet", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber"),
    )
)
_PATIENT_GROUPS: Final = (0x0010, 0x0012, 0x0032, 0x0038)
"""Groups of elements that say whose image it is, and why: of patient, clinical trial, request and visit (PS3.6 6)."""
_REQUEST: Final = range(0x00401001, 0x00403002)
"""Further elements that say who has asked for which procedure."""
_OF_SLICES: Final = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
"""Elements that differ between the slices of a mosaic, which has one header."""
_SET_BY_USERS: Final = ("PatientID", "PatientName", "SeriesDescription", "SeriesNumber", "ImageComments")
"""Elements looked at for mistakes where a header was made from attributes, which may be a scanner's own."""


def first_header(
    frame: xr.DataArray, template: xr.DataArray | None, tag_dims: Iterable[str], *, from_files: bool
) -> tuple[Dataset, dict[str, Value]]:
    """Return the header that a frame starts from, and the elements that the user has set.

    Parameters
    ----------
    frame : DataArray
        Frame to write, dims ``row`` and ``col``.
    template : DataArray, optional
        Frame that gives the header in its place. Attributes and coordinates of `frame` go on top, but for those of
        patient and study.
    tag_dims : iterable of str
        Tag dims of the image: their labels are of a volume, even where an element has their name.
    from_files : bool
        Whether the header is read from the source file; else attributes and coordinates tell it.

    Returns
    -------
    header : Dataset
        A new one, without pixel data.
    told : dict
        Elements whose attribute or coordinate is not what the file says, by keyword.

    Raises
    ------
    ValueError
        If an element cannot hold what the user has set it to.
    MissingHeaderError
        If the frame is of a kind that has no files of one image, and no template is given.
    """
    tag_dims = tuple(tag_dims)
    own = _header_part(frame if template is None else template, tag_dims)
    header = source_dataset(own) if from_files else None
    told: dict[str, Value] = {}
    is_tiled = False
    if header is None:
        header = described_dataset(own)
        to_classic(header)
        check_settings(header_values(own), _SET_BY_USERS)
    else:
        turn_words(header)
        remember_texts(header)
        told = _told(header, own)
        is_tiled = "ImageType" in told and bool(set(TILED) & set(header.get("ImageType") or ()))
        if is_tiled:
            drop_private_elements(header, OF_TILES)
    if template is not None:
        settings = _told(header, _header_part(frame, tag_dims))
        told |= {name: value for name, value in settings.items() if not (name in OF_MANY or _is_of_template(name))}
    check_settings(told, told)
    for name, value in told.items():
        header.add(to_element(name, value))
    if is_tiled:
        # The reader has worked these out for each slice.
        told = {name: value for name, value in told.items() if name not in _OF_SLICES}
    return header, told


def _is_of_template(name: str) -> bool:
    """Return whether an element is that of a template, whatever an image tells that gets its header."""
    return name in _OF_TEMPLATE or tag(name) >> 16 in _PATIENT_GROUPS or tag(name) in _REQUEST


def paired(da: xr.DataArray, template: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return image and template with volumes and slices that have the same number where they correspond.

    Volumes do as in `imagedata_xr.templates.copy_headers`, but for a template of one volume, which serves all. Slices
    do by their place; where the image lies elsewhere they do by their number.

    Parameters
    ----------
    da, template : DataArray
        With the dims (tag dims..., ``slice``, ``row``, ``col``).

    Returns
    -------
    da : DataArray
        The image; a dim whose volumes are only counted has name and labels of the template's. It has the b-values and
        directions of the template if it tells none.
    template : DataArray
        Its frames in the order of the image's.

    Raises
    ------
    PairingError
        If volumes do not correspond.
    GeometryError
        If some slices lie at those of the template, and others do not.
    """
    template = template.isel({dim: 0 for dim in tag_dims(template) if template.sizes[dim] == 1})
    da = named_volumes(da, template, extend=False)
    found = {dim: partners(da, template, dim, extend=False) for dim in tag_dims(template) if dim in da.dims}
    found["slice"] = _slices_at(da, template)
    template = template.isel({dim: rows for dim, rows in found.items() if rows is not None})
    if not any(name in da.coords for name in DIFFUSION):
        # Vendors tell b-values in private elements, which a derived image has not.
        of_volumes = {name: template.coords[name].variable for name in DIFFUSION if name in template.coords}
        da = da.assign_coords(
            {name: coord for name, coord in of_volumes.items() if coord.dims and {*coord.dims} <= {*da.dims}}
        )
    return da, template


def _slices_at(da: xr.DataArray, template: xr.DataArray) -> NDArray[np.intp] | None:
    """Return the number of the template's slice at the place of each of the image's; None if they lie elsewhere."""
    if template.sizes["slice"] == 1 or not (has_geometry(da) and has_geometry(template)):
        return None
    mine, theirs = (positions_along(image, "slice") for image in (da, template))
    normal, other = (unit_vectors(frame(image).orientation)[0] for image in (da, template))
    if np.linalg.norm(np.cross(normal, other)) > COSINE_TOLERANCE:
        return None
    # Rows that other programs have turned over turn the normal.
    apart = np.abs(np.subtract.outer(mine * np.sign(normal @ other), theirs))
    there = apart.min(axis=1) <= same_place(template)
    if there.all():
        return np.asarray(apart.argmin(axis=1), np.intp)
    if there.any() and mine.size == theirs.size:
        raise GeometryError(
            f"{int(there.sum())} of the image's {mine.size} slices lie at slices of the template, the others do not, "
            "so that neither place nor number tells which correspond: select the slices of one like those of the "
            "other, or drop the template's, template.drop_vars('slice'), for them to correspond by number"
        )
    return None


def template_frame(template: xr.DataArray, da: xr.DataArray, place: dict[str, int]) -> xr.DataArray:
    """Return the frame of the template, `paired` with the image, that corresponds to one of it.

    Raises
    ------
    ValueError
        If the template has a dim of another size, or several frames along one that the image lacks.
    """
    where = {}
    for dim, number in place.items():
        size, needed = template.sizes.get(dim, 1), da.sizes[dim]
        if size not in (1, needed):
            raise ValueError(
                f"the template has {size} along {dim}, the image {needed}: select {needed} of the template, or one"
            )
        if dim in template.dims:
            where[dim] = number if size > 1 else 0
    if "rgb" in template.dims:
        template = template.isel(rgb=0)
    rest = {str(dim): size for dim, size in template.sizes.items() if dim not in (*where, "row", "col")}
    if any(size > 1 for size in rest.values()):
        raise ValueError(
            f"the template has dims that the image lacks, {rest}: select one along each, as in template.isel(...=0)"
        )
    return template.isel({**where, **dict.fromkeys(rest, 0)})


def _header_part(frame: xr.DataArray, tag_dims: Iterable[str]) -> xr.DataArray:
    """Return a frame without what is of the whole image or was interpolated, though elements have its names."""
    labels = {*tag_dims, "AcquisitionDateTime"}
    part = frame.drop_vars(
        [name for name, coord in frame.coords.variables.items() if name in labels or is_between(name, coord)]
    )
    # Of an image without a place nothing else tells the distance of pixels.
    whole = ("ImageOrientationPatient", "PixelSpacing") if "ImageOrientationPatient" in frame.attrs else ()
    part.attrs = {name: value for name, value in frame.attrs.items() if name not in whole}
    return part


def _told(ds: Dataset, frame: xr.DataArray) -> dict[str, Value]:
    """Return the elements that a frame's attributes and coordinates give another value than its header."""
    return {
        name: value
        for name, value in header_values(frame).items()
        if (as_text(to_value(ds[name])) != as_text(value) if name in ds else value != "")
    }


def as_text(value: Any) -> str:
    """Return a value in a form in which equal ones are equal."""
    if isinstance(value, list | tuple | np.ndarray):
        return "\\".join(map(str, value))
    # Whole numbers of a coordinate are floats where frames are absent.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


_FORMS: Final = {
    "AS": "an age of three digits and D, W, M or Y, such as '045Y'",
    "CS": "a code of at most 16 capitals, digits, spaces and underscores, such as 'F' for PatientSex",
    "DA": "a date such as '20260304'",
    "DT": "a date and time such as '20260304101203.4'",
    "TM": "a time of day such as '101203.4'",
}
"""How values of these representations look (PS3.5 6.2)."""


def check_settings(values: Mapping[str, Value], names: Iterable[str]) -> None:
    """Raise ValueError where an element cannot hold its value (PS3.5 6.2).

    Parameters
    ----------
    values : mapping
        Values by keyword.
    names : iterable of str
        Those that are looked at; what has no value is passed over.
    """
    from pydicom.config import RAISE
    from pydicom.valuerep import STR_VR, validate_value

    for name in names:
        if name not in values:
            continue
        with without_validation():  # which would warn of what is raised below
            element = to_element(name, values[name])
        if element.is_empty:
            continue
        for part in element.value if element.VM > 1 else [element.value]:
            try:
                validate_value(element.VR, str(part) if element.VR in STR_VR else part, RAISE)
            except ValueError as error:
                form = f"; wanted is {_FORMS[element.VR]}" if element.VR in _FORMS else ""
                raise ValueError(f"{name} cannot hold {values[name]!r}: {error}{form}") from None
