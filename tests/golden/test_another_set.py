"""Another fixture set of the same layout passes the same tests: nothing is tuned to this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.golden.fixtures import GOLDEN_ROOT, LIVE_AVATAR, manifest, needs_golden, tensors

pytestmark = needs_golden

CLIPS = 3
SUITE = (
    *("tests/golden/test_dit_torch.py", "tests/golden/test_schedule_rope.py"),
    *("tests/golden/test_lora.py", "tests/golden/test_fp8.py", "tests/test_picture.py"),
)


def shorter_set(root: Path) -> None:
    """The set that is here with a run of fewer clips and shorter tables; a run is causal, so what
    is left of it is the run of that length."""
    folder = root / "live_avatar"
    folder.mkdir(parents=True)
    (root / "rolling_forcing").symlink_to(GOLDEN_ROOT / "rolling_forcing")
    for path in LIVE_AVATAR.iterdir():
        (folder / path.name).symlink_to(path)
    run = manifest()["run"]
    blocks, frames = CLIPS * run["num_blocks_per_clip"], CLIPS * run["infer_frames"]
    kept = dict(tensors("tpp_run"))
    for name in ("final_latents", "noise", "relative_dist", "velocity"):
        kept[name] = kept[name][:CLIPS]
    kept["audio_bucket"] = kept["audio_bucket"][..., :frames]
    kept["cache_checksums"] = kept["cache_checksums"][:, :blocks]
    kept["video_strided"] = kept["video_strided"][:, : frames - 3]
    (folder / "tpp_run.safetensors").unlink()
    save_file({k: t.contiguous() for k, t in kept.items()}, folder / "tpp_run.safetensors")
    changed = json.loads(json.dumps(manifest()))
    changed["set"], changed["run"]["clips"] = "shorter", CLIPS
    changed["tpp_run"]["video_frames"][1] = frames - 3
    changed["size_table_h_w_area_to_H_W"] = changed["size_table_h_w_area_to_H_W"][::2]
    changed["audio_index_tables"] = changed["audio_index_tables"][1:]
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(changed))


def test_a_shorter_set_passes_the_same_suite(tmp_path: Path) -> None:
    """Sizes would stand in the tests, or in the code, instead of being read from the set."""
    shorter_set(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITE]
    environment = {**os.environ, "GOLDEN_ROOT": str(tmp_path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "skipped" not in run.stdout.splitlines()[-1]


def test_a_set_with_another_number_in_it_fails(tmp_path: Path) -> None:
    """The suite would pass whatever the set says."""
    shorter_set(tmp_path)
    path = tmp_path / "live_avatar" / "manifest.json"
    changed = json.loads(path.read_text())
    changed["size_table_h_w_area_to_H_W"][0][3] += 64
    path.write_text(json.dumps(changed))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE[-1]]
    environment = {**os.environ, "GOLDEN_ROOT": str(tmp_path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout[-3000:]
