"""``image_data [convert] OUT IN...``."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from image_data.parsers import parser_of
from imagedata_xr.api import write
from imagedata_xr.commands.opening import open_several, options_of, safe_names
from imagedata_xr.commands.report import (
    ALL_DONE,
    PARTLY,
    UNWRITABLE,
    NoneDoneError,
    UsageError,
    print_json,
    progress_bar,
    say,
    status_named,
    status_of,
    tell,
    tell_damaged,
    told_damaged,
)
from imagedata_xr.dicom.basis import check_settings
from imagedata_xr.errors import BatchError, NetworkError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.formats.registry import format_names, format_of, get_format, suffix_of
from imagedata_xr.pacs.peer import is_pacs
from imagedata_xr.pacs.web import is_web
from imagedata_xr.streams import is_archive, is_elsewhere

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import xarray as xr

__all__ = ["check_given", "place_of", "run", "window_of", "with_settings", "write_image"]

_OF_BATCHES: Final = (
    *("out", "sources", "order", "input_options", "of", "jobs", "resume", "scheduler", "json", "quiet", "verbose"),
)
"""Arguments that a conversion in a batch goes by."""
_OPENING_OF_BATCHES: Final = ("missing", "duplicates")
"""Names of --input_options that it goes by."""


def run(arguments: argparse.Namespace) -> int:
    """Convert, and return the exit status."""
    check_given(arguments)
    if arguments.resume or arguments.scheduler:
        return _in_batch(arguments)
    errors: list[Exception] = []
    try:
        found, failures, damaged, first = open_several(arguments, arguments.sources)
    except FileNotFoundError as err:
        if len(arguments.sources) == 1 and not Path(arguments.sources[0]).exists() and Path(arguments.out).exists():
            msg = f"{err}. The output is named first: image_data OUT IN"
            raise FileNotFoundError(msg) from None
        raise
    if failures and (arguments.on_error == "raise" or not found):
        name, reason = failures[0]
        msg = f"{name}: {reason}"
        raise NoneDoneError(msg) from first
    if damaged and arguments.on_error == "raise":
        path, reason = damaged[0]
        msg = f"{path}: {reason}"
        raise UnreadableFileError(msg)
    several = any(name for name, _ in found)
    jobs = _jobs(arguments, found, several=several)
    done: list[dict[str, Any]] = []

    def convert(job: tuple[str, xr.DataArray, Path | str, str]) -> dict[str, Any] | Exception:
        name, image, target, format = job
        try:
            image = with_settings(image, arguments)
            files = None
            if not arguments.dry_run:
                files = write_image(image, target, format, arguments, show=arguments.jobs == 1)
        except UsageError:
            raise  # of all series alike
        except (OSError, ValueError, TypeError) as err:
            return err
        return _told(image, target, name, format, files)

    for job, result in zip(jobs, _each(convert, jobs, arguments.jobs), strict=True):
        if not isinstance(result, Exception):
            done.append(result)
            continue
        if arguments.on_error == "raise" or len(jobs) == 1:
            raise result
        errors.append(result)
        failures.append((job[0] or str(job[2]), str(result)))
    _report(arguments, done, failures, damaged)
    if not failures and not damaged:
        return ALL_DONE
    return PARTLY if done or not errors else status_of(errors[0])


def _in_batch(arguments: argparse.Namespace) -> int:
    """Convert all series of the sources but those that an earlier run has converted, and return the exit status."""
    from imagedata_xr.batch import convert

    if is_pacs(arguments.out) or is_web(arguments.out):
        msg = f"--resume and --scheduler write to a folder; {arguments.out} is a PACS"
        raise UsageError(msg)
    given = _not_of_batches(arguments)
    if given or len(arguments.of or ()) > 1 or "%p" in arguments.out:
        msg = f"--resume and --scheduler convert all series alike: not with {given[0] if given else '--of twice or %p'}"
        raise UsageError(msg)
    if arguments.scheduler and arguments.jobs > 1:
        msg = "--jobs goes with --resume; with --scheduler the cluster says how many series are done at a time"
        raise UsageError(msg)
    format = arguments.of[0] if arguments.of else "dicom"
    how: dict[str, Any] = {"format": format, "order": arguments.order, "jobs": arguments.jobs}
    how["progress"] = False if arguments.quiet else None
    how |= {name: value for name, value in options_of(arguments).items() if name in _OPENING_OF_BATCHES}
    try:
        if arguments.scheduler:
            from distributed import Client

            make_client: Any = Client  # without types
            try:
                connected = make_client(arguments.scheduler)
            except OSError as err:
                msg = f"no scheduler answers at {arguments.scheduler}: {err}"
                raise NetworkError(msg) from err
            with connected as client:
                done = convert(arguments.sources, arguments.out, client=client, **how)
        else:
            done = convert(arguments.sources, arguments.out, **how)
    except BatchError as err:
        tell(f"image_data: error: {err}")
        return UNWRITABLE
    except OrderError:
        raise  # as a plain conversion does
    except ValueError as err:
        raise UsageError(str(err)) from err
    if arguments.json:
        print_json("convert", results=[result._asdict() for result in done.results])
    elif not arguments.quiet:
        for result in done.results:
            if result.status != "failed":
                say(f"{result.output}: {format}, {result.status}")
    for result in done.failed:
        # What names the output itself does not need it twice.
        named = "" if result.reason.startswith(result.output) else f"{result.output}: "
        tell(f"image_data: {'not converted' if result.output else 'not read'}: {named}{result.reason}")
    if not done.failed:
        return ALL_DONE
    return PARTLY if len(done.failed) < len(done.results) else status_named(done.failed[0].error)


def _not_of_batches(arguments: argparse.Namespace) -> list[str]:
    """Return the options that were given and that `_in_batch` does not hand on."""
    # Whatever the parser has, so that none is passed over in silence that it gets later.
    defaults = vars(parser_of("convert").parse_args(["OUT", "IN"]))
    given = (name for name, default in defaults.items() if getattr(arguments, name) != default)
    options = (text.partition("=")[0] for text in arguments.input_options)
    return [
        *(f"--{name.replace('_', '-')}" for name in given if name not in _OF_BATCHES),
        *(f"--input_options {name}" for name in options if name not in _OPENING_OF_BATCHES),
    ]


def _each(do: Callable[[Any], Any], jobs: list[Any], at_a_time: int) -> Iterator[Any]:
    """Yield the result of each job, in their order; when it ends early, jobs not begun yet are not begun."""
    if at_a_time <= 1:
        # In the main thread, where an interrupt stops the one that is under way.
        yield from map(do, jobs)
        return
    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            yield from pool.map(do, jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _jobs(
    arguments: argparse.Namespace, found: list[tuple[str, xr.DataArray]], *, several: bool
) -> list[tuple[str, xr.DataArray, Path | str, str]]:
    """Return name, image, target and format of each piece of work."""
    formats = arguments.of or [format_of(arguments.out) or "dicom"]
    for format in formats:
        if format not in ("dicom", *format_names()):
            msg = f"--of {format}: there are dicom, {', '.join(format_names())}"
            raise UsageError(msg)
    if len(set(formats)) < len(formats):
        msg = f"--of names a format twice: {' '.join(formats)}"
        raise UsageError(msg)
    if is_pacs(arguments.out) or is_web(arguments.out):
        if formats != ["dicom"]:
            msg = f"--of {' '.join(formats)}: a PACS takes DICOM only"
            raise UsageError(msg)
        return [(name, image, arguments.out, "dicom") for name, image in found]
    jobs: list[tuple[str, xr.DataArray, Path | str, str]] = []
    folders = safe_names([name or "series" for name, _ in found])
    if is_archive(arguments.out) and (several or ("%p" not in arguments.out and len(formats) > 1)):
        what = "several series are there" if several else "--of is given several times"
        msg = f"{arguments.out} is one archive, and {what}: give a folder{', or choose with --series' * several}"
        raise UsageError(msg)
    for (name, image), folder in zip(found, folders, strict=True):
        for format in formats:
            out = arguments.out
            if "%p" in out:
                place = place_of(out.replace("%p", format))
            else:
                place = _in(place_of(out), format) if len(formats) > 1 else place_of(out)
            if several:
                suffix = "" if format == "dicom" else suffix_of(place, get_format(format).suffixes)
                if suffix:
                    msg = f"{place} is one file, and several series are there; give a folder, or choose with --series"
                    raise UsageError(msg)
                place = _in(place, folder)
            jobs.append((name, image, place, format))
    return jobs


def place_of(out: str) -> Path | str:
    """Return where an image goes: a path of this machine, or as text a PACS or another URL.

    Raises
    ------
    UsageError
        If it is the URL of a file of this machine or of a web server, or "".
    """
    if out.startswith("file://"):
        msg = f"{out}: give the path itself"
        raise UsageError(msg)
    if out.startswith(("http://", "https://")):
        msg = f"{out}: nothing is written to a web server; DICOMweb is dicomweb+https://server/path"
        raise UsageError(msg)
    if not out:
        msg = "OUT is '', no path; '.' is the current folder"
        raise UsageError(msg)
    return out if is_elsewhere(out) else Path(out)


def _in(place: Path | str, name: str) -> Path | str:
    return f"{place.rstrip('/')}/{Path(name).as_posix()}" if isinstance(place, str) else place / name


def check_given(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a writing option whose value is none, before anything is read."""
    for name in ("imagetype", "frame", "dtype", "window"):
        if getattr(arguments, name) == "":
            msg = f"--{name} is '': give a value, or leave the option out"
            raise UsageError(msg)
    if arguments.imagetype and not arguments.imagetype.split(",")[0]:
        msg = f"--imagetype {arguments.imagetype}: its first value is '', and DERIVED or ORIGINAL is wanted"
        raise UsageError(msg)
    elements = {**_elements_of(arguments), "FrameOfReferenceUID": arguments.frame}
    for option, name in _OPTIONS.items():
        if elements.get(name) is not None:
            try:
                check_settings(elements, [name])
            except ValueError as err:
                msg = f"{option}: {err}"
                raise UsageError(msg) from err


