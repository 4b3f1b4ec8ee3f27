"""Instances of a DICOMweb service as files, of which only those parts are fetched that are read.

A file has the header that the service tells (its metadata, and their bulk data but the pixels), in explicit VR little
endian, and pixels of a known length, uncompressed, which are fetched frame by frame where they are read. Instances
whose pixels have no such length are fetched whole.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import urlsplit

import numpy as np
from fsspec import AbstractFileSystem

from imagedata_xr.errors import MixedSeriesError, NetworkError, UnreadableFileError
from imagedata_xr.options import OPTIONS
from imagedata_xr.pacs.identity import UID
from imagedata_xr.pacs.instances import file_head
from imagedata_xr.pacs.web import WEB_SCHEMES, WebPlace, client_of, refusals_told, split_web, understood
from imagedata_xr.quiet import without_validation

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["WebFiles"]

_AT_A_TIME: Final = 8
_KEPT: Final = 50_000
"""Instances whose headers are kept in memory."""
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_ANY: Final = (("application/octet-stream", "*"),)
_DICOM: Final = (("application/dicom", "*"),)
_PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_OF_SERVICE: Final = ("AvailableTransferSyntaxUID", "RetrieveURL", "InstanceAvailability", "RetrieveAETitle")


@dataclass(frozen=True)
class _Instance:
    """An instance: its head, or the whole file."""

    place: WebPlace
    head: bytes
    frames: int = 0
    frame_length: int = 0
    patient: str = field(default="", repr=False)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        pixels = self.frames * self.frame_length
        return len(self.head) + pixels + pixels % 2


class WebFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """A file system of fsspec whose files are the instances of DICOMweb services."""

    protocol = WEB_SCHEMES
    reads_stop_before_pixels = True
    # Of all of the class: fsspec makes an object for each way in which it is asked for one.
    _known: ClassVar[OrderedDict[str, _Instance]] = OrderedDict()
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _local: ClassVar[threading.local] = threading.local()
    _decoding: ClassVar[threading.Lock] = threading.Lock()
    _decoded: ClassVar[tuple[_Instance | None, bytes]] = (None, b"")
    """The instance of many frames that was decompressed last: each of its frames is asked for by itself."""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def unstrip_protocol(self, name: str) -> str:
        """Return the name, which has its protocol."""
        return name

    def client(self, base: str) -> Any:
        """Return a client for this thread."""
        clients = self._local.__dict__.setdefault("clients", {})
        if base not in clients:
            clients[base] = client_of(base)
        return clients[base]

    def isfile(self, path: str) -> bool:
        """Return whether a URL names an instance."""
        return bool(split_web(path).instance)

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether a URL can be read."""
        return self.isfile(path)

    def find(self, path: str, maxdepth: Any = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
        """Return the URLs of the instances of a study or series; their metadata are fetched."""
        place = split_web(path)
        if not place.study:
            msg = f"{path} names a whole archive: add /studies/UID, and /series/UID"
            raise ValueError(msg)
        client = self.client(place.base)
        with refusals_told(place.base), understood(place.base):
            if place.series:
                told = list(client.retrieve_series_metadata(place.study, place.series))
            else:
                told = list(client.retrieve_study_metadata(place.study))
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            found = list(pool.map(lambda one: self._instance(place, one), told))
        if len(patients := {instance.patient for instance in found}) > 1:
            msg = f"{path} is of {len(patients)} patients, and one is wanted: add /series/UID"
            raise MixedSeriesError(msg)
        for instance in found:
            self._keep(instance)
        return sorted(self._url(instance.place) for instance in found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size and version of an instance."""
        instance = self._get(path)
        version = f"{zlib.crc32(instance.head):08x}"
        return {"name": path, "size": instance.size, "type": "file", "ETag": version}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> _File:
        if mode != "rb":
            msg = f"{path} can be read only; an image is stored with write('dicomweb+https://server/path')"
            raise ValueError(msg)
        return _File(self, self._get(path))

    def _get(self, path: str) -> _Instance:
        known = self._known.get(path)
        if known is None:
            place = split_web(path)
            with refusals_told(place.base), understood(place.base):
                told = self.client(place.base).retrieve_instance_metadata(place.study, place.series, place.instance)
            known = self._instance(place, told)
            self._keep(known)
        return known

    def _keep(self, instance: _Instance) -> None:
        """Keep what is known of an instance, so that it need not be asked for again."""
        with self._lock:
            self._known[self._url(instance.place)] = instance
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    @staticmethod
    def _url(place: WebPlace) -> str:
        path = f"studies/{place.study}/series/{place.series}/instances/{place.instance}"
        return f"dicomweb+{place.base}/{path}"

    def _instance(self, asked: WebPlace, told: dict[str, Any]) -> _Instance:
        """Return an instance from its metadata, which have to be of what was asked for."""
        from pydicom import Dataset

        base = asked.base

        def bulk(tag: str, _vr: str, uri: str) -> bytes:
            if int(tag, 16) >> 16 == 0x7FE0 or not uri:
                return b""
            # Our credentials go along, so it is asked for at the service itself, whatever it calls itself.
            _, is_ours, rest = uri.partition("/studies/")
            if not is_ours:
                msg = f"{base} keeps bulk data at {urlsplit(uri).hostname}, which is not asked; fetch them by DIMSE"
                raise UnreadableFileError(msg)
            target = f"{base}/studies/{rest}"
            with refusals_told(base), understood(base):
                return b"".join(self.client(base).retrieve_bulkdata(target, media_types=_ANY))

        with without_validation():
            with understood(base):
                header = Dataset.from_json(told, bulk_data_uri_handler=bulk)
            for name in (*_PIXELS, *_OF_SERVICE):
                if name in header:
                    del header[name]
            place, patient = _place(asked, header), str(header.get("PatientID", ""))
            length = _frame_length(header)
            if length is None:
                return self._whole(place, patient)
            count = int(header.get("NumberOfFrames") or 1)
            return _Instance(place, _head(header, count * length), count if length else 0, length, patient)

    def _whole(self, place: WebPlace, patient: str) -> _Instance:
        """Return an instance with the whole file in place of a head; it has to be the one that the metadata are of."""
        from pydicom import dcmwrite

        out = BytesIO()
        with refusals_told(place.base), without_validation():
            with understood(place.base):
                dataset = self.client(place.base).retrieve_instance(*place[1:], media_types=_DICOM)
            _place(place, dataset)
            if str(dataset.get("PatientID", "")) != patient:
                raise NetworkError(f"{self._url(place)} was answered with an instance of another PatientID than before")
            with understood(place.base):
                dcmwrite(out, dataset, enforce_file_format=True)
        return _Instance(place, out.getvalue(), patient=patient)

    def frame(self, instance: _Instance, number: int) -> bytes:
        """Return the stored values of a frame, counted from 0.

        Raises
        ------
        UnreadableFileError
            If it is shorter than the header says.
        """
        place, wanted = instance.place, ("application/octet-stream", _EXPLICIT)
        try:
            with refusals_told(place.base):
                (data,) = self.client(place.base).retrieve_instance_frames(
                    *place[1:], [number + 1], media_types=(wanted,)
                )
        except (NetworkError, ValueError):
            data = b""  # it does not decompress what it has
        if instance.frame_length <= len(data) <= instance.frame_length + 1:
            return bytes(data[: instance.frame_length])
        if instance.frames == 1:
            values = self._values(instance)
        else:
            with self._decoding:
                if self._decoded[0] is not instance:
                    WebFiles._decoded = instance, self._values(instance)
                values = self._decoded[1]
        at = number * instance.frame_length
        data = values[at : at + instance.frame_length]
        if len(data) < instance.frame_length:
            msg = f"frame {number + 1} of {self._url(instance.place)} is shorter than its header says"
            raise UnreadableFileError(msg)
        return data

    def _values(self, instance: _Instance) -> bytes:
        """Return the stored values of an instance that is fetched whole, and decompressed here."""
        import pydicom

        from imagedata_xr.dicom.codecs import register

        register()
        dataset = pydicom.dcmread(BytesIO(self._whole(instance.place, instance.patient).head))
        syntax = dataset.file_meta.TransferSyntaxUID
        try:
            if syntax.is_encapsulated:
                dataset.decompress(as_rgb=False, generate_instance_uid=False)
            pixels = dataset["PixelData"]
            values = bytes(pixels.value)
            if not syntax.is_little_endian and (dataset.BitsAllocated == 16 or pixels.VR == "OW"):
                values = np.frombuffer(values, np.uint16).byteswap().tobytes()
        except (AttributeError, ValueError, RuntimeError, NotImplementedError, TypeError, LookupError, EOFError) as err:
            msg = f"the pixels of {self._url(instance.place)} are left out, cut short or damaged: {type(err).__name__}"
            raise UnreadableFileError(msg) from err
        return values


def _place(asked: WebPlace, header: Any) -> WebPlace:
    """Return where an instance is.

    Raises
    ------
    NetworkError
        If it is not where it was asked for, or does not say where it is.
    """
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    found = [str(header.get(name, "") or "") for name in names]
    for name, wanted, uid in zip(names, asked[1:], found, strict=True):
        if wanted and uid != wanted:
            state = "is left out" if not uid else "is another"
            raise NetworkError(f"{asked.base} was asked for {name} {wanted}, which {state} in what it answered")
        # It is part of what is asked for later.
        if not UID.fullmatch(uid):
            state = f"{uid!r} in an answer of {asked.base} is not as in the standard" if uid else "is left out"
            raise NetworkError(f"{name} {state}: numbers without leading zeros between dots are wanted (PS3.5 9.1)")
    return WebPlace(asked.base, *found)


def _frame_length(header: Any) -> int | None:
    """Return the bytes of an uncompressed frame, 0 where there are no pixels, None where it cannot be told."""
    size = [header.get(name) for name in ("Rows", "Columns", "BitsAllocated")]
    if None in size:
        return 0
    rows, columns, bits = map(int, size)
    if (
        header.get("SamplesPerPixel", 1) != 1
        or bits not in (8, 16)
        or "MONOCHROME" not in str(header.get("PhotometricInterpretation"))
    ):
        return None
    length = rows * columns * bits // 8
    if length > OPTIONS["largest_frame"]:
        msg = f"an instance has frames of {length} bytes; imagedata_xr.set_options(largest_frame=...) allows more"
        raise UnreadableFileError(msg)
    return length


def _head(header: Any, length: int) -> bytes:
    """Return a file that ends where its pixels begin."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    out.write(file_head(str(header.get("SOPClassUID", "")), str(header.SOPInstanceUID), _EXPLICIT))
    write_dataset(out, header)
    if length:
        vr = b"OB" if int(header.BitsAllocated) == 8 else b"OW"
        out.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, length + length % 2))
    return bytes(out.getvalue())


