"""Arithmetic in text: checked part by part against a list of what is allowed, then computed. Nothing is executed."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.placement import frame_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FUNCTIONS", "evaluate", "names_in"]

_LONGEST: Final = 10_000
_DEEPEST: Final = 50
_LARGEST_POWER: Final = 100


def _power(base: Any, exponent: Any) -> Any:
    """Return a power; of Python's numbers only as a float, since integers grow without end."""
    if not isinstance(base, xr.DataArray) and not isinstance(exponent, xr.DataArray):
        return float(base) ** float(exponent)
    if not isinstance(exponent, xr.DataArray) and abs(exponent) > _LARGEST_POWER:
        msg = f"the exponent {exponent} is larger than {_LARGEST_POWER}"
        raise ValueError(msg)
    return _real(base) ** _real(exponent)  # of whole numbers they would wrap


def _real(value: Any) -> Any:
    return value.astype(float) if isinstance(value, xr.DataArray) and value.dtype.kind in "iub" else value


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes masks for the numbers 0 and 1, of which NumPy would compute other things."""

    def computed(*given: Any) -> Any:
        are_masks = [isinstance(v, xr.DataArray) and v.dtype == bool for v in given]
        if any(isinstance(v, xr.DataArray) and not is_mask for v, is_mask in zip(given, are_masks, strict=True)):
            return function(*given)  # an image keeps its type
        return function(*(v.astype(np.int64) if is_mask else v for v, is_mask in zip(given, are_masks, strict=True)))

    return computed


def _inverted(mask: Any) -> Any:
    """Return the other voxels than those of a mask; of whole numbers the inverse would be -1 - x, true everywhere."""
    if not isinstance(mask, xr.DataArray) or mask.dtype != bool:
        msg = f"~ is of masks such as (a > 0), and this one is of {getattr(mask, 'dtype', mask)}; write a == 0 for ~a"
        raise ValueError(msg)
    return ~mask


def _product(a: Any, b: Any) -> Any:
    """Return a product; as floating point numbers where whole ones would wrap."""
    if _largest(a) * _largest(b) > np.iinfo(np.int64).max:
        return _real(a) * _real(b)
    return a * b


def _largest(value: Any) -> int:
    """Return the largest magnitude of whole numbers; 0 of others, which do not wrap."""
    if isinstance(value, int):
        return abs(value)
    if not isinstance(value, xr.DataArray) or value.dtype.kind not in "iu" or not value.size:
        return 0
    return max(abs(int(value.min())), abs(int(value.max())))


_OPERATORS: Final[dict[type, Callable[..., Any]]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(_product),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(_power),
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.UAdd: _of_numbers(operator.pos),
    ast.USub: _of_numbers(operator.neg),
    ast.Invert: _inverted,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _over(name: str) -> Callable[..., Any]:
    """Return a function of an image, and of a dim to go over; without one it goes over all."""

    def reduce(image: Any, dim: str | None = None) -> Any:
        if not isinstance(image, xr.DataArray):
            msg = f"{name}() takes an image, and the dim to go over: {name}(a, 'time')"
            raise ValueError(msg)
        if dim is not None and dim not in image.dims:
            msg = f"the image has dims {image.dims}, and no {dim!r} for {name}()"
            raise ValueError(msg)
        found: xr.DataArray = getattr(image, name)(dim)
        # One number is at no place, and goes with images in any frame.
        return found if dim is not None else found.drop_vars(frame_names(found))

    return reduce


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    """Return one or the other value at each voxel; the image's header where one is chosen from an image.

    The condition is true where it is not 0, also of a mask that a file has as numbers.
    """
    if not isinstance(condition, xr.DataArray):
        msg = f"where() takes an image as its condition, such as where(a > 0, a, 0); this one is {condition}"
        raise ValueError(msg)
    for value in (then, otherwise):
        if isinstance(value, str):
            msg = f"where() takes images or numbers to choose from, and this one is {value!r}"
            raise ValueError(msg)
    chosen = condition != 0
    if isinstance(then, xr.DataArray):
        return then.where(chosen, otherwise)
    if isinstance(otherwise, xr.DataArray):
        return otherwise.where(~chosen, then)
    # Of two numbers, at the voxels of the condition.
    return (chosen * 0 + otherwise).where(~chosen, then)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{
        name: _of_numbers(getattr(np, name))
        for name in ("sqrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "arctan", "arctan2", "hypot", "sign")
    },
    **{name: getattr(np, name) for name in ("abs", "minimum", "maximum", "floor", "ceil", "rint", "isnan")},
    **{name: _over(name) for name in ("mean", "sum", "min", "max", "std", "var", "median")},
    "where": _where,
    "clip": lambda image, low, high: image.clip(low, high),
}
"""What an expression may call."""


def evaluate(expression: str, images: Mapping[str, Any]) -> Any:
    """Return the value of an arithmetic expression of images.

    Parameters
    ----------
    expression : str
        Numbers, names of images, ``+ - * / // % ** & | ^ ~ < <= > >= == !=``, parentheses, and the functions of
        `FUNCTIONS`: ``mean(a, "time")``, ``where(b > 0, a / b, 0)``.
    images : mapping of str to DataArray
        What the names stand for.

    Raises
    ------
    ValueError
        If there is anything else in it.

    Examples
    --------
    >>> evaluate("(a + b) / 2", {"a": xr.DataArray([1, 2]), "b": xr.DataArray([3, 4])}).values
    array([2., 3.])
    >>> evaluate("a.__class__", {"a": 1})
    Traceback (most recent call last):
    ...
    ValueError: 'a.__class__' is not allowed in an expression, at 'a.__class__'
    """
    return _value(_parsed(expression).body, images, expression, 0)


def names_in(expression: str) -> set[str]:
    """Return the names in an expression: those of images, and those of functions.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> sorted(names_in("sqrt(a) + a"))
    ['a', 'sqrt']
    """
    return {node.id for node in ast.walk(_parsed(expression)) if isinstance(node, ast.Name)}


def _parsed(expression: str) -> ast.Expression:
    if len(expression) > _LONGEST:
        msg = f"the expression has {len(expression)} characters; at most {_LONGEST} are read"
        raise ValueError(msg)
    try:
        return ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as err:
        msg = f"{expression!r} is no arithmetic expression"
        raise ValueError(msg) from err


def _value(node: ast.expr, images: Mapping[str, Any], text: str, depth: int) -> Any:
    """Return the value of a part of an expression."""
    if depth > _DEEPEST:
        msg = f"the expression is nested more than {_DEEPEST} deep"
        raise ValueError(msg)

    def of(part: ast.expr) -> Any:
        return _value(part, images, text, depth + 1)

    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in images:
            return images[name]
        case ast.Name(id=name):
            msg = f"{name!r} is no image; there are {', '.join(images) or 'none'}"
            raise ValueError(msg)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _computed(node, text, _OPERATORS[type(op)], of(left), of(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _computed(node, text, _OPERATORS[type(op)], of(operand))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _computed(node, text, _OPERATORS[type(op)], of(left), of(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            given = [part.value if _is_text(part) else of(part) for part in args]  # type: ignore[attr-defined] # a Constant
            return _computed(node, text, FUNCTIONS[name], *given)
    part = ast.get_source_segment(text.strip(), node) or text
    msg = f"{part!r} is not allowed in an expression, at {text.strip()!r}"
    if isinstance(node, ast.Call):
        msg += f"; there are {', '.join(FUNCTIONS)}"
    raise ValueError(msg)


def _computed(node: ast.expr, text: str, function: Callable[..., Any], *given: Any) -> Any:
    """Return what an operator or a function gives, whose errors say of which part they are."""
    try:
        return function(*given)
    except (TypeError, AttributeError) as err:
        msg = f"{ast.get_source_segment(text.strip(), node)!r} cannot be computed: {err}"
        raise ValueError(msg) from err


def _is_text(node: ast.expr) -> bool:
    """Whether a part is the name of a dim, which only functions take."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
