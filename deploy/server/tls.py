"""TLS of a server's gRPC port. HTTP and metrics have none and stay on the loopback interface."""

from dataclasses import asdict, dataclass
from pathlib import Path

FIX = "TLS_CERT=file TLS_KEY=file, and TLS_CA=file to ask clients for certificates"
_CERTIFICATE = "CERTIFICATE-----"
_MARKS = {"certificate": _CERTIFICATE, "key": "PRIVATE KEY-----", "client_root": _CERTIFICATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files in PEM. With `client_root` a client has to show a certificate that this one signed.
    ValueError for a file that is not there, or holds something else."""

    certificate: Path
    key: Path
    client_root: Path | None = None

    def __post_init__(self) -> None:
        for name, path in asdict(self).items():
            if path is None:
                continue
            object.__setattr__(self, name, Path(path).resolve())
            try:
                text = Path(path).read_text(errors="replace")
            except OSError as error:
                raise ValueError(f"{path} can't be read ({error.strerror}): {FIX}") from None
            if _MARKS[name] not in text:
                raise ValueError(f"{path} has no {name.replace('_', ' ')} in PEM: {FIX}")

    @classmethod
    def given(cls, certificate: str, key: str, client_root: str) -> "TlsFiles | None":
        """Of texts that may be empty; None if all are. ValueError if one is missing."""
        if not (certificate or key or client_root):
            return None
        if not (certificate and key):
            raise ValueError(f"TLS takes a certificate and its key: {FIX}")
        root = Path(client_root) if client_root else None
        return cls(certificate=Path(certificate), key=Path(key), client_root=root)

    def flags(self) -> list[str]:
        """What `tritonserver` is told."""
        flags = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.certificate}",
            f"--grpc-server-key={self.key}",
        ]
        if self.client_root:
            flags += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.client_root}"]
        return flags

    def texts(self) -> dict[str, str]:
        """As `given` takes them."""
        return {name: str(path or "") for name, path in asdict(self).items()}
