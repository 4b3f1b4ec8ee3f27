"""Names that are no DICOM keywords, but nearly: what was probably meant."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pydicom.datadict import keyword_dict

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["is_keyword", "keyword_meant"]

_LIKENESS: Final = 0.85
"""Part of the letters that two names share, from which on the one is a slip of the other: PatientsName has 0.96."""

_OF_OTHERS: Final = ("units",)
"""Attributes of xarray and of the CF conventions that are a keyword but for the case."""


def is_keyword(name: Hashable) -> bool:
    """Return whether a name is the keyword of a DICOM element.

    Examples
    --------
    >>> is_keyword("EchoTime"), is_keyword("dBdt"), is_keyword("echo_time"), is_keyword("0018,0081"), is_keyword("")
    (True, True, False, False, False)
    """
    return name != "" and name in keyword_dict  # it has "" for tags without a keyword


@lru_cache(maxsize=4096)
def keyword_meant(name: str) -> str:
    """Return the keyword that a name probably stands for; "" where it is one itself, or is like none.

    Names without a capital, such as ``long_name``, are those of others, unless case and underscores alone tell them
    from a keyword.

    Examples
    --------
    >>> keyword_meant("PatientsName"), keyword_meant("series_description"), keyword_meant("PatientId")
    ('PatientName', 'SeriesDescription', 'PatientID')
    >>> keyword_meant("PatientName"), keyword_meant("long_name"), keyword_meant("units"), keyword_meant("T2Star")
    ('', '', '', '')
    """
    if name in _OF_OTHERS or name in keyword_dict:  # one of these begins with a small letter, dBdt
        return ""
    plain = _plain(name)
    if plain in _plain_keywords():
        return _plain_keywords()[plain]
    if not name.isalnum() or name.islower():
        return ""
    found = get_close_matches(name, keyword_dict, n=1, cutoff=_LIKENESS)
    return found[0] if found else ""


def _plain(name: str) -> str:
    return name.replace("_", "").replace(" ", "").lower()


@lru_cache(maxsize=1)
def _plain_keywords() -> dict[str, str]:
    return {_plain(known): known for known in keyword_dict if known}
