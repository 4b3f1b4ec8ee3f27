"""Associations with a peer: made, or refused with the reason; released, or aborted where something goes wrong."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
    from pynetdicom.presentation import PresentationContext

    from imagedata_xr.pacs.link import Link
    from imagedata_xr.pacs.peer import Peer

__all__ = ["MAX_CONTEXTS", "NothingAcceptedError", "associate", "context"]

MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: their IDs are the odd numbers below 256 (PS3.8 9.3.2.2)."""

_LOOK_EVERY: Final = 0.0003
"""Seconds after which an idle association looks whether something has come; pynetdicom's own 0.001 are what a small
instance takes."""


class NothingAcceptedError(NetworkError):
    """The peer takes none of the SOP classes in the transfer syntaxes that it was asked for."""


def context(abstract_syntax: str, transfer_syntaxes: Sequence[str] | None = None) -> PresentationContext:
    """Return a presentation context: what is spoken of, and the encodings that may be used.

    Parameters
    ----------
    abstract_syntax : str
        UID of a SOP class.
    transfer_syntaxes : sequence of str, optional
        By default explicit and implicit VR little endian.
    """
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import build_context

    return build_context(abstract_syntax, list(transfer_syntaxes or (ExplicitVRLittleEndian, ImplicitVRLittleEndian)))


@contextmanager
def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]] = (),
) -> Iterator[Link]:
    """Give an association, released when the block ends well and aborted otherwise.

    Parameters
    ----------
    peer : Peer
        Whom to speak with.
    contexts : sequence of PresentationContext
        What is asked for, in this order.
    roles : sequence of SCP_SCU_RoleSelectionNegotiation
        Who may do what, where that is not as usual: `pynetdicom.build_role`.
    handlers : sequence of (event, callable)
        What is done when the peer asks for something.

    Raises
    ------
    NetworkError
        If there is no association; it says why.
    """
    link = _requested(peer, contexts, roles, handlers)
    try:
        yield link
    except BaseException:
        link.abort()
        raise
    if link.is_established:
        link.release()


def _requested(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]],
) -> Link:
    """Return an association that is established."""
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.transport import AddressInformation

    from imagedata_xr.pacs.link import LARGEST_PDU, Link, LinkSocket

    ae = ApplicationEntity(peer.calling_aet)
    ae.acse_timeout = ae.connection_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout
    link = Link(ae, "requestor")
    link.dul._run_loop_delay = _LOOK_EVERY
    link.daemon = link.dul.daemon = True  # a peer that does not answer does not keep the process from ending
    try:
        remote = AddressInformation(peer.host, peer.port)
    except OSError as err:
        msg = f"{peer.host} is no machine that is known here: {err.strerror or err}"
        raise NetworkError(msg) from err
    local = AddressInformation("::0" if remote.is_ipv6 else "", 0)
    sock = LinkSocket(link, address=local, patience=peer.timeout)
    if peer.tls is not None:
        sock.tls_args = (peer.tls, peer.host)
    link.set_socket(sock)
    link.acceptor.ae_title = peer.aet
    link.acceptor.address_info = remote
    link.requestor.address_info = local
    link.requestor.ae_title = peer.calling_aet
    link.requestor.maximum_length = LARGEST_PDU // 2
    link.requestor.implementation_class_uid = ae.implementation_class_uid
    link.requestor.implementation_version_name = ae.implementation_version_name
    for role in roles:
        link.requestor.add_negotiation_item(role)
    for number, wanted in enumerate(contexts):
        wanted.context_id = 2 * number + 1
    link.requestor.requested_contexts = list(contexts)
    for event, handler in handlers:
        link.bind(event, handler)
    link.request()
    if not link.is_established:
        link.kill()
        if link.rejected_contexts and not link.accepted_contexts:
            asked = {rejected.abstract_syntax for rejected in link.rejected_contexts}
            names = ", ".join(sorted(uid.name for uid in asked if uid is not None))
            raise NothingAcceptedError(f"{peer} takes nothing of what was asked for: {names}")
        raise NetworkError(f"no association with {peer}: {_why_not(link, sock.failure, peer)}") from sock.failure
    link.start()
    return link


def _why_not(link: Link, failure: OSError | None, peer: Peer) -> str:
    """Return why an association was not established."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {failure.verify_message}"
    if isinstance(failure, ssl.SSLError | ConnectionResetError) and peer.tls is not None:
        reason = getattr(failure, "reason", None) or failure.strerror or str(failure)
        return f"TLS failed ({reason.lower()}); it may speak plain DICOM, or an older TLS than 1.2"
    if isinstance(failure, TimeoutError):
        return f"no connection within {peer.timeout:g} s"
    if failure is not None:
        return (failure.strerror or str(failure)).lower()
    if link.refused:
        return f"it sent {link.refused}"
    if link.is_rejected:
        found = link.acceptor.primitive
        if found is None:
            return "rejected"
        reason = found.reason_str.lower() or found.result_str.lower()
        return f"rejected: {reason} (called {peer.aet!r}, calling {peer.calling_aet!r})"
    plain = "; it may want a certificate of ours that it trusts" if peer.tls else "; it may want TLS"
    return f"it closed the connection, or did not answer within {peer.timeout:g} s{plain}"
