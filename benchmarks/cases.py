"""What is measured: each case is one piece of work by one tool, run in a process of its own.

``python benchmarks/cases.py CASE SERIES OUT`` does one, checks the result, and prints a line of JSON: seconds and
CPU seconds of each part, and the memory [bytes] before and at the most. What a case imports is imported before its
clock starts, unless the import is what is measured.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


class Case(NamedTuple):
    """A piece of work, and the modules that it needs."""

    do: Callable[[Work], None]
    modules: tuple[str, ...]


CASES: dict[str, Case] = {}
AT_HAND = "b = b'1' * 1_500_000_000; f = open({!r}, 'wb', 0); f.write(memoryview(b)[:1_000_000_000]); f.truncate(0)"
"""Takes memory and gives it back before the clock starts, for arrays, then for files that are written.

A virtual machine hands what is free to its host within seconds, and to get 300 MB again takes from 0.04 to 0.5 s,
whoever asks for them."""
OURS = (
    *("imagedata_xr", "imagedata_xr.dicom.series", "imagedata_xr.dicom.write", "imagedata_xr.dicom.catalog"),
    *("imagedata_xr.dicom.select", "dask.array", "pydicom"),
)
"""What ours imports as it works; dask.array is imported by xarray itself for the first variable."""
DECODES = ("imagedata_xr.dicom.codecs", "imagecodecs._jpegls", "imagecodecs._jpeg2k", "imagecodecs._jpeg8")
WRITES = ("imagedata_xr.dicom.codecs", "xarray.computation.nanops")
WRITES_NIFTI = ("nibabel", "imagedata_xr.formats.nifti", "imagedata_xr.formats.nifti_write", "isal.igzip_threaded")


def case(name: str, *modules: str) -> Callable[[Callable[[Work], None]], Callable[[Work], None]]:
    """Return a decorator that enters a function as a case."""

    def enter(do: Callable[[Work], None]) -> Callable[[Work], None]:
        CASES[name] = Case(do, modules)
        return do

    return enter


class Work:
    """The input of a case, and what was measured."""

    def __init__(self, series: Path, out: Path) -> None:
        self.series, self.out = series, out
        kind, _, shape = series.name.partition("-")
        self.shape = tuple(int(n) for n in shape.split("x"))
        self.order, self.intercept = ("none", -1024) if kind == "ct" else ("time", 0)
        if self.shape[0] == 1:
            self.order = "none"
        self.bytes = 0
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.opened = 0
        self.aside = 0.0
        """Seconds of the process that are of no tool."""
        self.base = self.peak = 0

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Measure what happens inside."""
        if not self.base:
            gc.collect()  # what imports left to be collected is of no work
            start = time.perf_counter()
            at_hand = AT_HAND.format(str(self.out.parent / "at-hand"))
            subprocess.run([sys.executable, "-S", "-c", at_hand], check=True)
            self.aside = time.perf_counter() - start
            self.base = _memory("VmRSS")
        cpu, start = _cpu(), time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start
        self.cpu[part] = _cpu() - cpu
        self.peak = _memory("VmHWM")

    def files(self) -> list[str]:
        """Return the files of the series, in the order of their names."""
        found = [os.path.join(folder, name) for folder, _, names in os.walk(self.series) for name in names]  # noqa: PTH118 - the fastest there is
        return sorted(found)

    def written(self, suffix: str) -> None:
        """Note the size [bytes] of the one file with a suffix that is in the output folder."""
        (file,) = self.out.glob(f"*{suffix}")
        self.bytes = file.stat().st_size

    def check(self, values: np.ndarray, volumes: slice = slice(None), slices: slice = slice(None)) -> None:
        """Raise unless the values are those of the series, every frame at its place."""
        import numpy as np

        volume, number = np.meshgrid(
            *(np.arange(n)[s] for n, s in zip(self.shape[:2], (volumes, slices), strict=True)), indexing="ij"
        )
        wanted = np.stack([volume, number], axis=-1).reshape(-1, 2) + self.intercept
        found = np.asarray(values).reshape(-1, *self.shape[2:])[:, 0, :2]
        if found.shape != wanted.shape or (found != wanted).any():
            msg = "frames are not where they belong"
            raise AssertionError(msg)


def _cpu() -> float:
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _memory(field: str) -> int:
    """Return the memory of this process [bytes]: now (VmRSS), or at the most (VmHWM)."""
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# Opening: shape, order and geometry are known; no pixels are read.


