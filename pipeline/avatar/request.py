"""What a client of `live_avatar` may ask: one request's tensors, checked and named."""

from dataclasses import dataclass, field, fields

import numpy as np

from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, Arrays
from pipeline.pictures.decoding import MAX_BYTES as MAX_PICTURE_BYTES
from pipeline.pictures.format import TAKEN
from pipeline.pictures.masks import check_masks
from pipeline.pictures.reference import MAX_PIXELS, PICTURE_FITS, check_rgb
from pipeline.sessions.checks import (
    check_bytes,
    check_finite,
    check_sequence,
    read_blocks,
    read_prompt,
    read_received,
    read_seed,
    read_text,
)
from pipeline.sessions.json_options import check_bool, check_integer, read_options, shown

MAX_REQUEST_SECONDS = 600
"""Audio that one request may carry."""
_ANY = 2**31  # sound is refused by its seconds, before it is copied
MAX_BYTES = {
    "image": MAX_PICTURE_BYTES,
    "image_rgb": 3 * MAX_PIXELS,
    "audio": _ANY,
    "audio_int16": _ANY,
    "actor_audio": _ANY,
}
"""Of inputs that are larger than others, or smaller."""
SOUNDS = ("audio", "audio_int16", "actor_audio", "audio_features")
MAX_POSE_PIXELS, MAX_POSE_SIDE = 2**20, 4096
"""Of a frame of a pose video."""
ANY_BLOCK = -1
_PEAK = 4.0  # float audio is in [-1, 1]; more than this is int16 scale or garbage


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The JSON object of the `options` input."""

    sink_distance: int | None = None
    """Latent frames between block and reference token; None draws them from the seed."""
    recalibrate: bool = True
    """Put the first generated latent frame into the sink (docs/method.md section 3)."""
    picture_fit: str = "cover"
    """How a picture of another aspect is made to fit, one of PICTURE_FITS."""
    drop_first_frames: int = 0
    """Video frames to leave out at the start; 3 gives the release's alignment, where the picture
    leads the sound by 120 ms."""
    live: bool = False
    """One block at each station, so that an interruption finds little under way; and a loudness
    that silence does not change."""
    look_ahead_frames: int | None = None
    """Video frames of sound behind a block that it waits for; None: as many as were trained."""
    rebind: bool = False
    """A block that is made again keeps its first denoising step, with the sound of before."""

    @classmethod
    def parse(cls, raw: bytes, config: PipelineConfig) -> "Options":
        """Read UTF-8 JSON; empty means all defaults."""
        known = tuple(field.name for field in fields(cls))
        values = read_options(raw, known)
        distance = values.get("sink_distance", config.sink_distance)
        if distance == "seeded":
            distance = None
        elif distance is not None:
            check_integer("sink_distance", distance, 0, config.sink_position, " or 'seeded'")
        drop = values.get("drop_first_frames", 0)
        check_integer("drop_first_frames", drop, 0, config.video_frames_per_block - 1)
        recalibrate = check_bool("recalibrate", values.get("recalibrate", True))
        live = check_bool("live", values.get("live", False))
        rebind = check_bool("rebind", values.get("rebind", False))
        ahead = values.get("look_ahead_frames")
        if ahead is not None:
            check_integer("look_ahead_frames", ahead, 0, config.audio_lookahead_frames)
        fit = values.get("picture_fit", "cover")
        if fit not in tuple(PICTURE_FITS):
            wanted = " or ".join(PICTURE_FITS)
            raise ValueError(f"option picture_fit is {shown(fit)}, wanted {wanted}")
        return cls(
            sink_distance=distance,
            recalibrate=recalibrate,
            picture_fit=fit,
            drop_first_frames=drop,
            live=live,
            look_ahead_frames=ahead,
            rebind=rebind,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarRequest:
    """One request of a session. Arrays are float32 unless said otherwise."""

    session: int
    start: bool
    end: bool
    image: bytes | Array | None = None  # encoded picture, or RGB uint8 [H, W, 3]
    prompt: str | None = None  # None: none was said
    text: Array | None = None  # text encoder rows [1, text_len, text_dim] in place of the prompt
    seed: int = 0
    received: int | None = None  # blocks that the client has read
    options: Options = field(default_factory=Options)
    audio: Array | None = None
    """[samples] at sample_rate, mono, in [-1, 1]; or a row for each of `actors`."""
    actors: tuple[int, ...] = (0,)  # whose sound it is
    audio_features: Array | None = None
    """[actors, L+1, Ca, frames of whole blocks], in place of audio."""
    actor_masks: Array | None = None  # uint8 [actors, h, w], not zero where one is
    pose: Array | None = None  # uint8 RGB [frames, h, w, 3], what the next ones follow
    pose_latents: Array | None = None  # [blocks, C, F, h, w], in place of pose
    noise: Array | None = None
    """[blocks, C, F, h, w]: step 0's input for the next blocks, in place of the seed's."""
    sink_distance: Array | None = None  # int64 [blocks, num_steps], likewise
    interrupt: int | None = None
    """From which block on other sound comes; ANY_BLOCK: from the first that was not begun."""

    @property
    def num_actors(self) -> int:
        """How many the session has, of a START."""
        return 1 if self.actor_masks is None else len(self.actor_masks)

    @property
    def has_prompt(self) -> bool:
        """Whether it says what the video shows from here on."""
        return self.prompt is not None or self.text is not None


def parse_request(
    inputs: Arrays, *, session: int, start: bool, end: bool, config: PipelineConfig
) -> AvatarRequest:
    """Check a request's tensors (wire names, docs/protocol.md)."""
    check_sequence(inputs, session, start, ("image", "image_rgb", "actor_masks"))
    check_bytes(inputs, MAX_BYTES)
    return AvatarRequest(
        session=session,
        start=start,
        end=end,
        image=_image(inputs) if start else None,
        prompt=read_prompt(inputs) if "prompt" in inputs else None,
        text=read_text(inputs, config),
        seed=read_seed(inputs),
        received=read_received(inputs),
        options=Options.parse(bytes(inputs.get("options", b"")), config),
        audio=_audio(inputs, config),
        actors=_actors(inputs, config),
        audio_features=_audio_features(inputs, config),
        actor_masks=_actor_masks(inputs, config),
        pose=_pose(inputs),
        pose_latents=read_blocks(inputs, "pose_latents", config.latent_shape[1:]),
        noise=read_blocks(inputs, "noise", config.latent_shape[1:]),
        sink_distance=_sink_distance(inputs, config),
        interrupt=_interrupt(inputs, start),
    )


