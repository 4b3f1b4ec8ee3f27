"""Whether what is about to leave says whose it is, and whether what comes is what was asked for."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from imagedata_xr.pacs.instances import FileInstance

__all__ = ["IDENTIFIERS", "UID", "answers", "check_identity", "differing", "exact", "matches"]

IDENTIFIERS: Final = (
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "SeriesNumber"),
)
"""Elements that say which patient, study, series or instance something is."""

UID: Final = re.compile(r"(?=.{1,64}\Z)[0-2](\.(0|[1-9]\d*))+", re.ASCII)
"""A UID (PS3.5 9.1)."""
_COUNTING: Final = re.compile(r"[0-2](\.\d){0,8}")
_NOBODY: Final = re.compile(
    r"0*|x+|\?+|-+|n/?a|none|null|nil|unknown|unnamed|anon(ymous|ymized|ymised)?|no ?name|no ?id|patient( ?id)?|test|"
    r"dummy|default|temp|tbd|phantom|1234?5?6?7?8?9?0?",
    re.IGNORECASE,
)


def check_identity(instances: Sequence[FileInstance], *, others: Iterable[str] = ()) -> None:
    """Raise unless each series says whose it is and has UIDs of its own.

    Derived series are looked at closely, since a mistake in one puts a picture into the wrong record, or replaces an
    image that was measured. Originals are sent as the scanner made them, if they are told apart.

    Parameters
    ----------
    instances : sequence of FileInstance
        All that is to be sent.
    others : iterable of str
        SOPInstanceUIDs and SeriesInstanceUIDs that derived instances must not have: those that they were made from.

    Raises
    ------
    MissingHeaderError
        If PatientID, StudyInstanceUID or another UID of a derived series is absent, a placeholder or no UID.
    ConflictingOriginError
        If two instances have one SOPInstanceUID, a derived one has that of its source, or a derived series is of two
        patients or studies.
    """
    if len({instance.uid for instance in instances}) < len(instances):
        seen: set[str] = set()
        twice = next(i for i in instances if i.uid in seen or seen.add(i.uid))  # type: ignore[func-returns-value]
        msg = (
            f"{twice.path} has the SOPInstanceUID of another file that is to be sent, and would replace it: "
            "send one of them, or write the image as a new series"
        )
        raise ConflictingOriginError(msg)
    forbidden = set(others)
    by_series: dict[str, set[tuple[str, str]]] = {}
    for instance in instances:
        if not instance.derived:
            continue
        _check_derived(instance)
        if instance.uid in instance.sources | forbidden or instance.series in forbidden:
            msg = (
                f"{instance.path} is a derived image with a UID of the image that it was made from, and would pass for "
                "it: write it as a new series, without keep_uid=True"
            )
            raise ConflictingOriginError(msg)
        by_series.setdefault(instance.series, set()).add((instance.patient, instance.study))
    if several := next((series for series, whose in by_series.items() if len(whose) > 1), None):
        msg = (
            f"the derived series {several} is of {len(by_series[several])} patients or studies: send one series of each"
        )
        raise ConflictingOriginError(msg)


def _check_derived(instance: FileInstance) -> None:
    """Raise MissingHeaderError unless a derived instance says whose it is."""
    advice = "give template=, an image of the patient and study, when it is written"
    # The value is not told: it may be a patient's.
    if _NOBODY.fullmatch(instance.patient.strip()):
        found = "a placeholder" if instance.patient.strip() else "absent or empty"
        msg = f"PatientID is {found} in {instance.path}, so nothing says whose image it is: {advice}"
        raise MissingHeaderError(msg)
    uids = {"StudyInstanceUID": instance.study, "SeriesInstanceUID": instance.series, "SOPInstanceUID": instance.uid}
    for name, uid in uids.items():
        if not UID.fullmatch(uid) or _COUNTING.fullmatch(uid):
            found = "absent" if not uid else "a placeholder" if _COUNTING.fullmatch(uid) else "no valid UID"
            msg = f"{name} is {found} in {instance.path}: {advice}"
            raise MissingHeaderError(msg)


def exact(name: str, text: str) -> str:
    """Return the value of an identifier that names one thing.

    Parameters
    ----------
    name : str
        Keyword of the element.
    text : str
        What the user gave.

    Raises
    ------
    ValueError
        If it is empty, or has letters that a PACS takes for others: ``*``, ``?``, a backslash, control characters.

    Examples
    --------
    >>> exact("PatientID", "P1")
    'P1'
    """
    if not text.strip():
        msg = f"{name} is {text!r}, which a PACS takes for any: give the value of one, or look for it with query"
        raise ValueError(msg)
    if any(letter in "*?\\" or not letter.isprintable() for letter in text):
        msg = (
            f"{name} is {text!r}, which may stand for several: give the value of one, without *, ? and backslash; "
            "query (image_data query -k) looks for patterns, and what is found is named by its UIDs"
        )
        raise ValueError(msg)
    return text


def matches(name: str, wanted: Any, found: Any) -> bool:
    """Return whether the value of an element is one that a query asks for (PS3.4 C.2.2.2).

    Letter by letter, and case matters but in names of persons; padding does not, nor how a letter is composed, nor
    leading zeros of a number.

    Parameters
    ----------
    name : str
        Keyword of the element.
    wanted : str, number, or list of str
        ``*`` and ``?`` stand for any letters; one of several, in a list or between backslashes, of UIDs also commas.
    found : str, number or list
        The value.

    Examples
    --------
    >>> matches("PatientID", "P1", "P1 "), matches("PatientID", "P1", "p1"), matches("PatientID", "P?", "P1")
    (True, False, True)
    >>> matches("SeriesNumber", "04", 4), matches("PatientName", "doe*", "Doe^J"), matches("PatientID", ["A", "B"], "B")
    (True, True, True)
    """
    value = _text(found)
    patterns = (
        list(wanted)
        if isinstance(wanted, list | tuple)
        else re.split(r"[\\,]" if name.endswith("UID") else r"\\", str(wanted))
    )
    if name == "SeriesNumber":
        return any(_number(pattern) == _number(value) for pattern in patterns)
    is_name = name.endswith("Name")
    # The forms of a name are told apart by "=": any of them may be meant.
    values = [value, *value.split("=")] if is_name else [value]
    flags = re.DOTALL | (re.IGNORECASE if is_name else 0)
    return any(re.fullmatch(_expression(pattern), one, flags) for pattern in patterns for one in values)


def _text(value: Any) -> str:
    text = "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return unicodedata.normalize("NFC", text).strip(" \0")


def _number(value: Any) -> int | str:
    text = _text(value)
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else text


def _expression(pattern: Any) -> str:
    # Of a run of asterisks one says the same, in less time.
    letters = re.sub(r"\*+", "*", _text(pattern))
    return "".join({"*": ".*?", "?": "."}.get(letter, re.escape(letter)) for letter in letters)


def answers(keys: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Return whether an answer to a query has the identifiers that were asked for, as far as it tells them.

    Parameters
    ----------
    keys : mapping
        Keyword to what is looked for; see `matches`. Empty values ask for the element alone.
    row : mapping
        Keyword to value. What is absent or empty says nothing: some PACS leave out what they were asked by.
    """
    return all(
        matches(name, keys[name], row[name])
        for name in IDENTIFIERS
        if keys.get(name) not in (None, "", []) and row.get(name) not in (None, "", [])
    )


def differing(wanted: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """Return the keyword of the first identifier that is absent, or another than was asked for; "" if none is.

    Examples
    --------
    >>> wanted = {"PatientID": "P1", "SeriesNumber": "4"}
    >>> differing(wanted, {"PatientID": "P1", "SeriesNumber": "4 "}), differing(wanted, {"SeriesNumber": 4})
    ('', 'PatientID')
    """
    for name in IDENTIFIERS:
        if name in wanted:
            form = _number if name == "SeriesNumber" else _text
            if form(wanted[name]) != form(found.get(name, "")):
                return name
    return ""