class _File:
    """An instance, open for reading."""

    def __init__(self, system: WebFiles, instance: _Instance) -> None:
        self._system, self._instance, self._at = system, instance, 0
        self._frame: tuple[int, bytes] = (-1, b"")
        self.name = system._url(instance.place)
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.closed = True

    def tell(self) -> int:
        """Return the place in the file."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file."""
        self._at = max(0, offset + (0, self._at, self._instance.size)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes; fewer at the end of the head, so that who reads ahead fetches no pixels."""
        instance, end = self._instance, len(self._instance.head)
        if size < 0:
            parts = []
            while piece := self.read(1 << 24):
                parts.append(piece)
            return b"".join(parts)
        in_head = self._at < end
        data = instance.head[self._at : self._at + size] if in_head else self._pixels(self._at - end, size)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes."""
        view = memoryview(buffer).cast("B")
        count = 0
        while count < len(view) and (data := self.read(len(view) - count)):
            view[count : count + len(data)] = data
            count += len(data)
        return count

    def _pixels(self, at: int, size: int) -> bytes:
        """Return bytes of the frame in which a place is."""
        instance = self._instance
        if not instance.frame_length or at >= instance.size - len(instance.head):
            return b""
        number, within = divmod(at, instance.frame_length)
        if number >= instance.frames:
            return b"\0"
        if self._frame[0] != number:
            self._frame = number, self._system.frame(instance, number)
        return self._frame[1][within : within + size]
