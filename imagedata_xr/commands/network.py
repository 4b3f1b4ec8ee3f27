"""Peers as the arguments of a command name them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from imagedata_xr.commands.report import UsageError
from imagedata_xr.pacs.peer import TIMEOUT, peer_of
from imagedata_xr.pacs.tls import client_context
from imagedata_xr.pacs.web import is_web

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from imagedata_xr.pacs.peer import Peer

__all__ = ["as_usage", "peer_from", "place_from", "seconds_of"]


@contextmanager
def as_usage(*others: type[Exception]) -> Iterator[None]:
    """Turn errors of arguments into UsageError: ValueError itself, and others that are given."""
    kinds: tuple[type[Exception], ...] = (ValueError, *others)
    try:
        yield
    except kinds as err:
        if isinstance(err, OSError) and err.filename and err.strerror:
            raise UsageError(f"{err.filename}: {err.strerror}") from err
        if type(err) is not ValueError and not isinstance(err, others):
            raise  # of what is there, such as a study of several patients
        raise UsageError(str(err)) from err


def seconds_of(arguments: argparse.Namespace) -> float:
    """Return the seconds that the other side may take."""
    return TIMEOUT if arguments.timeout is None else float(arguments.timeout)


def peer_from(arguments: argparse.Namespace) -> Peer:
    """Return the peer that a command is to speak with."""
    with as_usage(OSError):
        peer = peer_of(arguments.pacs)
        if arguments.aet:
            peer = replace(peer, calling_aet=arguments.aet)
        if peer.tls is not None:
            peer = replace(peer, tls=client_context(arguments.ca, arguments.cert, arguments.key))
        return replace(peer, timeout=seconds_of(arguments))


def place_from(arguments: argparse.Namespace) -> Peer | str:
    """Return the peer, or the URL of the DICOMweb service, that a command is to speak with."""
    if not is_web(arguments.pacs):
        return peer_from(arguments)
    given = [f"--{name}" for name in ("aet", "ca", "cert", "key") if getattr(arguments, name)]
    given += ["--timeout"] if arguments.timeout is not None else []
    if given:
        msg = (
            f"{' and '.join(given)} and DICOMweb do not go together: it has no AE titles, 60 s for each answer, and "
            "certificates as IMAGEDATA_XR_TLS_CA, IMAGEDATA_XR_TLS_CERT and IMAGEDATA_XR_TLS_KEY name them"
        )
        raise UsageError(msg)
    return str(arguments.pacs)
