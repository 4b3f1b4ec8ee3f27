"""Packages that come with an extra of this one, and so are not everywhere."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["needed"]


def needed(module: str, what: str, extra: str) -> Any:
    """Return a module that may not be installed.

    Parameters
    ----------
    module : str
        Its name.
    what : str
        What needs it.
    extra : str
        The extra of this package that brings it.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; says how to get it.

    Examples
    --------
    >>> needed("json", "everybody", "none").loads("1")
    1
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as err:
        package = module.partition(".")[0]
        if err.name and err.name.partition(".")[0] != package:
            raise  # it is there; what it needs itself is not
        msg = f'{what} needs {package}: pip install "imagedata_xr[{extra}]"'
        raise ModuleNotFoundError(msg, name=package) from err