def _interrupt(inputs: Arrays, start: bool) -> int | None:
    if (given := inputs.get("interrupt")) is None:
        return None
    if start:
        raise ValueError("interrupt came with START, when nothing has been said yet")
    if given.shape != (1,) or given[0] < ANY_BLOCK:
        shown_values = given.reshape(-1)[:4].tolist()
        raise ValueError(f"interrupt is {shown_values}, wanted a block [n], or [{ANY_BLOCK}]")
    return int(given[0])


def _image(inputs: Arrays) -> bytes | Array:
    given = [name for name in ("image", "image_rgb") if name in inputs]
    if len(given) != 1:
        raise ValueError(
            f"START carries {' and '.join(given) or 'no picture'}, wanted one of image "
            f"({TAKEN}, its bytes) and image_rgb (uint8 [height, width, 3])"
        )
    return inputs["image"].tobytes() if given == ["image"] else check_rgb(inputs["image_rgb"])


def _audio(inputs: Arrays, config: PipelineConfig) -> Array | None:
    given = [name for name in SOUNDS if name in inputs]
    if len(given) > 1:
        raise ValueError(f"request carries {' and '.join(given)}, wanted one of them")
    if not given or given == ["audio_features"]:
        return None
    audio = inputs[given[0]]
    limit, size = MAX_REQUEST_SECONDS * config.sample_rate, audio.shape[-1]
    if not 1 <= size <= limit:
        raise ValueError(
            f"{given[0]} has {size} samples ({size / config.sample_rate:.2f} s), "
            f"wanted 1..{limit} ({MAX_REQUEST_SECONDS} s) in one request"
        )
    if not len(audio):
        raise ValueError(f"actor_audio is {list(audio.shape)}, wanted a row for every actor")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / 32768.0
    peak = float(np.abs(audio).max())
    if not np.isfinite(peak):
        bad = int(np.flatnonzero(~np.isfinite(audio))[0])
        value = audio.reshape(-1)[bad]
        raise ValueError(f"{given[0]} sample {bad} is {value}, wanted finite numbers in [-1, 1]")
    if peak > _PEAK:
        raise ValueError(
            f"{given[0]} peaks at {peak:g}, wanted [-1, 1]; 16-bit samples go to audio_int16"
        )
    return audio


