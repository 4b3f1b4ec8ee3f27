"""Peers as the arguments of a command name them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imagedata_xr.pacs.peer import peer_of
from imagedata_xr.pacs.tls import client_context

if TYPE_CHECKING:
    import argparse

    from imagedata_xr.pacs.peer import Peer

__all__ = ["peer_from"]


def peer_from(arguments: argparse.Namespace) -> Peer:
    """Return the peer that a command is to speak with."""
    peer = peer_of(arguments.pacs)
    if arguments.aet:
        peer = replace(peer, calling_aet=arguments.aet)
    if peer.tls is not None:
        peer = replace(peer, tls=client_context(arguments.ca, arguments.cert, arguments.key))
    return replace(peer, timeout=arguments.timeout)
