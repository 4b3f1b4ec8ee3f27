"""Hostile and damaged files: each is refused with its path, in seconds and little memory, and stops no other series.

Files are opened in a process of its own that may take 4 GiB of address space, so that one that takes the process down,
or for ever, fails its test and not the run. 2,000 mutants of good files are opened in the same way.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from tests.dicom.multi import write_enhanced
from tests.dicom.test_mosaic import siemens
from tests.dicom.test_stored import compressed
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS, MEBIBYTES = 20, 2500
"""That one hostile file may take: of the processor, and of memory at its peak with all that Python needs; most take a
thousandth."""
MOST_SECONDS = 120
"""On the wall, where the machine has other work too, before the process is ended."""
ITEM, ITEM_END, SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE
UNDEFINED = 0xFFFFFFFF

CHILD = """
import faulthandler, json, resource, sys, time, warnings
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
warnings.simplefilter("ignore")
import imagedata_xr as ixr
from imagedata_xr import errors

OURS = tuple(getattr(errors, name) for name in errors.__all__)

def outcome(work):
    try:
        return {"result": work(), "ours": True, "error": "", "message": ""}
    except Exception as err:
        return {"result": None, "ours": isinstance(err, OURS), "error": type(err).__name__, "message": str(err)}

def openings(path):
    return ixr.open_series(path, missing="fill", duplicates="stack").load().size

def series_of(tree):
    return {str(n.attrs.get("SeriesDescription") or n["image"].attrs.get("SeriesDescription")):
            n["image"].load().size for n in tree.subtree if n.has_data and "good" in n.path}

for line in sys.stdin:
    task, path, seconds = json.loads(line)
    faulthandler.dump_traceback_later(seconds, exit=True)
    began = time.process_time()
    if task == "open":
        done = outcome(lambda: openings(path))
    elif task == "tree":
        done = outcome(lambda: series_of(ixr.open_study(path, errors="warn")))
    else:
        done = outcome(lambda: ixr.scan(path, errors="warn")["SeriesDescription"].tolist())
    done["seconds"] = time.process_time() - began
    done["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(done), flush=True)
"""


class Opener:
    """A process that opens what it is told, and is started anew when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, task: str, path: Path, seconds: float = MOST_SECONDS) -> dict[str, Any]:
        """Return what became of opening a path."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([task, str(path), seconds]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.communicate()
            status, self.process = self.process.returncode, None
            pytest.fail(f"{task} of {path.name}: the process ended with {status}, or took more than {seconds} s")
        done: dict[str, Any] = json.loads(line)
        return done

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.communicate()
            self.process = None


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Return an `Opener` with a process of its own, for its memory to be that of one file."""
    opener = Opener()
    yield opener
    opener.close()


# --- files that claim to be, or become, more than they are


def one(folder: Path, **options: Any) -> Path:
    """Write one small file and return it."""
    return write_series(folder, slices=1, series="bad", **options)[0]


def changed(file: Path, old: bytes, new: bytes) -> Path:
    """Change bytes that are in a file once."""
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    return file


