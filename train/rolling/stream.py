"""Streams of a student in torch, as `pipeline.rolling.window` serves them: for evaluation.

B streams   C channels   F latent frames of a block   h, w latent size
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from networks.causal_wan import CausalWan
from pipeline.config.rolling import RollingConfig
from train.rolling.rollout import CachedWan, Draw, Rollout


@torch.no_grad()
def stream(
    wan: CausalWan,
    config: RollingConfig,
    text: Tensor,
    draw: Draw,
    num_blocks: int | None = None,
    *,
    later: Mapping[int, Tensor] | None = None,
) -> Iterator[Tensor]:
    """Finished blocks [B, C, F, h, w] under the rules of `config`, endless without `num_blocks`.
    text [B, text_len, text_dim]; draw(b, l) is the noise that enters block b at level l. `later`:
    once so many blocks are finished, this text holds, for those in flight, too. Only fresh noise
    between levels is done here, and no cache is run again under a later text."""
    if config.sampler != "renoise":
        raise ValueError(f"sampler is {config.sampler!r}, wanted 'renoise'")
    if later and config.recache != "none":
        raise ValueError(f"recache is {config.recache!r}, wanted 'none' where the text changes")
    cached = CachedWan(wan, text, config.frames_per_block)
    run, current, number = Rollout(cached, config), {}, 0
    last = config.num_levels - 1
    while num_blocks is None or number < run.plan.num_ticks(num_blocks):
        if later and (done := number - config.window_blocks + 1) in later:
            cached.texts = wan.text_keys_values(later[done])
        tick = run.plan.tick(number, num_blocks)
        if tick.store is not None:
            (block,) = tick.store.blocks
            cached.store(tick.store, current.pop(block), config.context_timestep)
            _forget(cached, config, block)
        for window in tick.denoise:
            assert window.levels is not None
            for b in window.blocks:
                if b not in current:
                    current[b] = draw(b, 0)
            clean = run.clean(window, torch.cat([current[b] for b in window.blocks], 2),
                              differentiate=False)  # fmt: skip
            made = zip(window.blocks, window.levels, run.blocks(clean), strict=True)
            for b, level, prediction in made:
                current[b] = prediction
                if level < last:
                    current[b] = run.renoised(prediction, level + 1, draw(b, level + 1))
        if tick.finished is not None:
            yield current[tick.finished]
        number += 1


def _forget(cached: CachedWan, config: RollingConfig, stored: int) -> None:
    """Drop what no later pass sees: all but the sink and the latest span."""
    oldest = stored - config.span_blocks
    for block in [b for b in cached.blocks if config.sink_blocks <= b < oldest]:
        del cached.blocks[block]
