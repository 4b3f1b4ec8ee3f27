"""Whether what is about to leave says whose it is, and does not pass for something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagedata_xr.pacs.instances import FileInstance

__all__ = ["UID", "check_identity"]

UID: Final = re.compile(r"(?=.{1,64}\Z)[0-2](\.(0|[1-9]\d*))+")
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