def short(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    """Return an element of explicit little endian."""
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def us(element: int, value: int) -> bytes:
    """Return an element of group 0028 that holds one number."""
    return short(0x28, element, b"US", struct.pack("<H", value))


def before_pixels(file: Path, elements: bytes) -> Path:
    """Put bytes before the pixel data of a file."""
    mark = b"\xe0\x7f\x10\0"
    return changed(file, mark, elements + mark)


def huge_shape(file: Path, size: int = 65535) -> Path:
    """Make a file claim as many rows and columns as there can be."""
    dataset = dcmread(file)
    dataset.Rows = dataset.Columns = size
    dataset.save_as(file)
    return file


def pixel_length(folder: Path) -> Path:
    return changed(one(folder), b"\xe0\x7f\x10\0OW\0\0\x60\0\0\0", b"\xe0\x7f\x10\0OW\0\0\xf0\xff\xff\xff")


def rows_and_columns(folder: Path) -> Path:
    return huge_shape(one(folder))


def terabytes_of_frames(folder: Path) -> Path:
    file = write_enhanced(folder / "bad", series="bad", slices=2)
    huge_shape(changed(file, b"\x28\0\x08\0IS\2\x002 ", b"\x28\0\x08\0IS\x0a\x002147483647"))
    return file


def frames_of_no_size(folder: Path) -> Path:
    """Write a file of two thousand million frames of no rows, which take no byte."""
    file = one(folder, mutate=lambda ds, _t, _z: setattr(ds, "NumberOfFrames", 2))
    changed(file, b"\x28\0\x08\0IS\2\x002 ", b"\x28\0\x08\0IS\x0a\x002147483647")
    return changed(file, us(0x10, 8), us(0x10, 0))


def frames_in_fragments(folder: Path) -> Path:
    """Write a file of more frames than fragments."""
    file = one(folder, transfer_syntax=RLELossless, mutate=lambda ds, _t, _z: setattr(ds, "NumberOfFrames", 1))
    return changed(file, b"\x28\0\x08\0IS\2\x001 ", b"\x28\0\x08\0IS\x0a\x002147483647")


def run_lengths(folder: Path) -> Path:
    return huge_shape(one(folder, transfer_syntax=RLELossless))


def frame_beyond_the_limit(folder: Path) -> Path:
    """Write a codestream that agrees with its header, and is of 4 GiB."""
    return huge_shape(jpeg_2000(folder, 65535))


def jpeg_2000(folder: Path, size: int) -> Path:
    stream = bytearray(imagecodecs.jpeg2k_encode(np.zeros((8, 6), "u2"), reversible=True, codecformat="j2k"))
    at = stream.find(b"\xff\x51")
    struct.pack_into(">II", stream, at + 6, size, size)
    struct.pack_into(">II", stream, at + 22, size, size)
    return renamed(compressed(folder, [bytes(stream)], JPEG2000Lossless, Rows=8, Columns=6))


def renamed(file: Path) -> Path:
    return file.rename(file.with_name("bad"))


def jpeg_2000_codestream(folder: Path) -> Path:
    return jpeg_2000(folder, 60000)


def jpeg_codestream(folder: Path) -> Path:
    stream = bytearray(imagecodecs.ljpeg_encode(np.zeros((8, 6), "u2")))
    at = stream.find(b"\xff\xc3")
    struct.pack_into(">HH", stream, at + 5, 65000, 65000)
    return renamed(compressed(folder, [bytes(stream)], JPEGLosslessSV1, Rows=8, Columns=6))


def jpeg_ls_codestream(folder: Path) -> Path:
    stream = bytearray(imagecodecs.jpegls_encode(np.zeros((8, 6), "u2")))
    at = stream.find(b"\xff\xf7")
    struct.pack_into(">HH", stream, at + 5, 65000, 65000)
    return renamed(compressed(folder, [bytes(stream)], JPEGLSLossless, Rows=8, Columns=6))


def written(folder: Path, body: bytes, syntax: Any = ExplicitVRLittleEndian) -> Path:
    """Write a file of which everything after the meta header is given."""
    meta, out = FileMetaDataset(), io.BytesIO()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = syntax, "2.25.1"
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(out, meta)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bad"
    file.write_bytes(out.getvalue() + body)
    return file


def body_of(folder: Path) -> bytes:
    """Return a small file without its meta header."""
    data = one(folder / "whole").read_bytes()
    shutil.rmtree(folder / "whole")
    return data[data.index(b"\x08\0\x05\0CS") :]


def deflate_bomb(folder: Path) -> Path:
    """Write a file of 2 MB that becomes 2 GiB."""
    deflate, megabytes = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 24)
    out = [deflate.compress(struct.pack("<HH2s2xI", 9, 0x1001, b"OB", 1 << 31))]
    out += [deflate.compress(megabytes) for _ in range(128)]
    return written(folder, b"".join(out) + deflate.flush(), DeflatedExplicitVRLittleEndian)


def deflated_frames(folder: Path) -> Path:
    """Write a small deflated file of a hundred million frames of one pixel, and as many pixels."""
    file = one(folder, mutate=lambda ds, _t, _z: setattr(ds, "NumberOfFrames", 2))
    data = file.read_bytes()
    file.unlink()
    body = data[data.index(b"\x08\0\x05\0CS") :]
    body = body.replace(b"\x28\0\x08\0IS\2\x002 ", b"\x28\0\x08\0IS\x0a\x00100000000 ")
    body = body.replace(us(0x10, 8) + us(0x11, 6), us(0x10, 1) + us(0x11, 1))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = body[: body.index(b"\xe0\x7f\x10\0")] + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 200_000_000)
    out = deflate.compress(body + bytes(200_000_000)) + deflate.flush()
    return written(folder, out, DeflatedExplicitVRLittleEndian)


