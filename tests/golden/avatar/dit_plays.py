"""The two sequences of DiT calls in the fixtures, played on streams; errors come back by name."""

from typing import Any

import numpy as np

from tests.golden.avatar.dit_stream import DiTStream, reference_position
from tests.golden.fixtures import manifest, max_abs, preset, tensors


def play_forwards(stream: DiTStream) -> dict[str, float]:
    """Every call of `dit_forward` in order -> max abs error of each velocity and of sink, ring."""
    facts, config = manifest()["dit_forward"], stream.config
    data = tensors("dit_forward")
    errors: dict[str, float] = {}
    stream.prompt(data["context"])
    stream.prefill(data["ref_latents"], data["motion_latents"])
    for layer in range(config.num_layers):
        for kv, got in zip("kv", stream.sink(layer), strict=True):
            errors[f"sink_{kv}{layer}"] = max_abs(got, data[f"sink_cond_{kv}{layer}"])
    for call in facts["calls"]:
        b, prefix = call["block"], call["prefix"]
        assert (
            reference_position(call["current_start_frame"], call["relative_dist"])
            == (call["ref_position"])
        )
        velocity = stream.velocity(
            b,
            call["timestep"],
            call["relative_dist"],
            data[f"b{b}_x"],
            data[f"b{b}_audio"],
            pose=data[f"b{b}_pose"],
        )
        errors[f"{prefix}out"] = max_abs(velocity, data[f"{prefix}out"])
        if f"b{b}_ring_k0" in data:
            for kv, got in zip("kv", stream.ring(0), strict=True):
                errors[f"{prefix}ring_{kv}"] = max_abs(got, data[f"b{b}_ring_{kv}0"])
                # Only the block's last evaluation leaves the ring that the fixtures hold.
                last = [c for c in facts["calls"] if c["block"] == b][-1]
                if call is not last:
                    del errors[f"{prefix}ring_{kv}"]
    errors["multi_out"] = _play_actors(stream)
    return errors


def _play_actors(stream: DiTStream) -> float:
    """One more block with two actors and a token mask."""
    facts, data = manifest()["dit_forward"]["multi_actor"], tensors("dit_forward")
    mask = data["multi_mask"][:, : stream.config.frames_per_block]
    velocity = stream.velocity(
        facts["block"],
        facts["timestep"],
        facts["relative_dist"],
        data["multi_x"],
        data["multi_audio"],
        mask=mask.reshape(len(mask), -1, 1),
    )
    return max_abs(velocity, data["multi_out"])


def play_run(streams: list[DiTStream]) -> dict[str, float]:
    """The DiT part of `tpp_run` from its noise, one stream per stage, each latent passed on.

    Returns the largest error of all velocities, final latents, sinks, and (relative) checksums.
    """
    data, config = tensors("tpp_run"), preset().pipeline
    clips, blocks, stages = data["relative_dist"].shape
    dsigmas, frames = np.diff(data["sigmas"].numpy()), config.frames_per_block
    columns = config.video_frames_per_block
    worst = dict.fromkeys(("velocity", "final", "sink", "ring", "cache_sum", "sink_sum"), 0.0)
    for stream in streams:
        stream.prompt(data["context"])
    for clip in range(clips):
        if clip < 2:
            name = "ref_latents_initial" if clip == 0 else "ref_latents_recalibrated"
            for s, stream in enumerate(streams):
                stream.prefill(data[name], data["motion_latents"])
                _note(worst, "sink_sum", _sink_checksums(stream, s, clip))
            _note(worst, "sink", _sink_error(streams[0], clip))
        for b in range(blocks):
            g = clip * blocks + b
            x = data["noise"][clip, :, b * frames : (b + 1) * frames].numpy()
            audio = data["audio_bucket"][..., g * columns : (g + 1) * columns]
            for s, stream in enumerate(streams):
                distance = int(data["relative_dist"][clip, b, s])
                v = stream.velocity(g, float(data["timesteps"][s]), distance, x, audio)
                _note(worst, "velocity", max_abs(v, data["velocity"][clip, b, s]))
                x = x + dsigmas[s] * v
                _note(worst, "cache_sum", _cache_checksums(stream, s, g))
                for kv, got in zip("kv", stream.ring(0), strict=True):
                    key = f"ring_{kv}_layer0_stage{s}_block{g}"
                    if key in data:
                        _note(worst, "ring", max_abs(got, data[key]))
            _note(worst, "final", max_abs(x, data["final_latents"][clip, b]))
    assert stages == len(streams)
    return worst


def _note(worst: dict[str, float], name: str, error: float) -> None:
    worst[name] = max(worst[name], error)


def _sink_error(stream: DiTStream, clip: int) -> float:
    data, last = tensors("tpp_run"), stream.config.num_layers - 1
    return max(
        max_abs(got, data[f"sink{clip}_cond_{kv}_layer{name}"])
        for layer, name in ((0, "0"), (last, "last"))
        for kv, got in zip("kv", stream.sink(layer), strict=True)
    )


def checksum_error(parts: tuple[Any, ...], wanted: Any) -> float:
    """Error of (sum, abs sum, dot with cos(0.37 i)) as a share of the abs sum."""
    worst = 0.0
    for part, sums in zip(parts, wanted.numpy(), strict=True):
        flat = np.asarray(part, np.float64).reshape(-1)
        wave = np.cos(0.37 * np.arange(flat.size))
        got = np.array([flat.sum(), np.abs(flat).sum(), flat @ wave])
        worst = max(worst, float(np.abs(got - sums).max() / sums[1]))
    return worst


def _sink_checksums(stream: DiTStream, stage: int, clip: int) -> float:
    wanted = tensors("tpp_run")["sink_checksums"][stage, clip]
    layers = range(stream.config.num_layers)
    # The table's last axis but one may list ring and sink, or the sink alone.
    return max(checksum_error(stream.sink(i), wanted[i][-2:]) for i in layers)


def _cache_checksums(stream: DiTStream, stage: int, block: int) -> float:
    wanted = tensors("tpp_run")["cache_checksums"][stage, block]
    layers = range(stream.config.num_layers)
    return max(checksum_error((*stream.ring(i), *stream.sink(i)), wanted[i]) for i in layers)
