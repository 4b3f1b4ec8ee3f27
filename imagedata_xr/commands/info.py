"""``image_data info IN...`` and ``image_data list IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagedata_xr.commands.opening import at_hand, images_of
from imagedata_xr.commands.report import (
    ALL_DONE,
    UNSORTABLE,
    print_json,
    print_table,
    say,
    tell_damaged,
    told_damaged,
)
from imagedata_xr.dicom.doubt import noting_left_out
from imagedata_xr.errors import NoDicomError

if TYPE_CHECKING:
    import argparse

__all__ = ["run", "series_of"]

_SHOWN = (
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "frames",
    "order",
    "shape",
    "spacing",
    "orientation",
    "problem",
)


def series_of(sources: list[str]) -> list[dict[str, Any]]:
    """Return what is known of each series of DICOM, without who it is of; of other formats what one image tells.

    Damaged files are left out with a warning.
    """
    from imagedata_xr.api import open_series, scan
    from imagedata_xr.formats.recognise import recognised

    source: Any = sources[0] if len(sources) == 1 else sources
    found, _ = recognised(source, None, "warn")
    if found != "dicom":
        image = open_series(source)
        letters = "".join(image.dicom.patient_orientation) if "ImageOrientationPatient" in image.attrs else ""
        return [
            {
                "SeriesNumber": image.attrs.get("SeriesNumber"),
                "SeriesDescription": image.attrs.get("SeriesDescription", ""),
                "Modality": image.attrs.get("Modality", ""),
                "format": found,
                "frames": image.size // (image.sizes["row"] * image.sizes["col"]),
                "order": ",".join(str(d) for d in image.dims if d not in ("slice", "row", "col", "rgb")) or "none",
                "shape": list(image.shape),
                "spacing": image.dicom.spacing.round(4).tolist() if letters and image.dicom.is_evenly_spaced else None,
                "orientation": letters,
                "problem": "" if letters else "no place in the patient",
            }
        ]
    rows: list[dict[str, Any]] = []
    for row in scan(source, errors="warn").to_dict("records"):
        entry = {str(name): value for name, value in row.items() if name != "PatientID"}
        shape = entry["shape"] if isinstance(entry["shape"], list | tuple) else ()
        entry["shape"] = [*shape, entry.pop("rows"), entry.pop("columns")]
        spacing = entry["spacing"]
        if isinstance(spacing, list | tuple):
            entry["spacing"] = [None if v is None or v != v else round(float(v), 4) for v in spacing]
        rows.append({"format": "dicom", **entry})
    return rows


def run(arguments: argparse.Namespace) -> int:
    """Tell of the series, and return the exit status."""
    arguments.sources = at_hand(arguments.sources)
    if getattr(arguments, "recursive", False):
        return _files(arguments)
    rows: list[dict[str, Any]] = []
    nothing: NoDicomError | None = None
    with noting_left_out() as damaged:
        try:
            rows = series_of(arguments.sources)
        except NoDicomError as err:
            nothing = err
    if nothing is not None and not damaged:
        raise nothing
    if arguments.json:
        print_json("info", series=rows, damaged=told_damaged(damaged))
    else:
        print_table(_SHOWN, [[_text(row.get(name)) for name in _SHOWN] for row in rows])
    status = tell_damaged(damaged, others=bool(rows))
    if status != ALL_DONE or not rows:
        return status
    return UNSORTABLE if all(row["problem"] and row["order"] in ("", None) for row in rows) else ALL_DONE


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " x ".join("?" if v is None else f"{v:g}" for v in value)
    return "" if value is None or value != value else str(value)


def _files(arguments: argparse.Namespace) -> int:
    """Tell the files of each series."""
    tables, damaged = images_of(arguments.sources)
    found = {uid: list(dict.fromkeys(table.paths)) for uid, table in tables.items()}
    if arguments.json:
        series = [{"SeriesInstanceUID": uid, "files": files} for uid, files in found.items()]
        print_json("list", series=series, damaged=told_damaged(damaged))
    else:
        for uid, files in found.items():
            say("\n".join([uid, *(f"  {file}" for file in files)]))
    return tell_damaged(damaged, others=bool(found))