def nested(depth: int) -> bytes:
    """Return sequences within sequences."""
    open_one = struct.pack("<HH2s2xI", 0x0040, 0xA730, b"SQ", UNDEFINED) + struct.pack("<II", ITEM, UNDEFINED)
    return open_one * depth + struct.pack("<IIII", ITEM_END, 0, SEQUENCE_END, 0) * depth


def sequences_in_sequences(folder: Path) -> Path:
    return written(folder, body_of(folder).replace(b"\xe0\x7f\x10\0", nested(10_000) + b"\xe0\x7f\x10\0"))


def sequences_in_groups(folder: Path) -> Path:
    """Put them where functional groups are looked for."""
    file = write_enhanced(folder / "bad", series="bad", slices=1)
    data, bomb = file.read_bytes(), nested(10_000)
    item = struct.pack("<II", ITEM, len(bomb)) + bomb
    sequence = struct.pack("<HH2s2xI", 0x5200, 0x9230, b"SQ", len(item)) + item
    file.write_bytes(data[: data.index(b"\x00\x52\x30\x92SQ")] + sequence + data[data.index(b"\xe0\x7f\x10\0") :])
    return file


def items_without_end(folder: Path) -> Path:
    """Let a sequence begin, and an item that claims 4 GB."""
    begun = struct.pack("<HH2s2xI", 0x0040, 0xA730, b"SQ", UNDEFINED) + struct.pack("<II", ITEM, 0xFFFFFF00)
    return before_pixels(one(folder), begun)


def value_without_end(folder: Path) -> Path:
    """Let text claim 4 GB."""
    return before_pixels(one(folder), struct.pack("<HH2s2xI", 0x0040, 0xA160, b"UT", 0xFFFFFFF0))


def a_million_fragments(folder: Path) -> Path:
    file = one(folder, transfer_syntax=RLELossless)
    data = file.read_bytes()
    at = data.index(b"\xe0\x7f\x10\0OB") + 12
    empty = struct.pack("<II", ITEM, 0)
    file.write_bytes(data[:at] + empty * 1_000_001 + struct.pack("<II", SEQUENCE_END, 0))
    return file


def overlapping_offsets(folder: Path) -> Path:
    """Write two frames of two fragments each, whose offset table says that the second begins within the first."""
    file = write_enhanced(folder / "bad", series="bad", slices=2, syntax=RLELossless)
    dataset = dcmread(file)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=2))
    value = bytearray(encapsulate(frames, fragments_per_frame=2))
    struct.pack_into("<II", value, 8, 0, 9)
    dataset.PixelData = bytes(value)
    dataset.save_as(file)
    return file


