"""TLS to the server: what a client trusts, what it shows, and what went wrong, in words."""

from dataclasses import dataclass
from pathlib import Path

import grpc

SCHEME = "grpcs://"
"""Before host:port: TLS, by default with the authorities that gRPC brings along."""
_PEM = {
    "root_certificates": b"CERTIFICATE-----",
    "private_key": b"PRIVATE KEY-----",
    "certificate_chain": b"CERTIFICATE-----",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Bytes of PEM files. `root_certificates`: of who may have signed the server's certificate;
    None takes the authorities that gRPC brings along. `private_key` and `certificate_chain` are
    what a server with mutual TLS asks for, and come together. ValueError for what is no such file.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate_chain: bytes | None = None

    def __post_init__(self) -> None:
        for name, mark in _PEM.items():
            given = getattr(self, name)
            if given is not None and mark not in given:
                wanted = mark.decode().removesuffix("-----").lower()
                raise ValueError(f"tls: {name} has no {wanted} in PEM")
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ValueError("tls: private_key and certificate_chain come together")

    @classmethod
    def of_files(cls, ca: Path | None, key: Path | None, cert: Path | None) -> "Tls | None":
        """None if no file is named. ValueError for a file that can't be read."""
        if ca is None and key is None and cert is None:
            return None
        read = [None if path is None else _bytes(path) for path in (ca, key, cert)]
        return cls(root_certificates=read[0], private_key=read[1], certificate_chain=read[2])

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )


def target(url: str, tls: Tls | None) -> tuple[str, Tls | None]:
    """What gRPC is given: the url without its scheme, and TLS if it is wanted."""
    if url.startswith(SCHEME):
        return url.removeprefix(SCHEME), tls or Tls()
    return url, tls


def hint(details: str, tls: Tls | None) -> str | None:
    """What to do about gRPC's `details` of a call that failed; None if TLS is not the reason."""
    if "WRONG_VERSION_NUMBER" in details:
        return "the server speaks no TLS: give host:port without grpcs:// and without certificates"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            "the server's certificate is not signed by an authority that is trusted here: name the "
            "right one with --tls-ca FILE, or Tls(root_certificates=…)"
        )
    if "Hostname Verification" in details:
        return "the server's certificate is for another name: use the name that stands in it"
    if "Socket closed" not in details and "Connection reset" not in details:
        return None
    if tls is None:
        return "it hangs up at once, so it may want TLS: give grpcs://host:port and --tls-ca FILE"
    if tls.private_key is None:
        return (
            "it hangs up at once, so it may want a certificate of its clients: name one with "
            "--tls-cert FILE --tls-key FILE, or Tls(private_key=…, certificate_chain=…)"
        )
    return "it hangs up at once, so it may not trust who signed this client's certificate"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
