"""The command line of imagedata_xr: arguments only, so that help and completion need nothing but argparse.

What a command does is in `imagedata_xr.commands`, imported when it runs. This module itself imports next to nothing: an
interrupt that comes before `main` runs would be shown with a traceback.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPT = 2
"""Number of the signal that Ctrl-C sends."""


def main(argv: Sequence[str] | None = None, *, program: str = "image_data") -> int:
    """Return the exit status of ``image_data``, or of one of its aliases, with these arguments.

    Without arguments those of the process are taken, which then is ours: signals that ask it to end do so as Ctrl-C
    does, with the exit status 128 and their number. A program that gives arguments keeps its handlers of signals.
    """
    try:
        from image_data.dispatch import escape_unwritable, open_closed, run
        from image_data.endings import heed

        if argv is None:
            heed()
            open_closed()
            escape_unwritable()
        return run(list(sys.argv[1:] if argv is None else argv), program)
    except KeyboardInterrupt as err:
        print(f"{program}: {str(err) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(err, "number", INTERRUPT)


def alias() -> int:
    """Return the exit status of the alias by whose name this was started."""
    return main(program=os.path.splitext(os.path.basename(sys.argv[0]))[0])  # noqa: PTH119, PTH122 - no pathlib yet
