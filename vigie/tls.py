"""TLS with a certificate from files: the service's side, and that of programs of this machine."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from vigie.errors import InvalidDataError

logger = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all of this kind."""


class Certificate:
    """A certificate and its key, read again when their files change.

    Parameters
    ----------
    cert : Path
        PEM, with its chain.
    key : Path, optional
        PEM without a password; by default in the same file.

    Attributes
    ----------
    context : SSLContext
        For a server. A new connection gets the certificate that the files have then; if they cannot
        be read, the one before.

    Raises
    ------
    InvalidDataError
        If they cannot be used.
    """

    def __init__(self, cert: Path, key: Path | None = None):
        # The service's working folder may change.
        self._files = [file.absolute() for file in (cert, key) if file]
        self._seen = self._stamp()
        self.context = self._current = self._opened()
        # Called for every connection, with or without the name of a server.
        self.context.sni_callback = self._on_connection

    def _on_connection(self, connection: ssl.SSLObject, name: str | None, _: object) -> None:
        if (stamp := self._stamp()) != self._seen:
            self._seen = stamp
            try:
                self._current = self._opened()
            except InvalidDataError as error:
                logger.error("The certificate was not renewed. %s", error)
            else:
                logger.info("The certificate in %s was renewed.", self._files[0])
        if connection.context is not self._current:
            connection.context = self._current

    def _stamp(self) -> list[int]:
        try:
            return [file.stat().st_mtime_ns for file in self._files]
        except OSError:
            return []

    def _opened(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # An empty password, since OpenSSL would ask the terminal for one.
            context.load_cert_chain(self._files[0], self._files[-1], password="")
        except OSError as error:
            reason = error.strerror
            if isinstance(error, ssl.SSLError):
                # OpenSSL names a place in its sources.
                reason = "no PEM, a key with a password, or the key of another certificate"
            raise InvalidDataError(
                f"{' and '.join(map(str, self._files))} cannot be used for TLS ({reason}).",
                field="VIGIE_TLS_CERT",
                remedy="Give the certificate with its chain (--tls-cert) and its key without a "
                "password (--tls-key), both as PEM and readable for this user.",
            ) from error
        return context


def trusting(cert: Path) -> ssl.SSLContext:
    """Return the context of a client that trusts this certificate alone, under whatever name.

    A program of this machine asks a service of this machine by its address, which the certificate
    need not name.

    Raises
    ------
    InvalidDataError
        If the file has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # It need not be signed by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cert)
    except OSError as error:
        raise InvalidDataError(
            f"{cert} has no certificate that can be read ({error.strerror}).",
            field="VIGIE_TLS_CERT",
        ) from error
    return context
