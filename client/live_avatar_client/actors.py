"""Several actors in one picture: where each one is, and their sounds side by side."""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from live_avatar_client.files import check_file, file_url, shown, words
from live_avatar_client.protocol import Array

Mask = bytes | str | Path | Array
"""A picture, light where an actor is: encoded bytes, a path, or bool or uint8 [height, width], of
which 128 and more is light; where there are 0 and 1 alone, 1 is."""
_LIGHT = 128


def actor_masks(masks: Sequence[Mask]) -> Array:
    """The START input: uint8 [actors, height, width], 1 where an actor is. ValueError, with the
    names of files, where one is no picture or covers nothing, they differ in size, two overlap, or
    fewer than two come."""
    is_one = isinstance(masks, str | bytes | Path) or getattr(masks, "ndim", 0) == 2
    given: list[Any] = [masks] if is_one else list(masks)
    if len(given) < 2:
        raise ValueError(
            f"actors has {('no mask', 'one mask')[len(given)]}, expected a list of two or more: "
            "give one for each actor; who speaks alone needs none, so leave actors out"
        )
    read = [_read(actor, mask) for actor, mask in enumerate(given)]
    names = [_name(actor, mask) for actor, mask in enumerate(given)]
    (height, width), *_ = (mask.shape for mask in read)
    for name, mask in zip(names, read, strict=True):
        if mask.shape != (height, width):
            raise ValueError(
                f"actors: {name} is {mask.shape[1]} x {mask.shape[0]} pixels, {names[0]} "
                f"{width} x {height}; wanted one size"
            )
        if not mask.any():
            raise ValueError(f"actors: {name} covers nothing; make it light where the actor is")
    for (name, mask), (other, its) in itertools.combinations(zip(names, read, strict=True), 2):
        if common := np.count_nonzero(mask & its):
            raise ValueError(
                f"actors: {name} and {other} overlap in {common} pixels, wanted none: where one "
                "is light the other has to be dark"
            )
    return np.stack(read)


def side_by_side(voices: Sequence[Iterable[Array]]) -> Iterator[Array]:
    """Chunks float32 [actors, samples] of each actor's own chunks [samples], of any lengths. Who
    has ended is silent until the last one has."""
    sources, rests = [iter(voice) for voice in voices], [np.empty(0, np.float32) for _ in voices]
    has_ended = [False] * len(sources)
    while True:
        for actor, source in enumerate(sources):
            while not len(rests[actor]) and not has_ended[actor]:
                chunk = next(source, None)
                has_ended[actor] = chunk is None
                rests[actor] = rests[actor] if chunk is None else _floats(chunk)
        if not (size := min((len(rest) for rest in rests if len(rest)), default=0)):
            return
        yield np.stack([np.pad(rest[:size], (0, size - len(rest[:size]))) for rest in rests])
        rests = [rest[size:] for rest in rests]


def joined(sounds: Sequence[Array]) -> Array:
    """Sound of each actor as one array [actors, samples]; ValueError where lengths differ."""
    lengths = [len(np.atleast_1d(sound)) for sound in sounds]
    if len(set(lengths)) > 1:
        told = " and ".join(map(str, lengths))
        raise ValueError(f"the actors' audio has {told} samples, wanted one length: one clock")
    return np.stack([_floats(np.asarray(sound)) for sound in sounds])


def _floats(sound: Array) -> Array:
    return sound / np.float32(32768) if sound.dtype == np.int16 else sound


def _read(actor: int, mask: Mask) -> Array:
    if isinstance(mask, np.ndarray):
        if mask.ndim != 2 or mask.dtype not in (np.dtype(bool), np.dtype(np.uint8)):
            raise ValueError(
                f"actors: mask {actor} is {mask.dtype} {list(mask.shape)}, expected bool or uint8 "
                "[height, width]"
            )
        return (mask >= (_LIGHT if mask.max(initial=0) > 1 else 1)).astype(np.uint8)
    if not isinstance(mask, bytes):
        check_file("mask", mask)
    source = io.BytesIO(mask) if isinstance(mask, bytes) else file_url(mask)
    try:
        with av.open(source, "r") as container:
            if not container.streams.video:
                raise ValueError("there is none in it")
            frame = next(container.decode(video=0))
            light = (frame.to_ndarray(format="gray") >= _LIGHT).astype(np.uint8)
            return np.rot90(light, frame.rotation // 90)  # as the camera was held
    except (FFmpegError, StopIteration, OSError, ValueError) as error:
        name = _name(actor, mask)
        raise ValueError(f"{name} is no picture that can be read: {words(error)}") from None


def _name(actor: int, mask: Mask) -> str:
    """Of a mask, in an error: its file, or whose it is."""
    return f"mask {shown(mask) if isinstance(mask, str | Path) else actor}"
