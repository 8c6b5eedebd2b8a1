"""C2PA manifests of saved videos: written into a file, and read back in words."""

import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from live_avatar_client.files import check_file, shown
from live_avatar_client.provenance.identity import Identity, own

logger = logging.getLogger(__name__)

TYPES = {".mp4": "video/mp4", ".mov": "video/quicktime"}
"""Kinds of files that hold a manifest."""
MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
INSTALL = "pip install 'live-avatar-client[provenance]'"
_UNSIGNED = "the video is not signed: %s (--no-sign says that this is meant)"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""A file that is looked at must not make this machine call others."""
_UNTRUSTED = "signingCredential.untrusted"
_CHANGED = ("assertion.bmffHash.mismatch", "assertion.dataHash.mismatch")


class Verdict(NamedTuple):
    """What a file says of itself. `is_whole`: it has a manifest, and nothing was changed since."""

    is_whole: bool
    words: str
    faults: tuple[str, ...] = ()
    """C2PA's codes for what is wrong, without that of an unknown authority."""


def sealer(out: Path, *, asked: bool | None) -> Callable[[Path], None] | None:
    """What signs the video `out` once it is written; None where it is to stay unsigned. `asked`
    None signs where that can be done and warns where not; True raises ValueError at once if it
    can't be done."""
    if asked is False:
        return None
    if asked:
        _signer_of(out)

    def seal(path: Path) -> None:
        try:
            sign(path, TYPES.get(out.suffix.lower(), ""), _signer_of(out))
        except ValueError as error:  # a video that took an hour is kept all the same
            logger.warning(_UNSIGNED, error)

    return seal


def _signer_of(out: Path) -> Identity:
    """ValueError where the video can't be signed."""
    if out.suffix.lower() not in TYPES:
        raise ValueError(f"{shown(out.name)} can't hold a manifest, {' and '.join(TYPES)} can")
    _library()
    return own()


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise ValueError(f"the package c2pa-python is missing: {INSTALL}") from None
    return c2pa


def sign(path: Path, kind: str, identity: Identity) -> None:
    """Put a manifest into the file: made by a model, and by whom signed. ValueError if that can't
    be done; the file is as it was then."""
    c2pa = _library()
    info = c2pa.C2paSignerInfo(
        alg=b"es256", sign_cert=identity.chain, private_key=identity.key, ta_url=None
    )
    signed = path.with_name(f"{path.name}.signed")
    try:
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(_manifest(kind))) as builder,
            path.open("rb") as source,
            signed.open("w+b") as target,
        ):
            builder.sign(signer, kind, source, target)
        signed.chmod(path.stat().st_mode & 0o777)
        signed.replace(path)
    except c2pa.C2paError as error:
        raise ValueError(shown(error)) from None
    finally:
        with contextlib.suppress(OSError):
            signed.unlink(missing_ok=True)


def verify(path: Path) -> Verdict:
    """What the file's manifest says, and whether the file is still the one that was signed.
    ValueError for what is no file, or where the package is missing."""
    check_file("video", path)
    c2pa = _library()
    kind = TYPES.get(path.suffix.lower())
    if kind is None:
        return Verdict(False, f"files of this kind hold no manifest, {' and '.join(TYPES)} do")
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(_OFFLINE)) as context,
            path.open("rb") as file,
            c2pa.Reader(kind, file, context=context) as reader,
        ):
            told: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or "no JUMBF" in str(error):
            return Verdict(False, "it holds no manifest: nothing is said of who made it")
        return Verdict(False, f"its manifest can't be read: {shown(error)}")
    return _judge(told)


def _judge(told: dict[str, Any]) -> Verdict:
    manifest = told["manifests"][told["active_manifest"]]
    codes = {status["code"] for status in told.get("validation_status", [])}
    faults = tuple(sorted(codes - {_UNTRUSTED}))
    signature = manifest.get("signature_info", {})
    signer = signature.get("common_name") or signature.get("issuer") or "somebody"
    says = "made by a model" if MADE_BY_A_MODEL in json.dumps(manifest) else "not said how made"
    trust = " (an authority that nobody vouches for)" if _UNTRUSTED in codes else ""
    if not faults:
        return Verdict(True, f"{says}; signed by {shown(signer)}{trust}; unchanged since")
    changed = any(code in faults for code in _CHANGED)
    what = "changed since it was signed" if changed else "its signature does not hold"
    return Verdict(False, f"{what} ({', '.join(faults)}); it says: {says}, {shown(signer)}", faults)


def _manifest(kind: str) -> dict[str, Any]:
    from live_avatar_client import __version__

    made = {"action": "c2pa.created", "digitalSourceType": MADE_BY_A_MODEL}
    return {
        "claim_generator_info": [{"name": "live-avatar", "version": __version__}],
        "title": "live-avatar video",
        "format": kind,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
    }
