"""TLS as DICOM wants it (PS3.15 B.12, BCP 195): at least 1.2, and the other side verified."""

from __future__ import annotations

import os
import ssl

__all__ = ["client_context", "server_context"]


def client_context(
    ca: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Return how a client connects: TLS 1.2 or later, the server's certificate and host name verified.

    Parameters
    ----------
    ca : path, optional
        File of the certificates that are trusted; by default that in the environment variable ``IMAGEDATA_XR_TLS_CA``,
        else those of the system.
    certificate, key : path, optional
        Files (PEM) of our own certificate and its key, for a server that asks for one; by default those in
        ``IMAGEDATA_XR_TLS_CERT`` and ``IMAGEDATA_XR_TLS_KEY``. The password of a key is taken from
        ``IMAGEDATA_XR_TLS_PASSWORD``.

    Raises
    ------
    OSError
        If a file is not there, or is no certificate or key (`ssl.SSLError`); it names the file.
    """
    trusted = ca or os.environ.get("IMAGEDATA_XR_TLS_CA")
    context = _trusting(ssl.Purpose.SERVER_AUTH, trusted)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, certificate, key)
    return context


def server_context(
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Return how a receiver lets clients connect: TLS 1.2 or later, with a certificate that `ca` trusts.

    Parameters
    ----------
    certificate, key, ca : path, optional
        As in `client_context`; here `ca` are those that sign the certificates of clients, and all three are needed.

    Raises
    ------
    ValueError
        If one of them is not given.
    OSError
        As in `client_context`.
    """
    trusted = ca or os.environ.get("IMAGEDATA_XR_TLS_CA")
    own = certificate or os.environ.get("IMAGEDATA_XR_TLS_CERT")
    if not trusted or not own:
        msg = "a receiver with TLS needs certificate=, key= and ca=, which signs the certificates of its clients"
        raise ValueError(msg)
    context = _trusting(ssl.Purpose.CLIENT_AUTH, trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, own, key)
    return context


def _trusting(purpose: ssl.Purpose, trusted: str | os.PathLike[str] | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a file, None: those of the system."""
    if trusted:
        _look_at(trusted)
    try:
        return ssl.create_default_context(purpose, cafile=trusted)
    except ssl.SSLError as err:
        msg = f"{os.fspath(trusted or '')} has no certificates to trust (PEM): {err.reason or err}"
        raise ssl.SSLError(msg) from err


def _look_at(file: str | os.PathLike[str]) -> None:
    """Raise OSError that names a file, as those of `ssl` do not, if it cannot be read."""
    with open(file, "rb"):
        pass


def _load(
    context: ssl.SSLContext, certificate: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None
) -> None:
    """Give a context our own certificate, if there is one."""
    own = certificate or os.environ.get("IMAGEDATA_XR_TLS_CERT")
    if own:
        # A password that is asked for on a terminal would stop a batch; "" is one that is wrong.
        password = os.environ.get("IMAGEDATA_XR_TLS_PASSWORD", "")
        own_key = key or os.environ.get("IMAGEDATA_XR_TLS_KEY")
        for file in (own, own_key or own):
            _look_at(file)
        try:
            context.load_cert_chain(own, own_key, password=lambda: password)
        except ssl.SSLError as err:
            msg = (
                f"{os.fspath(own)} and {os.fspath(own_key or own)} are no certificate and its key (PEM), or the "
                f"password in IMAGEDATA_XR_TLS_PASSWORD is another: {err.reason or err}"
            )
            raise ssl.SSLError(msg) from err