@case("open: imagedata_xr", *OURS)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    with work.timed("all"):
        image = ixr.open_series(work.series, work.order)
    if image.shape[-4:] != work.shape[work.shape[0] == 1 :]:
        raise AssertionError(image.shape)


def _before(work: Work, program: str) -> Path:
    """Do in another process what is not measured, and return what it made, which is named ``made`` in the program."""
    made = work.out.with_name("made")
    subprocess.run([sys.executable, "-c", program, str(made), str(work.series), work.order], check=True)
    return made


_OPENED = "import sys, imagedata_xr as ixr; made, series, order = sys.argv[1:]; "


@case("reopen: imagedata_xr", *OURS, "pyarrow")
def _(work: Work) -> None:
    import imagedata_xr as ixr

    index = _before(work, f"{_OPENED}ixr.open_series(series, order, index=made)")
    try:
        with work.timed("all"):
            image = ixr.open_series(work.series, work.order, index=index)
    finally:
        shutil.rmtree(index)
    if image.shape != work.shape:
        raise AssertionError(image.shape)


@case("virtual: imagedata_xr", *OURS, "imagedata_xr.formats.virtual")
def _(work: Work) -> None:
    import imagedata_xr as ixr

    store = _before(work, f"{_OPENED}ixr.open_series(series, order).dicom.to_virtual(made)")
    try:
        with work.timed("all"):
            image = ixr.open_virtual(store)
    finally:
        store.unlink()
    work.check(image.values)


@case("open: pydicom", "pydicom")
def _(work: Work) -> None:
    import pydicom

    with work.timed("all"):
        for file in work.files():
            pydicom.dcmread(file, stop_before_pixels=True)


@case("open: SimpleITK", "SimpleITK")
def _(work: Work) -> None:
    import SimpleITK as sitk

    with work.timed("all"):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(work.series), "", False, True, False)
    if len(names) != work.shape[0] * work.shape[1]:
        raise AssertionError(len(names))


@case("open: dcm2niix", "dcm2niix")
def _(work: Work) -> None:
    with work.timed("all"):
        _dcm2niix("-b", "o", "-f", "series", "-o", str(work.out), str(work.series))
    if not list(work.out.glob("*.json")):
        msg = "dcm2niix wrote nothing"
        raise AssertionError(msg)


def dcm2niix_program() -> str:
    """Return the path of dcm2niix, which its package installs beside Python."""
    return shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix") or "dcm2niix"


def _dcm2niix(*arguments: str) -> None:
    subprocess.run([dcm2niix_program(), *arguments], check=True, stdout=subprocess.DEVNULL)


# Loading: from nothing to all values in one array.


def _load(name: str, *modules: str) -> None:
    @case(f"{name}: imagedata_xr", *OURS, *modules)
    def _(work: Work) -> None:
        import imagedata_xr as ixr

        with work.timed("open"):
            image = ixr.open_series(work.series, work.order)
        with work.timed("load"):
            values = image.values
        work.check(values)


_load("load")
_load("load compressed", *DECODES)


@case("load: the bytes")
def _(work: Work) -> None:
    with work.timed("all"):
        files = work.files()
        sizes = [os.stat(file).st_size for file in files]  # noqa: PTH116 - as lean as can be
        into, start = memoryview(bytearray(sum(sizes))), 0
        for file, size in zip(files, sizes, strict=True):
            with open(file, "rb", buffering=0) as stream:
                start += stream.readinto(into[start : start + size])
    if start != len(into):
        raise AssertionError(start)


@case("load: SimpleITK", "SimpleITK")
def _(work: Work) -> None:
    import SimpleITK as sitk

    with work.timed("all"):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(work.series), "", False, True, False))
        values = sitk.GetArrayViewFromImage(reader.Execute())
    if values.size != work.shape[0] * work.shape[1] * work.shape[2] * work.shape[3]:
        raise AssertionError(values.shape)


@case("load: pydicom", "pydicom", "numpy")
def _(work: Work) -> None:
    import numpy as np
    import pydicom

    with work.timed("all"):
        datasets = [pydicom.dcmread(file) for file in work.files()]
        datasets.sort(key=lambda d: (float(d.AcquisitionTime), float(d.SliceLocation)))
        values = np.stack([d.pixel_array for d in datasets]).reshape(work.shape)
    work.check(values.astype(int) + work.intercept)


@case("load: dicomsdl", "dicomsdl", "numpy")
def _(work: Work) -> None:
    import dicomsdl
    import numpy as np

    with work.timed("all"):
        datasets = [dicomsdl.open(file) for file in work.files()]
        datasets.sort(key=lambda d: (float(d.AcquisitionTime), float(d.SliceLocation)))
        values = np.empty(work.shape, np.uint16)
        for number, dataset in enumerate(datasets):
            values[np.unravel_index(number, work.shape[:2])] = dataset.pixelData(storedvalue=True)
    work.check(values.astype(int) + work.intercept)


