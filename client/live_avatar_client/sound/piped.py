"""Speech that another program writes to a pipe: bare samples, or a WAV whose length is unknown."""

import itertools
from collections.abc import Iterator
from io import BufferedReader

from live_avatar_client.protocol import Array
from live_avatar_client.sound.raw import RawSound, check_form

_PIECE_BYTES = 1 << 14
_FILES = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\x1aE\xdf\xa3": "WebM",
}
_PCM, _EXTENSIBLE = 1, 0xFFFE  # formats of a WAV that are plain samples


def read_piped(pipe: BufferedReader, rate: int, num_channels: int) -> Iterator[Array]:
    """Pieces as they come, int16 [n] mono at 16 kHz. Without a WAV header they are little-endian
    int16 samples at `rate`, channels interleaved. ValueError for what is no such sound."""
    head = pipe.read(12)
    if not head:
        raise ValueError("nothing was piped in: the program that should speak has ended in silence")
    for begin, kind in _FILES.items():
        if head.startswith(begin):
            raise ValueError(
                f"a file of {kind} is piped in, expected bare samples or a WAV; "
                "for files: live-avatar stream --audio FILE"
            )
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        rate, num_channels = _skip_header(pipe)
        head = b""
    check_form(rate, num_channels)
    sound, rest = RawSound(), b""
    for piece in itertools.chain([head], iter(lambda: pipe.read1(_PIECE_BYTES), b"")):
        joined = rest + piece
        whole = len(joined) - len(joined) % (2 * num_channels)
        rest = joined[whole:]
        yield sound.add(joined[:whole], rate, num_channels)
    yield sound.finish()


def _skip_header(pipe: BufferedReader) -> tuple[int, int]:
    """Rate and number of channels of a WAV, read from behind its first 12 bytes to its samples."""
    form = b""
    while len(head := pipe.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return _checked(form)
        chunk = pipe.read(size + size % 2)
        form = chunk if name == b"fmt " else form
    raise ValueError("the WAV that is piped in ends within its header")


def _checked(form: bytes) -> tuple[int, int]:
    """What the chunk `fmt ` says: format, channels and rate; bytes per second and per sample of
    all channels; bits per sample."""
    kind, num_channels = (int.from_bytes(form[at : at + 2], "little") for at in (0, 2))
    rate, bits = int.from_bytes(form[4:8], "little"), int.from_bytes(form[14:16], "little")
    if kind not in (_PCM, _EXTENSIBLE) or bits != 16:
        raise ValueError(
            f"the WAV that is piped in has samples of {bits} bits in format {kind}, expected 16 "
            f"bits in format {_PCM}"
        )
    return rate, num_channels
