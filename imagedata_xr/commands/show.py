"""``image_data show IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagedata_xr.commands.report import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Raise: there is no viewer."""
    msg = f"there is no viewer; image_data montage OUT.png {arguments.sources[0]} draws all slices of a volume"
    raise UsageError(msg)
