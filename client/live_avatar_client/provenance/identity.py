"""The certificate that a user signs videos with. It is made once and stays in the config folder.

It names nobody: its authority was made beside it, so a reader says that it is not trusted, and that
nothing was changed since. Who has a certificate of a known authority puts it in its place, one file
in PEM: the signer's certificate, those above it, and the signer's key (ES256).
"""

import contextlib
import datetime
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

FILE = "signing.pem"
DAYS = 3650
"""How long a certificate holds that is made here."""


class Identity(NamedTuple):
    """PEM: a chain, the signer's certificate first, and the signer's key."""

    chain: bytes
    key: bytes


def folder() -> Path:
    """Of this user's settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "live-avatar"


def own(place: Path | None = None) -> Identity:
    """The user's own, made now if there is none. ValueError where it can't be read or written."""
    place = place or folder()
    try:
        if not (place / FILE).exists():
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            _keep(place / FILE, b"".join(_made()))
        return _split((place / FILE).read_bytes())
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"the signing certificate {place / FILE} can't be had: {said}; "
            "--no-sign writes the video without it"
        ) from None


def _split(pem: bytes) -> Identity:
    blocks = re.findall(rb"-----BEGIN .+?-----.*?-----END .+?-----\s*", pem, re.DOTALL)
    chain = b"".join(block for block in blocks if block.startswith(b"-----BEGIN CERT"))
    key = b"".join(block for block in blocks if b"PRIVATE KEY-----" in block)
    if not chain or not key:
        raise ValueError("it has no certificate and key in PEM")
    return Identity(chain, key)


def _keep(place: Path, data: bytes) -> None:
    """Of two who make one at the same time the first one's holds."""
    held = place.with_name(f".{secrets.token_hex(4)}.part")
    with os.fdopen(os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    with contextlib.suppress(FileExistsError):
        os.link(held, place)
    held.unlink()


def _made() -> Identity:
    """An authority of its own, and the signer that it vouches for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("live-avatar local authority", root_key.public_key(), root_key, None)
    leaf = _certificate("live-avatar local signer", key.public_key(), root_key, root)
    pem = serialization.Encoding.PEM
    return Identity(
        leaf.public_bytes(pem) + root.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _certificate(
    name: str,
    key: "ec.EllipticCurvePublicKey",
    signed_by: "ec.EllipticCurvePrivateKey",
    issuer: "x509.Certificate | None",
) -> "x509.Certificate":
    """An authority's without `issuer`, else a signer's, with what C2PA asks of one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    names = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "live-avatar")]
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in names])
    now = datetime.datetime.now(datetime.UTC)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key())
    usage = dict.fromkeys(_USAGES, False) | _usage(is_root=issuer is None)
    begun = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority, critical=False)
    )
    if issuer is not None:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        begun = begun.add_extension(purpose, critical=True)
    return begun.sign(signed_by, hashes.SHA256())


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _usage(*, is_root: bool) -> dict[str, bool]:
    if is_root:
        return {"key_cert_sign": True, "crl_sign": True}
    return {"digital_signature": True}
