"""Another fixture set, cut from the one that is here: fewer clips, other chunks, other names.

A run, a sequential stream and a streamed decode are causal: the head of one is a whole one.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.golden.fixtures import LIVE_AVATAR, manifest, numbered
from tests.golden.rolling.fixtures import ROLLING, STREAMS, facts

Tensors = dict[str, Tensor]


def num_clips() -> int:
    """Of the shorter run."""
    return max(1, manifest()["run"]["clips"] - 1)


def write_other_set(root: Path) -> None:
    """The whole set; what is not changed is linked."""
    live, rolling = root / "live_avatar", root / "rolling_forcing"
    for source, folder in ((LIVE_AVATAR, live), (ROLLING, rolling)):
        folder.mkdir(parents=True)
        for path in source.iterdir():
            (folder / path.name).symlink_to(path)
    _rewrite(live / "tpp_run.safetensors", _shorter_run)
    _rewrite(live / "vae_io.safetensors", _other_clips)
    _rewrite(live / "audio_io.safetensors", _other_layers)
    _write(live / "manifest.json", _shorter_manifest())
    for name in STREAMS:
        _rename_stream(rolling, name)
    cases = {"self_forcing": "self_forcing", "longlive_switch": "longlive", "dmd": "dmd"}
    for folder, name in {**cases, "train_rollout": "rollout"}.items():
        _rename_cases(rolling, folder, name)
    _rewrite(_own(rolling, "vae") / "vae.safetensors", _shorter_chunks)
    _rewrite(_own(rolling, "primitives") / "primitives.safetensors", _fewer_tables)


def _rewrite(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    changed = change(load_file(path))
    path.unlink()
    save_file({key: tensor.contiguous() for key, tensor in changed.items()}, path)


def _write(path: Path, value: Any) -> None:
    path.unlink()
    path.write_text(json.dumps(value))


def _own(root: Path, name: str) -> Path:
    """The folder as one of links, which may be replaced one by one."""
    source = (root / name).resolve()
    (root / name).unlink()
    (root / name).mkdir()
    for path in source.iterdir():
        (root / name / path.name).symlink_to(path)
    return root / name


def _shorter_run(kept: Tensors) -> Tensors:
    run, clips = manifest()["run"], num_clips()
    frames = clips * run["infer_frames"]
    dropped = run["clips"] * run["infer_frames"] - kept["video_strided"].shape[1]
    for name in ("final_latents", "noise", "relative_dist", "velocity"):
        kept[name] = kept[name][:clips]
    kept["audio_bucket"] = kept["audio_bucket"][..., :frames]
    kept["cache_checksums"] = kept["cache_checksums"][:, : clips * run["num_blocks_per_clip"]]
    kept["video_strided"] = kept["video_strided"][:, : frames - dropped]
    return kept


def _shorter_manifest() -> dict[str, Any]:
    changed = json.loads(json.dumps(manifest()))
    run, fewer = changed["run"], manifest()["run"]["clips"] - num_clips()
    changed["tpp_run"]["video_frames"][1] -= fewer * run["infer_frames"]
    changed["set"], run["clips"] = "other", num_clips()
    changed["size_table_h_w_area_to_H_W"] = changed["size_table_h_w_area_to_H_W"][::2]
    changed["audio_index_tables"] = changed["audio_index_tables"][1:]
    return changed


def _other_clips(kept: Tensors) -> Tensors:
    """The stream in blocks of a latent frame; beside each clip that moves, is black or starts a
    stream another one, which lacks its last latent frame."""
    blocks = numbered(kept, r"stream_block(\d+)_frames")
    frames = [kept.pop(key) for key in blocks.values()]
    squeezed = sum(video.shape[1] for video in frames) // kept["z_blocks"].shape[1]
    pieces = [piece for video in frames for piece in video.split(squeezed, dim=1)]
    kept |= {f"stream_block{i}_frames": piece for i, piece in enumerate(pieces)}
    for length, key in numbered(kept, r"video(\d+)").items():
        kept[f"video{length - squeezed}"] = kept[key][:, :-squeezed]
        kept[f"video{length - squeezed}_latent"] = kept[f"{key}_latent"][:, :-1]
    for length, key in numbered(kept, r"black(\d+)_latent").items():
        kept[f"black{length - squeezed}_latent"] = kept[key][:, :-1]
    for length, key in numbered(kept, r"stream_warmup_first(\d+)").items():
        kept[f"stream_warmup_first{length - squeezed}"] = kept[key][:, :-squeezed]
    return kept


def _other_layers(kept: Tensors) -> Tensors:
    (key,) = (key for key in kept if key.startswith("hidden_states_layers_"))
    layers, states = re.findall(r"\d+", key), kept.pop(key)
    kept["hidden_states_layers_" + "_".join(layers[::2])] = states[::2]
    return kept


def _rename_stream(root: Path, name: str) -> None:
    folder, about = _own(root, name), json.loads(json.dumps(facts(name)))
    if "weights_from" in about["config"]:
        about["config"]["weights_from"] = f"other_{about['config']['weights_from']}"
    _write(folder / "config.json", about)
    folder.rename(root / f"other_{name}")


def _rename_cases(root: Path, folder: str, name: str) -> None:
    """Other names, the first case left out where there are others."""
    own, about = _own(root, folder), json.loads(json.dumps(facts(folder)))
    about["cases"] = about["cases"][1:] or about["cases"]
    names = {case["case"]: f"case {i}" for i, case in enumerate(about["cases"])}
    gone = {case["case"] for case in facts(folder)["cases"]} - set(names)
    for case in about["cases"]:
        case["case"] = names[case["case"]]
    _write(own / "config.json", about)

    def renamed(kept: Tensors) -> Tensors:
        parts = {key: key.partition(".") for key in kept}
        return {
            f"{names.get(case, case)}{dot}{rest}": kept[key]
            for key, (case, dot, rest) in parts.items()
            if case not in gone
        }

    _rewrite(own / f"{name}.safetensors", renamed)


def _shorter_chunks(kept: Tensors) -> Tensors:
    """Chunks of two latent frames, a last one of one where the number is odd."""
    keys = list(numbered(kept, r"stream_chunk(\d+)").values())
    video = torch.cat([kept.pop(key) for key in keys], dim=1)
    squeezed = (video.shape[1] - 1) // (kept["latent"].shape[1] - 1)
    first, *rest = video.split([squeezed + 1, video.shape[1] - squeezed - 1], dim=1)
    pieces = [first, *(piece for each in rest for piece in each.split(2 * squeezed, dim=1))]
    return kept | {f"stream_chunk{i}": piece for i, piece in enumerate(pieces)}


def _fewer_tables(kept: Tensors) -> Tensors:
    """Without one table, one head size, one start and one width of sinusoids; the teacher's steps
    twice, under another name."""
    steps = {key: key.replace("ode", "ode1") for key in kept if re.match(r"ode\d+\.", key)}
    kept = kept | {other: kept[key].clone() for key, other in steps.items()}
    gone = []
    for pattern in (r"shift(\d+)\.t", r"rope(\d+)\.rows", r"rope_apply\.start(\d+)"):
        *_, last = numbered(kept, pattern).values()
        gone.append(last.removesuffix(".t").removesuffix(".rows"))
    return {key: t for key, t in kept.items() if not any(_under(key, name) for name in gone)}


def _under(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")
