"""The files that a connection rests on: certificates, keys, the password; and whom TLS believes.

Each attempt asks anew, so that what is renewed on disk is used without a restart; the contexts of files that
did not change are shared by all connections, since one with the system's authorities takes a megabyte.
Whom mosquitto_sub believes with the same files, we believe, on every Python.
"""

import ipaddress
import os
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...config.parsers import read_password
from ...errors import StartError

if TYPE_CHECKING:
    from .settings import MqttSettings

NOT_OUR_NAME = 62
"""OpenSSL's number for a certificate that has not the name that was asked for; 64 is that of an address."""
NOT_OUR_ADDRESS = 64
STRICT = ssl.VERIFY_X509_STRICT
"""On by default since Python 3.13; refuses authorities made by hand: no key identifier, no keyUsage."""


def tls_for(settings: "MqttSettings", host: str = "") -> ssl.SSLContext | None:
    """A context for this server, of the files as they are now; None without TLS.

    Raises StartError when a file cannot be used.
    """
    if not settings.tls:
        return None
    files = (settings.cafile, settings.certfile, settings.keyfile)
    system = ssl.get_default_verify_paths()
    stamps = tuple(_stamp(path) for path in (*files, system.openssl_cafile, system.openssl_capath))
    return _shared_context(*files, is_address(host), stamps)


def password_for(settings: "MqttSettings") -> str:
    """The password as it is now. Raises StartError when its file cannot be read."""
    if not settings.passwordfile:
        return str.__str__(settings.password)
    try:
        password, _ = read_password(settings.passwordfile)
    except ValueError as error:
        raise StartError(f"passwordfile = {settings.passwordfile}: {error}") from error
    return str.__str__(password)


def tls_context(cafile: str, certfile: str, keyfile: str, *, by_address: bool = False) -> ssl.SSLContext:
    """Verified TLS 1.2 or newer. Raises StartError when a file cannot be used.

    `by_address`: the server is an IP address; it is then looked for in the certificate's names as well.
    """
    try:
        context = ssl.create_default_context(cafile=cafile or None)
    except OSError as error:
        raise StartError(f"cafile = {cafile}: {_unusable('have certificates in it', error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = context.verify_flags & ~STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    if by_address:
        context.check_hostname = False
        context.sslsocket_class = _AddressedSocket
    try:
        if certfile:
            context.load_cert_chain(certfile, keyfile, password=_no_passphrase)
    except OSError as error:
        both = f"certfile = {certfile}, keyfile = {keyfile}"
        raise StartError(f"{both}: {_unusable('be a certificate and its key', error)}") from error
    return context


def is_address(host: str) -> bool:
    """True when a server is given by its IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def names_address(certificate: dict[str, Any], address: str) -> bool:
    """True when a certificate, as getpeercert() gives it, is one for this IP address.

    By rights the address stands among the alternative names as one. Made by hand it often stands there as a
    host name, or without alternative names as the common name; mosquitto's programs take all of these.
    """
    wanted = ipaddress.ip_address(address)
    alternatives = certificate.get("subjectAltName", ())
    names = [text for kind, text in alternatives if kind == "DNS"]
    if not names:
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        names = [text for kind, text in subject if kind == "commonName"][-1:]
    addresses = [text for kind, text in alternatives if kind == "IP Address"]
    return any(is_address(text) and ipaddress.ip_address(text) == wanted for text in addresses + names)


class _AddressedSocket(ssl.SSLSocket):
    """OpenSSL compares an address to the certificate's addresses only; this one also to its names."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        address = str(self.server_hostname)
        certificate = self.getpeercert()
        if not certificate or not names_address(certificate, address):
            text = f"IP address mismatch, certificate is not valid for '{address}'."
            error = ssl.SSLCertVerificationError(1, text)
            error.verify_code, error.verify_message = NOT_OUR_ADDRESS, text
            raise error


@lru_cache(maxsize=4)
def _shared_context(
    cafile: str, certfile: str, keyfile: str, by_address: bool, stamps: tuple[Any, ...]
) -> ssl.SSLContext:
    """One context as long as the stamps of its files stay the same."""
    return tls_context(cafile, certfile, keyfile, by_address=by_address)


def _stamp(path: str) -> tuple[int, ...]:
    """Changes with the file; also when another takes its name."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _unusable(must: str, error: OSError) -> str:
    """Why a file that `must` be or have something cannot be used: for what is in it, or before it is read."""
    if isinstance(error, ssl.SSLError):
        return f"must {must}, PEM ({error})"
    return f"cannot be read ({error.strerror or error})"


def _no_passphrase() -> str:
    """Instead of a question at a terminal that a daemon does not have."""
    raise StartError(
        "keyfile has a passphrase, and nobody to type it; openssl pkey -in KEY -out NEW makes one without"
    )
