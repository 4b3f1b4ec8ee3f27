"""What became of the series of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from imagedata_xr.errors import BatchError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Batch", "Result"]


class Result(NamedTuple):
    """What became of one series."""

    series: str
    """SeriesInstanceUID."""
    output: str
    """Path of what was written, or would have been."""
    status: Literal["written", "kept", "failed"]
    reason: str
    """Why it failed."""
    files: int
    """How many were written."""
    seconds: float
    error: str = ""
    """Kind of what made it fail, such as ``"OrderError"``: the name of an exception; "" where there was none."""


@dataclass(frozen=True)
class Batch:
    """What became of all series: a result each, and one of each file that was left out."""

    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that were not converted."""
        return tuple(result for result in self.results if result.status == "failed")

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table, one row a series."""
        import pandas as pd

        return pd.DataFrame(self.results, columns=list(Result._fields))

    def raise_for_failed(self) -> None:
        """Raise BatchError if a series was not converted."""
        if self.failed:
            first = self.failed[0]
            # A file that cannot be read may not tell its series.
            what = f"{first.series}: {first.reason}" if first.series else first.reason
            msg = f"{len(self.failed)} of {len(self.results)} series were not converted; {what}"
            raise BatchError(msg)

    def __repr__(self) -> str:
        """Return how many series were written, kept and failed."""
        count = {status: sum(r.status == status for r in self.results) for status in ("written", "kept", "failed")}
        return f"<Batch of {len(self.results)} series: {', '.join(f'{n} {status}' for status, n in count.items())}>"
