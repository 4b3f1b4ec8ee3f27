"""Peers as the arguments of a command name them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imagedata_xr.commands.report import UsageError
from imagedata_xr.pacs.peer import peer_of
from imagedata_xr.pacs.tls import client_context
from imagedata_xr.pacs.web import is_web

if TYPE_CHECKING:
    import argparse

    from imagedata_xr.pacs.peer import Peer

__all__ = ["peer_from", "place_from"]


def peer_from(arguments: argparse.Namespace) -> Peer:
    """Return the peer that a command is to speak with."""
    peer = peer_of(arguments.pacs)
    if arguments.aet:
        peer = replace(peer, calling_aet=arguments.aet)
    if peer.tls is not None:
        peer = replace(peer, tls=client_context(arguments.ca, arguments.cert, arguments.key))
    return replace(peer, timeout=arguments.timeout)


def place_from(arguments: argparse.Namespace) -> Peer | str:
    """Return the peer, or the URL of the DICOMweb service, that a command is to speak with."""
    if not is_web(arguments.pacs):
        return peer_from(arguments)
    given = [f"--{name}" for name in ("aet", "ca", "cert", "key") if getattr(arguments, name)]
    if given:
        msg = (
            f"{' and '.join(given)} and DICOMweb do not go together: it has no AE titles, and its certificates are "
            "those that IMAGEDATA_XR_TLS_CA, IMAGEDATA_XR_TLS_CERT and IMAGEDATA_XR_TLS_KEY name in the environment"
        )
        raise UsageError(msg)
    return str(arguments.pacs)
