"""What lies in the memory of a GPU, and how many sessions fit beside it."""

import dataclasses
import math

import pytest

from export.engines.network import read_model
from export.repository.catalogue import AVATAR, ROLLING
from export.repository.memory import (
    PROCESS_BYTES,
    avatar_memory,
    check_fits,
    engine_size,
    rolling_memory,
)
from export.repository.placement import place
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.engines.manifest import Manifest
from tests.support.plans import DEMO, ROLLING_DEMO, describe

CONFIG = PipelineConfig.load(DEMO / "pipeline.json")


@pytest.fixture(scope="module")
def manifests() -> dict[str, Manifest]:
    return {name: describe(name) for name in AVATAR.graphs}


def test_the_memory_of_a_gpu_is_the_sum_of_what_it_holds(manifests: dict[str, Manifest]) -> None:
    """The table decides how many sessions are let in."""
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    c = CONFIG
    layers = 2 * c.num_layers * c.num_heads * c.head_dim * 4  # K and V in float32
    for num_gpus in range(1, 6):
        placement = place(c.num_steps, num_gpus)
        rows = avatar_memory(placement, sizes, 32_000_000_000)
        total = sum(row.caches for row in rows)
        assert total == c.num_steps * c.cache_len * layers + len(placement.steps) * (
            c.text_len * layers
        )
        assert sum(row.vae_state for row in rows) == sizes["vae_decoder"].state
        assert rows[placement.vae_gpu].vae_state > 0
        weights = 2_001_000_000
        assert rows[0].weights == weights * (4 if num_gpus > 1 else 10)
        for row in rows:
            assert row.fixed == row.weights + row.scratch + row.processes
            assert row.processes in (PROCESS_BYTES, 2 * PROCESS_BYTES, 3 * PROCESS_BYTES)
            room = row.capacity - row.fixed
            assert row.sessions * row.per_session <= room < (row.sessions + 1) * row.per_session


def test_the_encoder_of_pose_videos_is_counted_where_it_is_wanted(
    manifests: dict[str, Manifest],
) -> None:
    """Sessions would be let in whose pose finds no memory, or a GPU that is busy already."""
    pose = {name: engine_size(describe(name)) for name in AVATAR.pose_graphs}
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()} | pose
    placement = place(CONFIG.num_steps, 5)
    plain, posed = (
        avatar_memory(placement, sizes, 32_000_000_000, 0.2, pose=wanted)
        for wanted in (False, True)
    )
    assert plain[:4] == posed[:4]
    assert pose["pose_encoder"].state > 0
    assert posed[4].vae_state == plain[4].vae_state + pose["pose_encoder"].state
    assert posed[4].processes == plain[4].processes + PROCESS_BYTES
    assert posed[4].busy > plain[4].busy


def test_the_cache_is_counted_as_the_graph_declares_it() -> None:
    """Bytes of `cache_*` inputs, from the shapes, once: outputs share their memory."""
    size = engine_size(describe("dit_step"))
    graph = read_model(DEMO / "dit_step.onnx").graph
    wanted = sum(
        4 * math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in graph.input
        if value.name.startswith("cache_")
    )
    assert size.state == wanted


def test_weights_that_stay_in_host_memory_are_not_counted() -> None:
    """At 14B in bfloat16 this decides whether a session fits on 80 GB at all."""
    manifest = dataclasses.replace(describe("dit_text"), streams_weights=True)
    assert engine_size(manifest).weights == 0
    assert engine_size(describe("dit_text")).weights == 2_001_000_000


def test_a_table_without_rows_that_fall_short_passes(manifests: dict[str, Manifest]) -> None:
    """The check itself must let good plans through."""
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    rows = avatar_memory(place(4, 5), sizes, 32_000_000_000)
    check_fits(rows, min(row.sessions for row in rows))
    with pytest.raises(ValueError, match="do not fit"):
        check_fits(rows, min(row.sessions for row in rows) + 1)


def test_the_memory_is_the_sum_of_what_the_gpu_holds() -> None:
    """The table decides how many streams are let in."""
    c, graphs = RollingConfig.load(ROLLING_DEMO / "rolling.json"), ROLLING.graphs
    manifests = {name: describe(name, ROLLING_DEMO, 999_000_000) for name in graphs}
    sizes = {name: engine_size(manifest) for name, manifest in manifests.items()}
    row = rolling_memory(c, sizes, 32_000_000_000)
    per_token = 2 * c.num_layers * c.num_heads * c.head_dim * 4  # K and V, float32 as exported
    assert row.caches == (c.cache_len + c.text_len) * per_token
    assert row.weights == len(graphs) * 1_000_000_000
    assert row.scratch == 3 * 100_000_000  # one set for each process
    assert row.processes == 3 * PROCESS_BYTES
    states = [
        spec.num_bytes
        for name, spec in manifests["vae_decoder"].inputs.items()
        if name.startswith("state_")
    ]
    assert row.vae_state == 2 * sum(states) > 0
    latent = manifests["dit_window"].inputs["latent"].num_bytes
    assert row.bindings > c.window_blocks * 2 * latent  # it comes, and a velocity goes
    room = row.capacity - row.fixed
    assert row.sessions * row.per_session <= room < (row.sessions + 1) * row.per_session
