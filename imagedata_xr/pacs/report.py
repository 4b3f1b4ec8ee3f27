"""What became of each instance that was sent."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

__all__ = ["Instance", "Report", "Status"]

Status = Literal["stored", "warning", "refused", "unknown"]


class Instance(NamedTuple):
    """What became of one instance."""

    uid: str
    """SOPInstanceUID."""
    path: str
    """The file that it was sent from."""
    status: Status
    """``stored``; ``warning``: stored, but not as it is; ``refused``; ``unknown``: not answered, or not sent."""
    code: int | None = None
    """Status that the PACS gave (PS3.4 B.2.3), None where it gave none."""
    reason: str = ""


class Report(list[Instance]):
    """What became of each instance, in the order in which they were given.

    Examples
    --------
    >>> report = Report([Instance("1.2.3", "a.dcm", "stored", 0), Instance("1.2.4", "b.dcm", "refused", 0xA700)])
    >>> report.summary
    '1 stored, 1 refused (0xA700)'
    >>> [instance.path for instance in report.failed]
    ['b.dcm']
    """

    @property
    def failed(self) -> list[Instance]:
        """Those that are not known to be stored."""
        return [instance for instance in self if instance.status not in ("stored", "warning")]

    @property
    def summary(self) -> str:
        """How many there are of each status, and of each code."""
        counts = Counter((i.status, "" if i.code in (None, 0) else f" (0x{i.code:04X})") for i in self)
        order = ("stored", "warning", "refused", "unknown")
        found = sorted(counts.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return ", ".join(f"{count} {status}{code}" for (status, code), count in found)