_OPTIONS: Final = {
    "--sernum": "SeriesNumber",
    "--serdes": "SeriesDescription",
    "--imagetype": "ImageType",
    "--frame": "FrameOfReferenceUID",
}
"""Elements that options set."""


def _elements_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the elements of a series that the writing options name."""
    wanted = {
        "SeriesNumber": arguments.sernum,
        "SeriesDescription": arguments.serdes,
        "ImageType": arguments.imagetype.split(",") if arguments.imagetype else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def with_settings(image: xr.DataArray, arguments: argparse.Namespace) -> xr.DataArray:
    """Return an image with the elements and the type of values that the writing options name."""
    changed = _elements_of(arguments)
    # A coordinate of the name, as of series that were merged, would win.
    image = image.drop_vars([name for name in changed if name in image.coords])
    image = image.assign_attrs(changed)
    if arguments.frame:
        from imagedata_xr.origins import assign_origins, origins

        known = {origin._replace(FrameOfReferenceUID=arguments.frame) for origin in origins(image)}
        image = assign_origins(image.assign_attrs(FrameOfReferenceUID=arguments.frame), known)
    return _of_type(image, arguments.dtype) if arguments.dtype else image


def _of_type(image: xr.DataArray, text: str) -> xr.DataArray:
    """Return an image with values of another type, rounded for whole numbers; NumPy would wrap what it cannot hold."""
    import numpy as np

    try:
        dtype = np.dtype(text)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufc":
        msg = f"--dtype {text!r} is no type of numbers; float32, int16 or uint8 are"
        raise UsageError(msg)
    if image.dtype.kind == "c" and dtype.kind != "c":
        msg = f"--dtype {text}: values are complex; compute what is wanted of them, image_data calc OUT 'abs(a)' IN"
        raise ValuesNotStorableError(msg)
    if dtype.kind in "iuf" and image.dtype.kind in "iuf" and image.size:
        if dtype.kind in "iu" and image.dtype.kind == "f":
            image = image.round()
        low, high = image.min(skipna=False).item(), image.max(skipna=False).item()
        held = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        # NaN and infinities are values of floats only.
        is_held = held.min <= low and high <= held.max
        if not (is_held or (dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)))):
            msg = (
                f"--dtype {text}: values are {low:g} to {high:g}, and {dtype} holds {held.min:g} to {held.max:g}: "
                "compute others first, as in image_data calc OUT 'clip(a, 0, 255)' IN"
            )
            raise ValuesNotStorableError(msg)
    return image.astype(dtype)


def write_image(
    image: xr.DataArray, target: Path | str, format: str, arguments: argparse.Namespace, *, show: bool = False
) -> list[Any]:
    """Return the files written, or the instances sent, with a bar on a terminal."""
    options: dict[str, Any] = {} if (is_pacs(target) or is_web(target)) else {"overwrite": arguments.force}
    if arguments.resample and format in ("nifti", "itk"):
        options["resample"] = True
    if arguments.window and format == "raster":
        options["window"] = window_of(arguments.window)
    if format != "dicom" or not show:
        if arguments.keep_uid and format == "dicom":
            options["keep_uid"] = True
        return write(image, target, format=format, **options)
    with progress_bar(str(target), "frame", quiet=arguments.quiet) as progress:
        return write(image, target, format=format, keep_uid=arguments.keep_uid, progress=progress, **options)


def window_of(text: str) -> tuple[float, float] | str | None:
    """Return the window that an argument names.

    Raises
    ------
    UsageError
        If it is no window.
    """
    if text in ("auto", "none"):
        return None if text == "none" else "auto"
    try:
        centre, width = map(float, text.split(","))
    except ValueError as err:
        msg = f"--window {text!r}: centre,width is wanted, such as 40,400; or auto, or none"
        raise UsageError(msg) from err
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        msg = f"--window {text}: the width has to be more than 0, and both are numbers"
        raise UsageError(msg)
    return centre, width


def _told(image: xr.DataArray, target: Path | str, name: str, format: str, files: list[Any] | None) -> dict[str, Any]:
    return {
        "series": name,
        "output": str(target),
        "format": format,
        "dims": {str(dim): size for dim, size in image.sizes.items()},
        "files": None if files is None else len(files),
    }


def _report(
    arguments: argparse.Namespace,
    done: list[dict[str, Any]],
    failures: list[tuple[str, str]],
    damaged: list[tuple[str, str]],
) -> None:
    """Tell what was done, and what was not."""
    if arguments.json:
        failed = [{"series": name, "reason": reason} for name, reason in failures]
        print_json("convert", dry_run=arguments.dry_run, written=done, failed=failed, damaged=told_damaged(damaged))
    elif not arguments.quiet:
        for entry in done:
            dims = ", ".join(f"{name}: {size}" for name, size in entry["dims"].items())
            pacs = is_pacs(entry["output"]) or is_web(entry["output"])
            how = f"{entry['files']} {'instances stored' if pacs else 'files'}"
            if entry["files"] is None:
                how = "would be sent" if pacs else "would be written"
            say(f"{entry['output']}: {entry['format']}, {how}, {dims}")
    tell_damaged(damaged, others=bool(done))
    for name, reason in failures:
        tell(f"image_data: not converted: {name}: {reason}")
