"""What a client of `rolling_forcing` may ask: one request's tensors, checked and named."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import DEPLOYED
from pipeline.engines.base import Array, Arrays
from pipeline.sessions.checks import (
    check_bytes,
    check_sequence,
    read_blocks,
    read_prompt,
    read_received,
    read_seed,
    read_text,
)
from pipeline.sessions.json_options import check_integer, read_options, shown

MAX_BLOCKS = 1_000_000
"""Blocks that one request may ask for, and a stream's length: nine days at 16 frames a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingOptions:
    """The JSON object of the `options` input."""

    num_frames: int | None = None  # length of the stream in video frames; None: until END
    rules: str = DEPLOYED  # schedule and cache, by their name in `pipeline.config.rules`

    @classmethod
    def parse(cls, raw: bytes, config: RollingConfig, rules: Iterable[str]) -> "RollingOptions":
        """Read UTF-8 JSON; empty means all defaults. `rules` are those that are served."""
        values = read_options(raw, ("blocks", "seconds", "rules"))
        if "blocks" in values and "seconds" in values:
            raise ValueError("options has blocks and seconds, wanted one of them")
        num_frames = None
        if "blocks" in values:
            check_integer("blocks", values["blocks"], 1, MAX_BLOCKS)
            num_frames = config.video_frames(values["blocks"])
        elif "seconds" in values:
            num_frames = _frames_of(values["seconds"], config)
        known = list(rules)
        if (chosen := values.get("rules", DEPLOYED)) not in known:
            raise ValueError(f"option rules is {shown(chosen)}, wanted one of {', '.join(known)}")
        return cls(num_frames=num_frames, rules=chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingRequest:
    """One request of a session."""

    session: int
    start: bool
    end: bool
    prompt: str | None = None  # None: as before, in a START the empty prompt
    text: Array | None = None
    """Text encoder rows float32 [1, text_len, text_dim] in place of the prompt."""
    seed: int = 0
    received: int | None = None  # blocks that the client has read
    options: RollingOptions = field(default_factory=RollingOptions)
    num_blocks: int | None = None
    """How many more blocks to make; None: none, but with `end` what is left of the stream."""
    noise: Array | None = None
    """float32 [blocks, levels, C, F, h, w] of the next blocks to enter, in place of the seed's."""

    @property
    def has_prompt(self) -> bool:
        """Whether the request says what the video shows from now on."""
        return self.prompt is not None or self.text is not None


def parse_rolling_request(
    inputs: Arrays, *, session: int, start: bool, end: bool, rules: Mapping[str, RollingConfig]
) -> RollingRequest:
    """Check a request's tensors (wire names, docs/protocol.md); `rules` are those served."""
    config = rules[DEPLOYED]
    check_sequence(inputs, session, start, start_only=())
    check_bytes(inputs, {})
    if "prompt" in inputs and "text" in inputs:
        raise ValueError("request carries prompt and text, wanted one of them")
    return RollingRequest(
        session=session,
        start=start,
        end=end,
        prompt=read_prompt(inputs) if "prompt" in inputs else None,
        text=read_text(inputs, config),
        seed=read_seed(inputs),
        received=read_received(inputs),
        options=RollingOptions.parse(bytes(inputs.get("options", b"")), config, rules),
        num_blocks=_num_blocks(inputs),
        noise=_noise(inputs, config),
    )


def _frames_of(seconds: object, config: RollingConfig) -> int:
    longest = config.video_frames(MAX_BLOCKS) / config.fps
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < float(seconds) <= longest:  # type: ignore[arg-type]
        raise ValueError(
            f"option seconds is {shown(seconds)}, wanted a number above 0, {longest:g} at most"
        )
    return math.ceil(float(seconds) * config.fps - 1e-9)  # type: ignore[arg-type]


def _num_blocks(inputs: Arrays) -> int | None:
    value = inputs.get("num_blocks")
    if value is None:
        return None
    if value.shape != (1,) or not 0 <= int(value[0]) <= MAX_BLOCKS:
        raise ValueError(
            f"num_blocks is {shown(value.tolist())}, wanted one integer 0..{MAX_BLOCKS}: "
            "how many more blocks to make"
        )
    return int(value[0])


def _noise(inputs: Arrays, config: RollingConfig) -> Array | None:
    noise = inputs.get("noise")
    levels = noise.shape[1] if noise is not None and noise.ndim == 6 else config.num_levels
    return read_blocks(inputs, "noise", (levels, *config.latent_shape[1:]))
