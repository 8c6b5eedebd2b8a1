"""The whole avatar in one process: as served, only the messages between the models are missing."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.avatar.decoder import Decoder
from pipeline.avatar.executor import DECODER, POSE, AvatarExecutor
from pipeline.avatar.pose_encoder import PoseEncoder
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array, Arrays, EngineLoader
from pipeline.engines.device_sessions import Device
from pipeline.engines.onnx import Engine
from pipeline.sessions.calls import LocalCalls


def local_executor(
    folder: Path,
    steps: Sequence[Sequence[int]] | None = None,
    *,
    num_threads: int = 1,
    max_sessions: int = 4,
    load_engine: EngineLoader = Engine,
    sends_sink: bool = False,
    takes_pose: bool = False,
) -> AvatarExecutor:
    """Every model of `folder` (an artifacts folder) in this process. `steps` per stage, by default
    one each; `load_engine` loads what holds sessions: stages and decoder."""
    config = PipelineConfig.load(folder / "pipeline.json")
    owned = steps or [[step] for step in range(config.num_steps)]
    stages = [f"dit_stage_{stage}" for stage in range(len(owned))]
    devices: dict[str, Device] = {
        name: Stage(folder, list(own), num_threads, load_engine)
        for name, own in zip(stages, owned, strict=True)
    }
    devices[DECODER] = Decoder(folder, num_threads, load_engine)
    if takes_pose:
        devices[POSE] = PoseEncoder(folder, num_threads, load_engine)
    graphs = {
        name: Engine(folder / f"{name}.onnx", num_threads)
        for name in ("audio_encoder", "audio_tokens", "text_encoder", "vae_encoder")
    }
    text_encoder, vae_encoder = graphs["text_encoder"], graphs["vae_encoder"]

    def conditioning(inputs: Arrays) -> dict[str, Array]:
        """As the ensemble of this name: both encoders, each with its inputs."""
        prompt = {name: inputs[name] for name in text_encoder.inputs}
        return {**text_encoder.run(prompt), **vae_encoder.run({"image": inputs["image"]})}

    run = {name: engine.run for name, engine in graphs.items()}
    calls = LocalCalls({**run, "conditioning": conditioning}, devices, max_sessions)
    flags = {"sends_sink": sends_sink, "takes_pose": takes_pose}
    return AvatarExecutor(config, stages, folder, calls, **flags)
