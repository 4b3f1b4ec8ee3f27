"""Instances in files, as they are sent: what names them, how they are encoded, and their data set as it lies there."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from imagedata_xr.dicom.scan import list_files
from imagedata_xr.dicom.walk import IMPLICIT, LONG_VRS, SHORT_VRS, StepAside, meta_of
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from imagedata_xr.quiet import without_validation
from imagedata_xr.streams import dcmread, open_binary

if TYPE_CHECKING:
    from imagedata_xr.sources import Source

__all__ = ["FileInstance", "file_and_head", "file_head", "identifiers", "instances"]

_TAGS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "ImageType")
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_IDENTIFIERS: Final = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x00080050: "AccessionNumber",
    0x00100020: "PatientID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200011: "SeriesNumber",
}
_CHARACTER_SET: Final = 0x00080005
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_LONGEST_META: Final = 1 << 20
"""Bytes of file meta information up to which it is looked how the data set begins."""


@dataclass(frozen=True)
class FileInstance:
    """An instance in a file."""

    path: str
    sop_class: str
    uid: str
    syntax: str
    study: str
    series: str
    patient: str = field(repr=False)
    derived: bool
    sources: frozenset[str]
    """SOPInstanceUIDs of the images that it says it was derived from."""


def instances(source: Source) -> list[FileInstance]:
    """Return the instances in the files of a source; what is no DICOM file is passed over, and DICOMDIR.

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM file.
    UnreadableFileError
        If a file cannot be read, or says nothing of what it is.
    """
    found = [instance for path in list_files(source) if (instance := _instance(path)) is not None]
    if not found:
        msg = f"no DICOM file (PS3.10) is at {source}"
        raise NoDicomError(msg)
    return found


def _instance(path: str) -> FileInstance | None:
    from pydicom.errors import InvalidDicomError

    with open_binary(path) as file:
        if file.read(132)[128:] != b"DICM":
            return None
        group = file.read(12)
        # The first element is the length of all others of the file meta information (PS3.10 7.1).
        length = int.from_bytes(group[8:], "little") if group[:6] == b"\2\0\0\0UL" else 0
        first = file.read(length + 6)[length:] if 0 < length < _LONGEST_META else b""
    try:
        # What pydicom would say of values that are not valid has them in it.
        with without_validation():
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*_TAGS, "SourceImageSequence"])
            if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
                return None
            told = [str(header.get(name, "") or "") for name in _TAGS[:5]]
            kinds = header.get("ImageType") or [""]
            sources = frozenset(
                str(item.get("ReferencedSOPInstanceUID", "")) for item in header.get("SourceImageSequence") or []
            )
            syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    except (InvalidDicomError, ValueError, TypeError, LookupError, AttributeError, EOFError, struct.error) as err:
        msg = f"{path} is a damaged DICOM file: {type(err).__name__} in its header"
        raise UnreadableFileError(msg) from err
    sop_class, uid, study, series, patient = told
    if not sop_class or not uid or not syntax:
        msg = f"{path} is a damaged DICOM file: SOPClassUID, SOPInstanceUID or TransferSyntaxUID is absent"
        raise UnreadableFileError(msg)
    if syntax in (_EXPLICIT, IMPLICIT) and len(first) == 6:
        # Some files are not encoded as they say; who is sent one would take it for what it is said to be.
        syntax = _EXPLICIT if first[4:] in LONG_VRS | SHORT_VRS else IMPLICIT
    derived = "DERIVED" in (kinds if isinstance(kinds, str) else str(kinds[0]))
    return FileInstance(path, sop_class, uid, syntax, study, series, patient, derived, sources)


def file_and_head(path: str) -> tuple[bytes, int]:
    """Return the bytes of a file, and how many of them are preamble and file meta information.

    Raises
    ------
    UnreadableFileError
        If its file meta information cannot be read.
    """
    with open_binary(path) as file:
        data = file.read()
    try:
        _, length = meta_of(data)
    except (StepAside, struct.error) as err:
        msg = f"{path} is a damaged DICOM file: its file meta information cannot be read"
        raise UnreadableFileError(msg) from err
    return data, length


def file_head(sop_class: str, uid: str, syntax: str) -> bytes:
    """Return preamble and file meta information of an instance in a transfer syntax."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(uid)
    meta.TransferSyntaxUID, meta.ImplementationClassUID = UID(syntax), PYDICOM_IMPLEMENTATION_UID
    out = DicomBytesIO()
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(out, meta)
    return bytes(out.getvalue())


def identifiers(file: BinaryIO, syntax: str) -> dict[str, str]:
    """Return what a data set says it is, keyword to value; what it leaves out is "".

    Parameters
    ----------
    file : binary file
        The data set as it is encoded, from its beginning.
    syntax : str
        Its transfer syntax.

    Raises
    ------
    UnreadableFileError
        If it cannot be read so far.
    """
    from pydicom.charset import convert_encodings, decode_bytes
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import data_element_generator
    from pydicom.uid import UID

    encoding, last, found = UID(syntax), max(_IDENTIFIERS), dict.fromkeys(_IDENTIFIERS.values(), "")
    character_sets: list[str] = ["iso8859"]
    try:
        # As they lie there: pydicom tells the values that it finds wrong, and does so for all threads or none.
        for element in data_element_generator(
            file,
            encoding.is_implicit_VR,
            encoding.is_little_endian,
            stop_when=lambda tag, _vr, _length: tag > last,
            specific_tags=[_CHARACTER_SET, *_IDENTIFIERS],
        ):
            value = element.value or b""
            if not isinstance(value, bytes):
                raise TypeError
            if element.tag == _CHARACTER_SET:
                names = [name.strip(" \0") for name in value.decode("ascii").split("\\")]
                character_sets = convert_encodings(names)
            elif element.tag in _IDENTIFIERS:
                text = decode_bytes(value, character_sets, set())
                found[_IDENTIFIERS[element.tag]] = text.strip(" \0")
    except (
        *(InvalidDicomError, ValueError, TypeError, LookupError, AttributeError, EOFError, struct.error),
        *(NotImplementedError, RecursionError, OSError),
    ) as err:
        msg = f"its data set is damaged: {type(err).__name__} before its SeriesNumber"
        raise UnreadableFileError(msg) from None
    return found
