"""Which series the values of an image came from: evidence that no operation loses.

Attributes that conflict are dropped by xarray, and a third operand brings them back: ``(a + b) + c`` has the
PatientID of c. So each series that goes into an array is named by a scalar coordinate of its own,
``origin_<digest>``. Coordinates that only one operand has are kept by every operation that combines arrays
(arithmetic, in-place too, ufuncs, where, apply_ufunc, fillna, dot, concat), and by all that change one
(interp, coarsen, reductions, netCDF, Zarr, pickle). An index cannot do that: where indexes are equal, xarray
takes the first operand's and asks no more, and unequal ones it refuses in `where`, `clip`, `apply_ufunc` and
``+=``. Origins are lost only with `drop_vars`, `reset_coords(drop=True)`, a function that returns a Dataset
of another kind (`polyfit`), or a new DataArray made from bare values.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import xarray as xr

from imagedata_xr.names import ORIGIN_KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "OF_PIXELS",
    "OF_UNITS",
    "ORIGIN_PREFIX",
    "Origin",
    "assign_origins",
    "name_key",
    "names_apart",
    "origin_coordinates",
    "origins",
    "pixel_distance",
    "told_values",
    "unit_told",
]

ORIGIN_PREFIX: Final = "origin_"
"""How the names of the scalar coordinates begin that tell where values came from."""


OF_PIXELS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""Elements that tell how far pixels are from each other."""


OF_UNITS: Final = ("Units", "RescaleType", "DoseUnits")
"""Elements that tell the unit of values."""
_UNSPECIFIED: Final = "US"
_OF_WHO: Final = frozenset(("PatientID", "PatientName", "PatientBirthDate"))
"""Elements that say who a patient is: messages, which go to logs, do not tell their values."""


class Origin(NamedTuple):
    """A series that values came from; "" for what is not known."""

    PatientID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    FrameOfReferenceUID: str
    PatientName: str = ""
    """As the series spells it, for xarray drops an attribute that two spell differently. Each spelling is an origin."""
    PatientBirthDate: str = ""
    IssuerOfPatientID: str = ""
    """Two hospitals give one PatientID to two patients."""
    PixelSpacing: str = ""
    """Of an image without a place: distance of rows and of columns [mm], for no coordinate tells it."""
    Unit: str = ""
    """Element that tells the unit of values, and the unit: `where` and `fillna` keep the attribute of the first."""


def unit_told(attrs: Mapping[Any, Any]) -> str:
    """Return the first element that tells the unit of values in attributes, and the unit, as "Units BQML"; "" if none.

    Examples
    --------
    >>> unit_told({"Modality": "PT", "Units": "BQML"}), unit_told({"RescaleType": "US"})
    ('Units BQML', '')
    """
    told = ((name, str(attrs.get(name, ""))) for name in OF_UNITS)
    return next((f"{name} {unit}" for name, unit in told if unit not in ("", _UNSPECIFIED)), "")


def pixel_distance(attrs: Mapping[Any, Any]) -> list[Any]:
    """Return the distance of rows and of columns [mm] that attributes tell of an image without a place; [] if none."""
    told = [attrs[name] for name in OF_PIXELS if isinstance(attrs.get(name), list)]
    return list(told[0]) if told else []


def origins(da: xr.DataArray) -> frozenset[Origin]:
    """Return every series that went into an image.

    Parameters
    ----------
    da : xarray.DataArray
        Image.

    Returns
    -------
    frozenset of Origin
        From the coordinates ``origin_...``, which no operation that combines images loses; if there are none,
        the one that attrs tell of, which then is a hint only.

    Examples
    --------
    >>> import xarray as xr
    >>> a = xr.DataArray(1.0, attrs={"PatientID": "p1"})
    >>> origins(a) == {Origin("p1", "", "", "")}
    True
    """
    found = [variable for name, variable in da.coords.variables.items() if str(name).startswith(ORIGIN_PREFIX)]
    if found:
        return frozenset(_origin_in(variable) for variable in found)
    return frozenset([Origin(*(str(da.attrs.get(keyword, "")) for keyword in ORIGIN_KEYWORDS))])


