"""What a caller hands to a session, checked and turned into the tensors of START and of audio."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from live_avatar_client.actors import Mask, actor_masks, joined
from live_avatar_client.files import check_file, shown, words
from live_avatar_client.protocol import MODEL, SAMPLE_RATE, Array

MAX_REQUEST_SAMPLES = SAMPLE_RATE // 2
"""Longer audio is split: the first block's answer must not wait until a whole file is sent."""

AUDIO = ("audio", "audio_int16")  # the inputs that carry sound, one of them in a request
PICTURES = "PNG, JPEG, WebP, AVIF, BMP, GIF"
MAX_IMAGE_BYTES = 32 * 2**20  # the server takes no more; more need not travel

Image = bytes | str | Path | Array


def start_tensors(
    image: Image | None = None,
    *,
    prompt: str | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    text: Array | None = None,
    actors: Sequence[Mask] | None = None,
) -> dict[str, Array]:
    """The tensors of a START request; ValueError where an argument can't be one. `image`: encoded
    bytes, a path, or uint8 RGB [H, W, 3]. `text`: float32 [rows, text_dim]. `actors`: a mask of
    each."""
    tensors = condition(prompt, text)
    if image is not None:
        tensors |= _image_tensor(image)
    if actors is not None:
        tensors["actor_masks"] = actor_masks(actors)
    if seed is not None:
        tensors["seed"] = integer("seed", seed)
    if options is not None:
        if not isinstance(options, Mapping):
            raise ValueError(f"options is {type(options).__name__}, expected a mapping of names")
        tensors["options"] = _utf8(_as_json(options))
    return tensors


def condition(prompt: str | None, text: Array | None) -> dict[str, Array]:
    """What the video shows, as a tensor: words, or float32 [rows, text_dim] in their place."""
    if prompt is not None and text is not None:
        raise ValueError("prompt and text say the same thing twice: give one of them")
    if text is not None:
        return {"text": text}
    return {} if prompt is None else {"prompt": _utf8(prompt)}


def audio_tensors(
    audio: Array | Sequence[Array], *, whole: bool = False, num_actors: int = 1
) -> Iterator[dict[str, Array]]:
    """The audio of one or more requests: float32 or int16 mono, of several actors a row for each
    one; split unless `whole`."""
    if isinstance(audio, list | tuple) and all(isinstance(part, np.ndarray) for part in audio):
        audio = joined(audio)
    audio = np.asarray(audio)
    if num_actors > 1 and audio.ndim == 2:
        yield from _rows(audio, len(audio[0]) if whole else MAX_REQUEST_SAMPLES, num_actors)
        return
    names = {np.dtype(np.float32): "audio", np.dtype(np.int16): "audio_int16"}
    if audio.dtype not in names or audio.ndim != 1:
        rows = "; rows are for several actors: Session(actors=[mask, mask])"
        raise ValueError(
            f"{MODEL}: audio is {audio.dtype} {list(audio.shape)}, expected mono 16 kHz samples, "
            f"float32 [samples] in [-1, 1] or int16 [samples]{rows if audio.ndim == 2 else ''}"
        )
    step = len(audio) if whole else MAX_REQUEST_SAMPLES
    for begin in range(0, len(audio), max(step, 1)):
        yield {names[audio.dtype]: audio[begin : begin + step]}


def _rows(audio: Array, step: int, num_actors: int) -> Iterator[dict[str, Array]]:
    if len(audio) != num_actors or audio.dtype not in (np.float32, np.int16):
        raise ValueError(
            f"{MODEL}: audio is {audio.dtype} {list(audio.shape)}, expected float32 or int16 "
            f"[{num_actors}, samples], a row for each actor"
        )
    rows = audio / np.float32(32768) if audio.dtype == np.int16 else audio
    for begin in range(0, rows.shape[1], max(step, 1)):
        yield {"actor_audio": rows[:, begin : begin + step]}


def pose_tensor(pose: Array | Iterable[Array], first: int = 0) -> Array:
    """uint8 RGB [n, H, W, 3] of frames [H, W, 3]; ValueError where one is none or of another size.
    `first`: the number of the first one, for the words."""
    if isinstance(pose, np.ndarray):
        return pose  # the wire looks at it
    if not (frames := list(pose_frames(pose))):
        raise ValueError("pose has no frames, expected one or more: leave it out where it ends")
    for number, frame in enumerate(frames, first):
        kind = getattr(frame, "dtype", type(frame).__name__)
        shape = list(getattr(frame, "shape", ()))
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(
                f"pose: frame {number} is {kind} {shape}, expected uint8 RGB [height, width, 3]"
            )
        if frame.shape != frames[0].shape:
            (height, width, _), (wanted_height, wanted_width, _) = frame.shape, frames[0].shape
            raise ValueError(
                f"pose: frame {number} is {width} x {height} pixels, frame {first} {wanted_width} "
                f"x {wanted_height}; wanted one size: scale them before"
            )
    return np.stack(frames)


def pose_frames(pose: Iterable[Array]) -> Iterable[Array]:
    """What it was; ValueError for a file's name or another thing that has no frames."""
    if isinstance(pose, str | bytes | Path) or not isinstance(pose, Iterable):
        raise ValueError(
            f"pose is {type(pose).__name__}, expected frames uint8 RGB [height, width, 3]: "
            "read_pose(path) for a file"
        )
    return pose


def sound_of(tensors: Mapping[str, Array]) -> Array | None:
    """The audio among a request's tensors, float32 or int16 [samples]; several actors' together."""
    if (rows := tensors.get("actor_audio")) is not None:
        mix: Array = rows.sum(axis=0).clip(-1, 1)
        return mix
    return next((tensors[name] for name in AUDIO if name in tensors), None)


def _image_tensor(image: Image) -> dict[str, Array]:
    if isinstance(image, np.ndarray):
        return {"image_rgb": image}
    content = image if isinstance(image, bytes) else _read_image(image)
    if not content:
        raise ValueError(f"image has 0 bytes, expected a file of {PICTURES}")
    return {"image": np.frombuffer(content, np.uint8)}


def _read_image(path: str | Path) -> bytes:
    num_bytes = check_file("image", path).st_size
    if num_bytes > MAX_IMAGE_BYTES:
        raise ValueError(
            f"image {shown(path)} has {num_bytes} bytes, at most {MAX_IMAGE_BYTES} are taken"
        )
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"image {shown(path)} can't be read: {words(error)}") from None


def _utf8(text: str) -> Array:
    """Text as it travels; ValueError for bytes that came with it and are no UTF-8."""
    if not isinstance(text, str):
        raise ValueError(f"prompt is {type(text).__name__}, expected str")
    try:
        return np.frombuffer(text.encode("utf-8"), np.uint8)
    except UnicodeEncodeError:
        raise ValueError(f"prompt '{shown(text)}' is not text in UTF-8") from None


def integer(name: str, value: int) -> Array:
    """An INT64 input [1]; ValueError for what can't be one."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} is {type(value).__name__}, expected int")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} {value} doesn't fit a 64-bit integer")
    return np.array([value], np.int64)


def _as_json(options: Mapping[str, Any]) -> str:
    """The `options` input; ValueError for what JSON can't say."""
    try:
        return json.dumps(dict(options), allow_nan=False)
    except RecursionError:
        raise ValueError("options can't be written as JSON: nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"options can't be written as JSON: {error}") from None
