"""How much memory a file may ask for before it is refused, for all of a process or within a ``with`` block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["OPTIONS", "set_options"]

OPTIONS: Final = {"largest_frame": 1 << 29, "largest_header": 1 << 30}
"""Name to value [bytes]; to be read, and changed by `set_options` only."""


class set_options:
    """Set how large the parts of a file may be, now or for a ``with`` block; returns what to enter for the latter.

    A file of a few bytes can claim or become terabytes. What lies plainly in a file is never larger than the file;
    these limits are for the rest. They hold in all threads, as those of `xarray.set_options` do, and where pixels are
    read, which for a lazy image is when they are computed.

    Parameters
    ----------
    largest_frame : int, optional
        Frames that need to be decoded are refused if they would take more memory [bytes]; 512 MiB unless set.
    largest_header : int, optional
        Files are refused if their header, or all of them when inflated, is larger [bytes]; 1 GiB unless set.

    Raises
    ------
    ValueError
        If a limit is no whole number of at least 1.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> with ixr.set_options(largest_frame=1 << 32):
    ...     pass  # open and compute a whole slide
    """

    def __init__(self, *, largest_frame: int | None = None, largest_header: int | None = None) -> None:
        given: dict[str, Any] = {"largest_frame": largest_frame, "largest_header": largest_header}
        new = {name: value for name, value in given.items() if value is not None}
        for name, value in new.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"{name}={value!r}: a whole number of bytes, at least 1, is wanted"
                raise ValueError(msg)
        self._before = {name: OPTIONS[name] for name in new}
        OPTIONS.update(new)

    def __enter__(self) -> None:
        """Begin a block that ends with the limits of before."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Set the limits of before."""
        OPTIONS.update(self._before)