def assign_origins(da: xr.DataArray, new: Iterable[Origin]) -> xr.DataArray:
    """Return the image as made of these series and no others.

    Parameters
    ----------
    da : xarray.DataArray
        Image.
    new : iterable of Origin
        The series; each becomes a scalar coordinate that the image keeps in all further computation.

    Examples
    --------
    >>> import xarray as xr
    >>> a = assign_origins(xr.DataArray(1.0), [Origin("p1", "1.2", "1.2.3", "1.2.4")])
    >>> b = assign_origins(xr.DataArray(2.0), [Origin("p2", "1.3", "1.3.3", "1.3.4")])
    >>> sorted(o.PatientID for o in origins(a * b))
    ['p1', 'p2']
    """
    old = [name for name in da.coords if str(name).startswith(ORIGIN_PREFIX)]
    return da.drop_vars(old).assign_coords(origin_coordinates(new))


def origin_coordinates(new: Iterable[Origin]) -> dict[str, xr.Variable]:
    """Return the coordinates that tell of these series."""
    # What is empty at the end is left out: the name of an origin does not depend on what may be known of others.
    lengths = {origin: next((n for n in (9, 8, 7) if origin[n - 1]), 6 if any(origin[4:]) else 4) for origin in new}
    texts = {origin: "\\".join(origin[:length]) for origin, length in lengths.items()}
    return {
        f"{ORIGIN_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}": xr.Variable((), text, origin._asdict())
        for origin, text in texts.items()
    }


def names_apart(names: Iterable[str]) -> list[str]:
    """Return one PatientName of each person: case, padding and the order of the parts are the scanner's, "" is nobody.

    Family, given and middle name count. Names are of one person if these are the same in one of their representations
    (PS3.5 6.2.1.1), or one lacks some.

    Examples
    --------
    >>> names_apart(["Doe^John", "DOE^JOHN^^", "", "John Doe", "Doe^John^M", "Doe^Jane"])
    ['Doe^John', 'Doe^Jane']
    >>> names_apart(["Yamada^Tarou=山田^太郎", "山田^太郎"])
    ['Yamada^Tarou=山田^太郎']
    """
    persons: dict[str, list[frozenset[str]]] = {}
    for name in names:
        spoken = (_words(part.split("^")[:3]) for part in name.split("="))
        mine = [frozenset(words) for words in spoken if words]
        known = (one for others in persons.values() for one in others)
        if mine and not any(_are_of_one(one, other) for other in known for one in mine):
            persons[name] = mine
    return list(persons)


def told_values(name: str, values: Sequence[str], instead: str = "see image.dicom.origins") -> str:
    """Return how many values of an element there are and which, for messages; of a patient's the latter is left out.

    Parameters
    ----------
    name : str
        The element.
    values : sequence of str
        Its different values.
    instead : str
        What is told of elements that say who the patient is: where their values are seen.

    Examples
    --------
    >>> told_values("StudyInstanceUID", ["1.2", "1.3"]), told_values("PatientName", ["Doe^Jane", "Roe^John"])
    ("2 values of StudyInstanceUID, '1.2', '1.3'", '2 values of PatientName (see image.dicom.origins)')
    """
    which = f" ({instead})" if name in _OF_WHO else f", {', '.join(map(repr, values[:4]))}"
    return f"{len(values)} values of {name}{which}"


def name_key(name: str) -> str:
    """Return a text that all spellings of one PatientName have, for what has to keep persons apart without comparing.

    Unlike in `names_apart` all parts count, and of several representations the first alone.

    Examples
    --------
    >>> name_key("DOE^JOHN^^"), name_key("John, Doe"), name_key("Doe^John^^Dr")
    ('doe john', 'doe john', 'doe dr john')
    """
    return " ".join(sorted(_words(name.partition("=")[0].split("^"))))


def _words(parts: Iterable[str]) -> list[str]:
    """Return the words of a name, without what scanners write in different ways."""
    return " ".join(parts).casefold().replace(",", " ").split()


def _are_of_one(words: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two names can be of one person; a family name alone is that of many."""
    return words == others or (len(words & others) >= 2 and (words <= others or others <= words))


def _origin_in(variable: xr.Variable) -> Origin:
    """Return the origin that a coordinate names: in its attrs, or, where those were dropped, in its value."""
    if all(keyword in variable.attrs for keyword in Origin._fields):
        # map_blocks makes every scalar a task that computes a block of the image; attrs cost nothing
        return Origin(*(variable.attrs[keyword] for keyword in Origin._fields))
    return Origin(*str(variable.values).split("\\"))