def _actors(inputs: Arrays, config: PipelineConfig) -> tuple[int, ...]:
    """Whose sound comes: the first actor's, or those of `actor_audio`'s rows."""
    named, rows = inputs.get("actors"), inputs.get("actor_audio")
    if rows is None:
        if named is not None:
            raise ValueError("actors came without actor_audio, whose rows it names")
        return (0,)
    if rows.ndim != 2:
        raise ValueError(f"actor_audio is {list(rows.shape)}, wanted [actors, samples]")
    if named is None:
        return tuple(range(len(rows)))
    actors = tuple(int(actor) for actor in named.reshape(-1)[: config.max_actors + 1])
    if named.shape != (len(rows),) or len(set(actors)) < len(rows) or min(actors, default=0) < 0:
        raise ValueError(
            f"actors is {shown(list(actors))} for {len(rows)} rows of actor_audio, wanted another "
            "number, 0 or more, for each"
        )
    return actors


def _actor_masks(inputs: Arrays, config: PipelineConfig) -> Array | None:
    if (masks := inputs.get("actor_masks")) is None:
        return None
    if masks.ndim != 3 or not masks.size:
        raise ValueError(f"actor_masks is {list(masks.shape)}, wanted [actors, height, width]")
    if len(masks) > config.max_actors:
        raise ValueError(
            f"actor_masks has {len(masks)} actors, this server takes up to {config.max_actors}"
        )
    check_masks(masks)
    return masks


def _pose(inputs: Arrays) -> Array | None:
    if (frames := inputs.get("pose")) is None:
        return None
    if "pose_latents" in inputs:
        raise ValueError("request carries pose and pose_latents, wanted one of them")
    if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ValueError(f"pose is {list(frames.shape)}, wanted [frames, height, width, 3]")
    height, width = frames.shape[1:3]
    if height * width > MAX_POSE_PIXELS or max(height, width) > MAX_POSE_SIDE:
        raise ValueError(
            f"pose has frames of {width} x {height} pixels, wanted at most {MAX_POSE_PIXELS} "
            f"pixels and {MAX_POSE_SIDE} a side: make them smaller"
        )
    return frames


def _audio_features(inputs: Arrays, config: PipelineConfig) -> Array | None:
    features = inputs.get("audio_features")
    if features is None:
        return None
    wanted, per_block = (config.audio_layers, config.audio_dim), config.video_frames_per_block
    shape, frames = features.shape[1:3], features.shape[3:]
    few = features.ndim == 4 and 1 <= len(features) <= config.max_actors
    if not few or shape != wanted or frames[0] == 0 or frames[0] % per_block:
        actors = f"1..{config.max_actors}"
        raise ValueError(
            f"audio_features is {list(features.shape)}, wanted [{actors}, "
            f"{', '.join(map(str, wanted))}, a multiple of {per_block}]"
        )
    check_finite("audio_features", features)
    return features


def _sink_distance(inputs: Arrays, config: PipelineConfig) -> Array | None:
    distances = read_blocks(inputs, "sink_distance", (config.num_steps,))
    if distances is not None and (distances.min() < 0 or distances.max() > config.sink_position):
        raise ValueError(
            f"sink_distance spans {distances.min()}..{distances.max()}, "
            f"wanted 0..{config.sink_position}"
        )
    return distances
