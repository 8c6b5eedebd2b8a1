"""What a client may ask: the tensors of one request, checked and named.

A bad value is a ValueError that says which input, what came and what was wanted; it reaches the
client as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.pictures.format import TAKEN
from pipeline.pictures.reference import PICTURE_FITS
from pipeline.sessions.json_options import check_integer, read_options, shown

MAX_REQUEST_SECONDS = 600
"""Audio that one request may carry."""
MAX_PROMPT_BYTES = 8192
_PEAK = 4.0  # float audio is in [-1, 1]; more than this is int16 scale or garbage


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The JSON object of the `options` input."""

    sink_distance: int | None = None
    """Latent frames between block and reference token; None draws them from the seed."""
    recalibrate: bool = True
    """Put the first generated latent frame into the sink (spec/live_avatar 7)."""
    picture_fit: str = "cover"
    """How a picture of another aspect is made to fit, one of PICTURE_FITS."""
    drop_first_frames: int = 0
    """Video frames to leave out at the start; 3 gives the release's alignment, where the picture
    leads the sound by 120 ms."""

    @classmethod
    def parse(cls, raw: bytes, config: PipelineConfig) -> Options:
        """Read UTF-8 JSON; empty means all defaults."""
        known = ("sink_distance", "recalibrate", "picture_fit", "drop_first_frames")
        values = read_options(raw, known)
        distance = values.get("sink_distance", config.sink_distance)
        if distance == "seeded":
            distance = None
        elif distance is not None:
            check_integer("sink_distance", distance, 0, config.sink_position, " or 'seeded'")
        drop = values.get("drop_first_frames", 0)
        check_integer("drop_first_frames", drop, 0, config.video_frames_per_block - 1)
        recalibrate = values.get("recalibrate", True)
        if not isinstance(recalibrate, bool):
            raise ValueError(f"option recalibrate is {shown(recalibrate)}, wanted true or false")
        fit = values.get("picture_fit", "cover")
        if fit not in tuple(PICTURE_FITS):
            wanted = " or ".join(PICTURE_FITS)
            raise ValueError(f"option picture_fit is {shown(fit)}, wanted {wanted}")
        return cls(
            sink_distance=distance, recalibrate=recalibrate, picture_fit=fit, drop_first_frames=drop
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarRequest:
    """One request of a session. Arrays are float32 unless said otherwise."""

    session: int
    start: bool
    end: bool
    image: bytes | np.ndarray | None = None
    """Encoded picture, or RGB uint8 [H, W, 3]."""
    prompt: str = ""
    text: np.ndarray | None = None
    """Text encoder rows [rows, text_dim] in place of the prompt."""
    seed: int = 0
    options: Options = field(default_factory=Options)
    audio: np.ndarray | None = None
    """[samples] at sample_rate, mono, in [-1, 1]."""
    audio_features: np.ndarray | None = None
    """[1, L+1, Ca, frames of whole blocks], in place of audio."""
    noise: np.ndarray | None = None
    """[blocks, C, F, h, w]: step 0's input for the next blocks, in place of the seed's."""
    sink_distance: np.ndarray | None = None
    """int64 [blocks, num_steps], likewise."""


def parse_request(
    inputs: Mapping[str, np.ndarray],
    *,
    session: int,
    start: bool,
    end: bool,
    config: PipelineConfig,
) -> AvatarRequest:
    """Check a request's tensors (wire names, docs/protocol.md)."""
    check_sequence(inputs, session, start, ("image", "image_rgb", "prompt", "text"))
    return AvatarRequest(
        session=session,
        start=start,
        end=end,
        image=_image(inputs) if start else None,
        prompt=read_prompt(inputs),
        text=read_text(inputs, config),
        seed=read_seed(inputs),
        options=Options.parse(bytes(inputs.get("options", b"")), config),
        audio=_audio(inputs, config),
        audio_features=_audio_features(inputs, config),
        noise=read_blocks(inputs, "noise", config.latent_shape[1:]),
        sink_distance=_sink_distance(inputs, config),
    )


def check_sequence(
    inputs: Mapping[str, np.ndarray], session: object, start: bool, start_only: Sequence[str]
) -> None:
    """ValueError for a sequence id that is no number, or what belongs to START in mid-session:
    `start_only`, seed and options."""
    if not isinstance(session, int):  # Triton takes text, too
        raise ValueError(f"sequence id is the text {shown(session)}, wanted a 64-bit integer")
    for name in (*start_only, "seed", "options"):
        if name in inputs and not start:
            raise ValueError(f"{name} came in mid-session; it belongs to the START request")


def _image(inputs: Mapping[str, np.ndarray]) -> bytes | np.ndarray:
    given = [name for name in ("image", "image_rgb") if name in inputs]
    if len(given) != 1:
        raise ValueError(
            f"START carries {' and '.join(given) or 'no picture'}, wanted one of image "
            f"({TAKEN}, its bytes) and image_rgb (uint8 [height, width, 3])"
        )
    return inputs["image"].tobytes() if given == ["image"] else inputs["image_rgb"]


def read_prompt(inputs: Mapping[str, np.ndarray]) -> str:
    """`prompt` of a request, "" if there is none."""
    raw = inputs["prompt"].tobytes() if "prompt" in inputs else b""
    if len(raw) > MAX_PROMPT_BYTES:
        raise ValueError(f"prompt has {len(raw)} bytes, at most {MAX_PROMPT_BYTES} are taken")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompt is not UTF-8: {error}") from error


def read_text(
    inputs: Mapping[str, np.ndarray], config: PipelineConfig | RollingConfig
) -> np.ndarray | None:
    """`text` [1..text_len, text_dim] of a request, finite."""
    text = inputs.get("text")
    if text is not None and (
        text.ndim != 2 or text.shape[1] != config.text_dim or text.shape[0] > config.text_len
    ):
        raise ValueError(
            f"text is {list(text.shape)}, wanted [1..{config.text_len}, {config.text_dim}]"
        )
    if text is not None:
        _check_finite("text", text)
    return text


def read_seed(inputs: Mapping[str, np.ndarray]) -> int:
    """`seed` of a request, 0 if there is none."""
    seed = inputs.get("seed")
    if seed is None:
        return 0
    if seed.shape != (1,):
        raise ValueError(f"seed is {list(seed.shape)}, wanted one integer [1]")
    return int(seed[0])


def _audio(inputs: Mapping[str, np.ndarray], config: PipelineConfig) -> np.ndarray | None:
    given = [name for name in ("audio", "audio_int16", "audio_features") if name in inputs]
    if len(given) > 1:
        raise ValueError(f"request carries {' and '.join(given)}, wanted one of them")
    if not given or given == ["audio_features"]:
        return None
    audio = inputs[given[0]]
    limit = MAX_REQUEST_SECONDS * config.sample_rate
    if not 1 <= audio.size <= limit:
        raise ValueError(
            f"{given[0]} has {audio.size} samples ({audio.size / config.sample_rate:.2f} s), "
            f"wanted 1..{limit} ({MAX_REQUEST_SECONDS} s) in one request"
        )
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / 32768.0
    peak = float(np.abs(audio).max())
    if not np.isfinite(peak):
        bad = int(np.flatnonzero(~np.isfinite(audio))[0])
        raise ValueError(f"audio sample {bad} is {audio[bad]}, wanted finite numbers in [-1, 1]")
    if peak > _PEAK:
        raise ValueError(
            f"audio peaks at {peak:g}, wanted [-1, 1]; 16-bit samples go to audio_int16"
        )
    return audio


def _audio_features(inputs: Mapping[str, np.ndarray], config: PipelineConfig) -> np.ndarray | None:
    features = inputs.get("audio_features")
    if features is None:
        return None
    wanted = (1, config.audio_layers, config.audio_dim)
    per_block = config.video_frames_per_block
    if (
        features.ndim != 4
        or features.shape[:3] != wanted
        or features.shape[3] == 0
        or features.shape[3] % per_block
    ):
        raise ValueError(
            f"audio_features is {list(features.shape)}, wanted [{', '.join(map(str, wanted))}, "
            f"a multiple of {per_block}]"
        )
    _check_finite("audio_features", features)
    return features


def _sink_distance(inputs: Mapping[str, np.ndarray], config: PipelineConfig) -> np.ndarray | None:
    distances = read_blocks(inputs, "sink_distance", (config.num_steps,))
    if distances is not None and (distances.min() < 0 or distances.max() > config.sink_position):
        raise ValueError(
            f"sink_distance spans {distances.min()}..{distances.max()}, "
            f"wanted 0..{config.sink_position}"
        )
    return distances


def read_blocks(
    inputs: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> np.ndarray | None:
    """An input [blocks, *shape] with one or more blocks, finite."""
    array = inputs.get(name)
    if array is None:
        return None
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or len(array) == 0:
        raise ValueError(
            f"{name} is {list(array.shape)}, wanted [blocks, {', '.join(map(str, shape))}]"
        )
    _check_finite(name, array)
    return array


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite numbers")
