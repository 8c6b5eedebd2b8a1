"""The DiT in eager PyTorch against the release's forwards and its complete run."""

import pytest
import torch

from networks.dit import DiT
from tests.golden.avatar.dit_plays import play_forwards, play_run
from tests.golden.avatar.dit_stream import DiTStream, TorchDriver, load_dit
from tests.golden.fixtures import manifest, max_abs, needs_golden, preset, tensors

pytestmark = [needs_golden, pytest.mark.usefixtures("one_thread")]

TOLERANCE = 2e-5
"""float32 sums in another order over four layers; a wrong feature moves 1e-4 and far more."""
CHECKSUM_TOLERANCE = 1e-6
"""Of a checksum's error as a share of the absolute sum, where single errors average out."""


@pytest.fixture(scope="module")
def dit() -> DiT:
    return load_dit()


def test_every_forward_sink_and_ring_equal_the_release(dit: DiT) -> None:
    """Any part of sections 6.1-6.8 would be wrong: sink, growth and wrap of the ring, actors."""
    errors = play_forwards(DiTStream(TorchDriver(dit), dit))
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}
    assert len(errors) > len(manifest()["dit_forward"]["calls"])


def test_the_whole_run_from_noise_equals_the_release(dit: DiT) -> None:
    """Errors that only add up: four caches, recalibration, latents passed from stage to stage."""
    errors = play_run(
        [DiTStream(TorchDriver(dit), dit) for _ in range(preset().pipeline.num_steps)]
    )
    for name, error in errors.items():
        limit = CHECKSUM_TOLERANCE if name.endswith("_sum") else TOLERANCE
        assert error <= limit, (name, error)


def _record(dit: DiT) -> tuple[dict[str, list[torch.Tensor]], list]:
    """Hooks that note the first output of the parts the fixtures describe."""
    seen: dict[str, list[torch.Tensor]] = {}
    parts = {
        "patch": dit.patch_embedding,
        "condenc": dit.cond_encoder,
        "text": dit.text_embedding,
        "audio": dit.casual_audio_encoder,
        "injected": dit.audio_injector,
    }
    parts |= {f"self_attn{i}": block.self_attn for i, block in enumerate(dit.blocks)}
    parts |= {f"block{i}": block for i, block in enumerate(dit.blocks)}

    def note(name: str):
        return lambda _module, _inputs, output: seen.setdefault(name, []).append(output)

    return seen, [part.register_forward_hook(note(name)) for name, part in parts.items()]


def test_intermediates_of_the_first_forward_equal_the_release(dit: DiT) -> None:
    """Tells which part is wrong when the forwards differ."""
    data, call = tensors("dit_forward"), manifest()["dit_forward"]["calls"][0]
    stream, prefix, b = DiTStream(TorchDriver(dit), dit), call["prefix"], call["block"]
    seen, hooks = _record(dit)
    stream.prompt(data["context"])
    stream.prefill(data["ref_latents"], data["motion_latents"])
    assert max_abs(seen["text"][0], data["text_embedding_out"][0]) <= TOLERANCE
    for i in range(len(dit.blocks)):
        assert max_abs(seen[f"block{i}"][0][0], data[f"sink_block{i}_out"][0]) <= TOLERANCE
    seen.clear()
    x, audio, pose = (data[f"b{b}_{name}"] for name in ("x", "audio", "pose"))
    stream.velocity(b, call["timestep"], call["relative_dist"], x, audio, pose=pose)
    for hook in hooks:
        hook.remove()
    for name in ("patch", "condenc"):
        wanted = data[f"{prefix}{name}"][0].flatten(1).T
        assert max_abs(seen[name][0], wanted) <= TOLERANCE, name
    local, global_token = seen["audio"][0]
    assert max_abs(local, data[f"{prefix}audio_local"]) <= TOLERANCE
    assert max_abs(global_token[:, :, None], data[f"{prefix}audio_global"]) <= TOLERANCE
    injected = dict(zip(dit.config.inject_layers, seen["injected"], strict=True))
    for i in range(len(dit.blocks)):
        after = injected.get(i, seen[f"block{i}"][0][0])
        assert max_abs(seen[f"self_attn{i}"][0][0], data[f"{prefix}self_attn{i}"][0]) <= TOLERANCE
        assert max_abs(seen[f"block{i}"][0][0], data[f"{prefix}block{i}"][0]) <= TOLERANCE
        assert max_abs(after, data[f"{prefix}block{i}_audio"][0]) <= TOLERANCE


def test_modulation_vectors_equal_the_release(dit: DiT) -> None:
    """The time MLP, which the served graphs no longer contain, would be wrong."""
    data = tensors("dit_forward")
    calls = [c for c in manifest()["dit_forward"]["calls"] if f"{c['prefix']}time_e" in data]
    assert calls
    for call in calls:
        key = f"{call['prefix']}time_e"
        modulation, head = dit.modulations(torch.tensor([call["timestep"], 0.0]))
        rows = [0, -1]
        wanted = data[f"{call['prefix']}time_proj"][rows]
        assert max_abs(head, data[key][rows]) <= TOLERANCE
        assert max_abs(modulation.flatten(1), wanted) <= TOLERANCE


def test_audio_tokens_of_a_block_equal_the_longer_encoding(dit: DiT) -> None:
    """One copied frame in front must stand for the release's seventy-three."""
    data, columns = tensors("audio_io"), preset().pipeline.video_frames_per_block
    blocks = [int(k.rpartition("block")[2]) for k in data if k.startswith("dit_audio_local_block")]
    assert blocks
    for b in blocks:
        bucket = data["bucket"][..., b * columns : (b + 1) * columns]
        local, global_token = dit.casual_audio_encoder(bucket)
        assert max_abs(local, data[f"dit_audio_local_block{b}"]) <= TOLERANCE
        assert max_abs(global_token[:, :, None], data[f"dit_audio_global_block{b}"]) <= TOLERANCE