@case("load: imagedata", "imagedata")
def _(work: Work) -> None:
    from imagedata import Series

    with work.timed("all"):
        image = Series(str(work.series), work.order)
    work.check(image)


# One slice of one volume, from nothing.


@case("slice: imagedata_xr", *OURS)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    files: list[str] = []
    sys.addaudithook(lambda event, args: files.append(str(args[0])) if event == "open" else None)
    inside = f"{work.series}{os.sep}"
    with work.timed("open"):
        image = ixr.open_series(work.series, work.order)
    heads = sum(file.startswith(inside) for file in files)
    with work.timed("read"):
        values = image.isel(time=work.shape[0] // 2, slice=work.shape[1] // 2).values
    work.opened = sum(file.startswith(inside) for file in files) - heads
    work.check(values, *(slice(n // 2, n // 2 + 1) for n in work.shape[:2]))


@case("slice: SimpleITK", "SimpleITK")
def _(work: Work) -> None:
    import SimpleITK as sitk

    with work.timed("all"):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(work.series), "", False, True, False)
        sitk.GetArrayFromImage(sitk.ReadImage(names[len(names) // 2]))


@case("slice: pydicom", "pydicom", "numpy")
def _(work: Work) -> None:
    import pydicom

    with work.timed("all"):
        heads = {file: pydicom.dcmread(file, stop_before_pixels=True) for file in work.files()}
        order = sorted(heads, key=lambda f: (float(heads[f].AcquisitionTime), float(heads[f].SliceLocation)))
        values = pydicom.dcmread(order[len(order) // 2 + work.shape[1] // 2]).pixel_array
    if values.shape != work.shape[2:]:
        raise AssertionError(values.shape)


# One file of many frames.


@case("parse: pydicom", "pydicom", "pydicom.multival")
def _(work: Work) -> None:
    import pydicom

    with work.timed("all"):
        (file,) = work.files()
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        places = [
            group.PlanePositionSequence[0].ImagePositionPatient for group in dataset.PerFrameFunctionalGroupsSequence
        ]
    if len(places) != work.shape[0] * work.shape[1]:
        raise AssertionError(len(places))


@case("open: highdicom", "highdicom")
def _(work: Work) -> None:
    import highdicom

    with work.timed("all"):
        (file,) = work.files()
        image = highdicom.imread(file, lazy_frame_retrieval=True)
    if image.number_of_frames != work.shape[0] * work.shape[1]:
        raise AssertionError(image.number_of_frames)


# Compressed frames: all of them, and their codestreams alone.


@case("decode: imagecodecs", "imagecodecs", "pydicom", "numpy")
def _(work: Work) -> None:
    _decode(work, 1)


@case("decode in threads: imagecodecs", "imagecodecs", "pydicom", "numpy")
def _(work: Work) -> None:
    _decode(work, os.cpu_count() or 1)


def _decode(work: Work, threads: int) -> None:
    """Decode all codestreams, which are in memory before the clock starts."""
    import imagecodecs
    import numpy as np
    import pydicom
    from pydicom.encaps import generate_frames

    decode = {
        "jpegls": imagecodecs.jpegls_decode,
        "jpeg2000": imagecodecs.jpeg2k_decode,
        "jpegll": imagecodecs.ljpeg_decode,
    }[work.series.name.partition("-")[0]]
    datasets = sorted((pydicom.dcmread(file) for file in work.files()), key=lambda d: int(d.InstanceNumber))
    streams = [next(generate_frames(dataset.PixelData, number_of_frames=1)) for dataset in datasets]
    del datasets
    values = np.empty((len(streams), *work.shape[2:]), np.uint16)

    def one(number: int) -> None:
        values[number] = decode(streams[number])

    with work.timed("all"):
        if threads == 1:
            for number in range(len(streams)):
                one(number)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, range(len(streams))))
    work.check(values)


# To NIfTI.


def _nifti(name: str, suffix: str, level: str) -> None:
    @case(f"{name}: imagedata_xr", *OURS, *WRITES_NIFTI)
    def _(work: Work) -> None:
        import imagedata_xr as ixr

        with work.timed("all"):
            ixr.open_series(work.series, work.order).dicom.write(work.out / f"image{suffix}")
        work.written(suffix)

    @case(f"{name}: dcm2niix", "dcm2niix")
    def _(work: Work) -> None:
        with work.timed("all"):
            _dcm2niix("-b", "n", "-z", level, "-f", "image", "-o", str(work.out), str(work.series))
        work.written(suffix)


_nifti("nii", ".nii", "n")
_nifti("nii.gz", ".nii.gz", "i")


# Computing with dask.


@case("mean: imagedata_xr", *OURS, "dask.diagnostics")
def _(work: Work) -> None:
    import imagedata_xr as ixr

    with work.timed("all"):
        mean = ixr.open_series(work.series, work.order, chunks="auto").mean("time").compute()
    if mean.shape != work.shape[1:]:
        raise AssertionError(mean.shape)


@case("mean: NumPy", *OURS)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    image = ixr.open_series(work.series, work.order)
    with work.timed("load"):
        values = image.values
    with work.timed("mean"):
        values.mean(axis=0)


@case("write chunks: imagedata_xr", *OURS, *WRITES)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    with work.timed("all"):
        image = ixr.open_series(work.series, work.order, chunks="auto")
        (image * 2).dicom.write(work.out)
    _check_written(work)


# Importing, which is measured itself.


def _import(name: str, *modules: str) -> None:
    @case(f"import: {name}")
    def _(work: Work) -> None:
        with work.timed("all"):
            for module in modules:
                importlib.import_module(module)


_import("imagedata_xr", "imagedata_xr")
_import("xarray, dask.array, pydicom", "xarray", "dask.array", "pydicom")
_import("xarray", "xarray")
_import("imagedata", "imagedata")


# Writing a series as a new one, from folder to folder.


@case("write: imagedata_xr", *OURS, *WRITES)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    with work.timed("open"):
        image = ixr.open_series(work.series, work.order)
    with work.timed("write"):
        image.dicom.write(work.out)
    _check_written(work)


@case("write a result: imagedata_xr", *OURS, *WRITES)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    image = ixr.open_series(work.series, work.order).astype("float32").load() / 2
    with work.timed("write"):
        image.dicom.write(work.out)
    _check_written(work)


@case("write twice: imagedata_xr", *OURS, *WRITES)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    image = ixr.open_series(work.series, work.order).load() * 2
    with work.timed("write"):
        image.dicom.write(work.out)
    _check_written(work)


@case("write a difference: imagedata_xr", *OURS, *WRITES)
def _(work: Work) -> None:
    import imagedata_xr as ixr

    image = ixr.open_series(work.series, work.order).load()
    image = image - image.isel(time=0)
    with work.timed("write"):
        image.dicom.write(work.out)
    _check_written(work)


@case("write: pydicom", "pydicom")
def _(work: Work) -> None:
    import pydicom

    work.out.mkdir()
    with work.timed("open"):
        datasets = [pydicom.dcmread(file) for file in work.files()]
    with work.timed("write"):
        series = pydicom.uid.generate_uid()
        for number, dataset in enumerate(datasets):
            dataset.SeriesInstanceUID = series
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            dataset.save_as(work.out / f"{number:05d}.dcm")
    _check_written(work)


@case("write: imagedata", "imagedata")
def _(work: Work) -> None:
    from imagedata import Series

    with work.timed("open"):
        image = Series(str(work.series), work.order)
    with work.timed("write"):
        image.write(str(work.out), formats=["dicom"])
    _check_written(work)


@case("write: the bytes")
def _(work: Work) -> None:
    work.out.mkdir()
    with work.timed("open"):
        contents = [Path(file).read_bytes() for file in work.files()]
    with work.timed("write"):
        for number, content in enumerate(contents):
            (work.out / f"{number:05d}.dcm").write_bytes(content)
    _check_written(work)


def _check_written(work: Work) -> None:
    count = sum(len(names) for _, _, names in os.walk(work.out))
    if count != work.shape[0] * work.shape[1]:
        msg = f"{count} files were written"
        raise AssertionError(msg)


def main() -> None:
    """Do the case that the command line names, and print what was measured."""
    name, series, out = sys.argv[1:]
    work = Work(Path(series), Path(out))
    chosen = CASES[name]
    for module in chosen.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as err:
            if err.name != module:
                raise
            print(json.dumps({"absent": module}))
            return
    with contextlib.redirect_stdout(sys.stderr):
        chosen.do(work)
    result: dict[str, Any] = {"seconds": work.seconds, "cpu": work.cpu, "base": work.base, "peak": work.peak}
    print(json.dumps({**result, "opened": work.opened, "bytes": work.bytes, "aside": work.aside}))


if __name__ == "__main__":
    main()
