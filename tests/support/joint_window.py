"""The avatar's joint window from the served layers, for tests that compare another form of it.

One stream, block by block as docs/method.md section 8 writes it: no plan, no batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from networks.dit import NOISY, DiT
from networks.layers import attend, rotate
from pipeline.avatar.rope_tables import sink_grid
from pipeline.avatar.stage import unpatchified
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.positions import Positions, grid, tables
from pipeline.denoising.schedule import Schedule
from tests.support.served_dit import ServedStep
from train.network.batched_dit import Conditions

Layers = list[tuple[Tensor, Tensor]]
"""k, before RoPE, and v of each layer, [1, N, tokens, d]."""


def joint_stream(dit: DiT, config: PipelineConfig, conditions: Conditions, noise: Tensor) -> Tensor:
    """noise [1, C, n * F, h, w] -> latents, Euler steps, the reference re-calibrated as served."""
    schedule = Schedule(config.num_steps, config.shift)
    d, span = config.num_steps, config.window_blocks - 1 + config.num_steps
    window = JointWindow(dit, config, conditions)
    latents = list(noise.split(config.frames_per_block, 2))
    clean: dict[int, Layers] = {}
    for w in range(len(latents) + d - 1):
        blocks = range(max(0, w - d + 1), min(len(latents) - 1, w) + 1)
        seen = [clean[b] for b in range(max(0, blocks[0] - span + len(blocks)), blocks[0])]
        levels = [w - b for b in blocks]
        times = [float(schedule.timesteps[level]) for level in levels]
        velocities, _ = window(blocks, [latents[b] for b in blocks], times, seen)
        for b, level, velocity in zip(blocks, levels, velocities, strict=True):
            latents[b] = latents[b] + float(schedule.dsigmas[level]) * velocity
        done = blocks[0]
        if w == d - 1:
            window.recalibrate(latents[0][:, :, :1])
        if w >= d - 1:
            seen = [clean[b] for b in range(max(0, done - span + 1), done)]
            _, clean[done] = window(range(done, done + 1), [latents[done]], [0.0], seen)
    return torch.cat(latents, 2)


class JointWindow:
    """The network on successive blocks that see each other, each at a timestep of its own."""

    def __init__(self, dit: DiT, config: PipelineConfig, conditions: Conditions) -> None:
        self.dit, self.config, self.conditions = dit, config, conditions
        self.sinks = [self._sink(conditions.reference)]

    def recalibrate(self, reference: Tensor) -> None:
        self.sinks.append(self._sink(reference))

    def __call__(
        self, blocks: range, latents: list[Tensor], times: list[float], seen: list[Layers]
    ) -> tuple[list[Tensor], Layers]:
        """Velocity of each block, and the K and V of all of them."""
        dit, c = self.dit, self.config
        num_tokens, kept = c.tokens_per_block, []
        modulation, head = dit.modulations(torch.tensor(times))
        x = torch.cat([dit.patch_embedding(z) + dit.cond_encoder(z * 0) for z in latents])
        x = x + dit.trainable_cond_mask.weight[NOISY]
        audio = [
            dit.casual_audio_encoder(self.conditions.audio[..., 12 * b : 12 * b + 12])
            for b in blocks
        ]
        first = blocks[0] - len(seen)
        frames = range(c.frames_per_block * first, c.frames_per_block * (blocks[-1] + 1))
        turns = self._turns(grid(tuple(frames), c.token_grid))
        for i, layer in enumerate(dit.blocks):
            shift1, scale1, gate1, shift2, scale2, gate2 = [
                (layer.modulation[0, part] + modulation[:, part]).repeat_interleave(num_tokens, 0)
                for part in range(6)
            ]
            normed = F.layer_norm(x, x.shape[1:]) * (1 + scale1) + shift1
            q = layer.self_attn.queries(normed, len(x))
            k, v = layer.self_attn.keys_values(normed, len(x))
            kept.append((k, v))
            k, v = (
                torch.cat([*(old[i][part] for old in seen), new], 2)
                for part, new in enumerate((k, v))
            )
            k, q = rotate(k, *turns), rotate(q, *(part[:, -len(x) :] for part in turns))
            attended = [
                self._attend(b, i, own, k, v)
                for b, own in zip(blocks, q.split(num_tokens, 2), strict=True)
            ]
            x = x + gate1 * torch.cat(attended)
            text = (self.text[f"text_{kv}_{i}"] for kv in "kv")
            x = x + layer.cross_attn(layer.norm3(x), *text)
            normed = F.layer_norm(x, x.shape[1:]) * (1 + scale2) + shift2
            x = x + gate2 * layer.ffn(normed)
            if i in dit.config.inject_layers:
                index, mask = dit.config.inject_layers.index(i), torch.ones(1, num_tokens, 1)
                pairs = zip(x.split(num_tokens), audio, strict=True)
                x = torch.cat([dit.audio_injector(index, own, heard, mask) for own, heard in pairs])
        made = [
            torch.from_numpy(unpatchified(dit.head(own, head[j : j + 1]).detach().numpy(), c))
            for j, own in enumerate(x.split(num_tokens))
        ]
        return made, kept

    def _attend(self, block: int, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One block's queries on the sink, its reference rolled ahead of them, and the rest."""
        c = self.config
        sink = self.sinks[block >= c.recalibrate_block]
        position = max(c.sink_position, block * c.frames_per_block + c.sink_distance)
        sink_k, sink_v = sink[layer]
        sink_k = rotate(sink_k, *self._turns(sink_grid(c, position)))
        keys, values = torch.cat([sink_k, k], 2), torch.cat([sink_v, v], 2)
        return self.dit.blocks[layer].self_attn.project(attend(q, keys, values))

    def _turns(self, positions: Positions) -> tuple[Tensor, ...]:
        made = tables(positions, self.config.head_dim, self.config.round_rope_to_half)
        return tuple(torch.from_numpy(table)[None] for table in made)

    def _sink(self, reference: Tensor) -> Layers:
        served = ServedStep(self.dit, self.config, 0.0)
        served.prefill(reference, self.conditions.motion, self.conditions.text)
        self.text, length = served.layers, self.config.num_sink_tokens
        names = [[f"cache_{kv}_{i}" for kv in "kv"] for i in range(self.config.num_layers)]
        return [tuple(served.layers[name][:, :, :length] for name in pair) for pair in names]  # type: ignore[misc]
