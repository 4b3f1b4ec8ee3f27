"""What became of each instance that was sent."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, NamedTuple

__all__ = ["Instance", "Report", "Status", "meaning"]

Status = Literal["stored", "warning", "refused", "unknown"]

_REASONS: Final = (
    (0xA700, 0xFF00, "out of resources"),
    (0xA900, 0xFF00, "the data set does not match its SOP class"),
    (0xC122, 0xFFFF, "transfer syntax not supported"),
    (0xC000, 0xF000, "cannot understand it"),
    (0x0110, 0xFFFF, "processing failure"),
    (0x0111, 0xFFFF, "duplicate SOP instance"),
    (0x0117, 0xFFFF, "invalid SOP instance"),
    (0x0122, 0xFFFF, "SOP class not supported"),
    (0x0124, 0xFFFF, "not authorised"),
    (0xB000, 0xFFFF, "elements were changed"),
    (0xB006, 0xFFFF, "elements were discarded"),
    (0xB007, 0xFFFF, "the data set does not match its SOP class"),
)
_WARNINGS: Final = (0x0001, 0x0107, 0x0116)


def meaning(code: int) -> tuple[Status, str]:
    """Return what a status of C-STORE or STOW-RS means, and why (PS3.4 B.2.3, PS3.18 I.2.2).

    Not the comment that may come with it, which may be about a patient.

    Examples
    --------
    >>> meaning(0xA700), meaning(0)
    (('refused', 'out of resources (0xA700)'), ('stored', ''))
    """
    if code == 0:
        return "stored", ""
    told = next((text for base, mask, text in _REASONS if code & mask == base), "status")
    is_warning = code & 0xF000 == 0xB000 or code in _WARNINGS
    return "warning" if is_warning else "refused", f"{told} (0x{code:04X})"


class Instance(NamedTuple):
    """What became of one instance."""

    uid: str
    """SOPInstanceUID."""
    path: str
    """The file that it was sent from."""
    status: Status
    """``stored``; ``warning``: stored, but not as it is; ``refused``: by the PACS; or by us, without a code, a file
    that cannot be sent; ``unknown``: not answered, or not sent."""
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