HOSTILE: list[Callable[[Path], Path]] = [
    pixel_length, rows_and_columns, terabytes_of_frames, frames_of_no_size, frames_in_fragments, run_lengths,
    frame_beyond_the_limit, jpeg_2000_codestream, jpeg_codestream, jpeg_ls_codestream, deflate_bomb, deflated_frames,
    sequences_in_sequences, sequences_in_groups, items_without_end, value_without_end, a_million_fragments,
    overlapping_offsets,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_file_is_refused_and_stops_nothing_else(
    tmp_path: Path, opener: Opener, make: Callable[[Path], Path]
) -> None:
    file = make(tmp_path / "heap" / "bad one")
    write_series(tmp_path / "heap" / "good one", series="good", slices=3, number=7)
    alone = opener("open", file)
    assert alone["ours"], alone
    assert alone["error"], alone
    assert str(file) in alone["message"]
    table = opener("scan", tmp_path / "heap")
    assert "good" in table["result"], table
    tree = opener("tree", tmp_path / "heap")
    assert tree["result"] == {"good": 3 * 8 * 6}, tree
    for done in (alone, table, tree):
        assert done["seconds"] < SECONDS
        assert done["mebibytes"] < MEBIBYTES


# --- limits


def test_limits_hold_within_their_block_and_are_checked(tmp_path: Path) -> None:
    file = one(tmp_path, transfer_syntax=RLELossless)
    image = ixr.open_series(file)
    with ixr.set_options(largest_frame=95), pytest.raises(UnreadableFileError, match="96 bytes each; at most 95"):
        image.load()
    before = ixr.set_options(largest_frame=10)
    with pytest.raises(UnreadableFileError, match=r"set_options\(largest_frame="):
        image.load()
    before.__exit__(None, None, None)
    assert image.load().size == 48
    for limit in (0, -1, 1.5, True, "1 GB"):
        with pytest.raises(ValueError, match="a whole number of bytes, at least 1, is wanted"):
            ixr.set_options(largest_header=limit)  # type: ignore[arg-type] # the mistake that is tested


def test_limit_of_a_block_holds_in_the_threads_that_compute(tmp_path: Path) -> None:
    write_series(tmp_path, slices=3, transfer_syntax=RLELossless)
    image = ixr.open_series(tmp_path, chunks={"slice": 1})
    with ixr.set_options(largest_frame=95), pytest.raises(UnreadableFileError, match="at most 95"):
        image.compute(scheduler="threads")


def test_header_larger_than_the_limit(tmp_path: Path) -> None:
    text = struct.pack("<HH2s2xI", 0x0040, 0xA160, b"UT", 3 << 20) + b" " * (3 << 20)
    file = before_pixels(one(tmp_path), text)
    assert ixr.open_series(file).shape == (1, 8, 6)
    refused = pytest.raises(UnreadableFileError, match="a header of more than 1048576")
    with ixr.set_options(largest_header=1 << 20), refused:
        ixr.open_series(file)


# --- mutants

MUTANTS, PARTS = 2000, 4
LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, patient: Path) -> list[bytes]:
    """Return good files of every kind: of the phantom patient, enhanced, mosaics, and each way to store pixels."""
    folder = tmp_path_factory.mktemp("originals")
    files = [sorted(f for f in series.rglob("*") if f.is_file())[0] for series in sorted(patient.iterdir())]
    files.append(write_enhanced(folder / "enhanced", times=2, slices=2))
    files += siemens(folder / "mosaic", times=1)
    syntaxes = (
        *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless),
        *(JPEG2000Lossless, JPEGLSLossless),
    )
    for syntax in syntaxes:
        files += write_series(folder / syntax.name, slices=1, rows=64, cols=48, transfer_syntax=syntax)
    files.append(write_enhanced(folder / "encapsulated", times=2, slices=2, syntax=RLELossless))
    stream = imagecodecs.ljpeg_encode(np.zeros((8, 6), "u2"))
    files.append(compressed(folder / "jpeg", [stream], JPEGLosslessSV1, Rows=8, Columns=6))
    return [file.read_bytes() for file in files]


def mutant(originals: list[bytes], seed: int) -> bytes:
    """Return a file with flipped bits, other bytes, odd lengths, parts left out, put in or moved, or no end."""
    rng = random.Random(seed)
    data = bytearray(originals[seed % len(originals)])
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        # Most of what can go wrong is in the header.
        top = min(len(data), 4096) if rng.random() < 0.8 else len(data)
        at = rng.randrange(128, top - 4)
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            struct.pack_into("<H", data, at, rng.choice(LENGTHS) & 0xFFFF)
        elif kind == 3:
            struct.pack_into("<I", data, at, rng.choice(LENGTHS))
        elif kind == 4:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 5:
            data[at:at] = rng.randbytes(rng.randrange(1, 32))
        elif kind == 6:
            other = rng.choice(originals)
            start, length = rng.randrange(128, len(other)), rng.randrange(4, 256)
            data[at : at + length] = other[start : start + length]
        elif rng.random() < 0.3:
            del data[at:]
        if len(data) < 300:
            break
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_mutants_open_or_are_refused(tmp_path: Path, opener: Opener, originals: list[bytes], part: int) -> None:
    opened, refused, bad = 0, 0, []
    for seed in range(part, MUTANTS, PARTS):
        file = tmp_path / f"{seed}"
        file.write_bytes(mutant(originals, seed))
        done = opener("open", file)
        opened, refused = opened + (not done["error"]), refused + bool(done["error"])
        if not done["ours"]:
            bad.append((seed, done["error"], done["message"]))
        file.unlink()
    assert bad == []
    assert opened > 50
    assert refused > 50
