"""Stand-ins for the models and the wire, to test the orchestrator's decisions alone."""

import queue
import threading
import time
from typing import Any

import numpy as np

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.config.avatar import PipelineConfig
from pipeline.sessions.calls import NO_FRAMES
from pipeline.sessions.session import Answer, BlockFrames, Interrupted

CONFIG = PipelineConfig(
    preset="test",
    height=64,
    width=64,
    num_layers=1,
    num_heads=1,
    head_dim=8,
    text_len=4,
    text_dim=4,
    audio_layers=2,
    audio_dim=3,
)


class FakeExecutor:
    """Adds 1 to a latent per stage; frames say which session and block they are."""

    num_stages = CONFIG.num_steps
    sends_sink = False
    takes_pose = False

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
        self.open: set[int] = set()
        self.closed: list[int] = []
        self.calls: list[tuple[int, int, int]] = []
        self.dropped: list[tuple[int, int, int]] = []  # blocks that came without a latent
        self.references: dict[tuple[int, int, int], np.ndarray] = {}
        self.texts: dict[tuple[int, int, int], float] = {}
        self.start_gate = threading.Event()
        self.start_gate.set()
        self.close_gate = threading.Event()
        self.close_gate.set()
        self.poses: dict[tuple[int, int, int], np.ndarray] = {}
        self.pose_calls: list[tuple[int, int, np.ndarray]] = []
        self.pose_gate = threading.Event()
        self.pose_gate.set()
        self.heard: list[np.ndarray] = []
        self.fail_at: tuple[int, int, int] | None = None
        self._busy = [threading.Lock() for _ in range(self.num_stages + 1)]

    def start(self, request: AvatarRequest) -> None:
        self.start_gate.wait(5)
        if request.image == b"bad":
            raise ValueError("image is not a picture")
        self.open.add(request.session)

    def encode_audio(self, window: Any) -> np.ndarray:
        shape = (1, CONFIG.audio_layers, CONFIG.audio_dim, CONFIG.video_frames_per_block)
        return np.full(shape, window.samples[0, -1], np.float32)

    def encode_pose(
        self, session: int, tick: int, block: int, frames: np.ndarray, fit: str
    ) -> np.ndarray:
        """The brightness of the frames."""
        self.pose_gate.wait(5)
        self.pose_calls.append((tick, block, frames))
        return np.full(CONFIG.latent_shape, frames.mean(), np.float32)

    def audio_tokens(self, audio_features: np.ndarray) -> dict[str, np.ndarray]:
        self.heard.append(audio_features)
        shapes = {
            "audio_local": CONFIG.audio_local_shape,
            "audio_global": CONFIG.audio_global_shape,
        }
        return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def text(self, request: AvatarRequest) -> np.ndarray:
        return np.full((1, 1, 1), len(request.prompt or ""), np.float32)

    def step(
        self, stage: int, session: int, tick: int, block: int, gives_sink: bool, **tensors: Any
    ) -> tuple[np.ndarray | None, None]:
        if self.fail_at == (stage, session, block):
            raise RuntimeError(f"stage {stage} broke")
        if "latent" not in tensors:
            self.dropped.append((stage, session, block))
            return None, None
        with self._busy[stage]:
            time.sleep(self.step_s)
            self.calls.append((stage, session, block))
        if "reference" in tensors:
            self.references[stage, session, block] = tensors["reference"]
        if "pose" in tensors:
            self.poses[stage, session, block] = tensors["pose"]
        if "text" in tensors:
            self.texts[stage, session, block] = float(tensors["text"].item())
        return tensors["latent"] + 1.0, None

    def decode(self, session: int, tick: int, block: int, latent: np.ndarray | None) -> np.ndarray:
        if latent is None:
            self.dropped.append((self.num_stages, session, block))
            return NO_FRAMES
        with self._busy[-1]:
            time.sleep(self.step_s)
        return np.full((CONFIG.video_frames_per_block, 2, 2, 3), block % 256, np.uint8)

    def close(self, session: int) -> None:
        self.close_gate.wait(5)
        self.open.discard(session)
        self.closed.append(session)


class FakeReply:
    """Collects the answers of one request."""

    def __init__(self, is_held: bool = False) -> None:
        self.is_held = is_held
        self.traceparent: str | None = None
        self.blocks: list[BlockFrames] = []
        self.interruptions: list[Interrupted] = []
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.is_cancelled = False

    def send(self, answer: Answer) -> None:
        if isinstance(answer, Interrupted):
            self.interruptions.append(answer)
        else:
            self.blocks.append(answer)

    def finish(self) -> None:
        self.ended.put("")

    def fail(self, message: str) -> None:
        self.ended.put(message)

    def cancelled(self) -> bool:
        return self.is_cancelled

    def wait(self, timeout: float = 10) -> str:
        """The error of the request, "" if it became final."""
        return self.ended.get(timeout=timeout)


def request(session: int, *, blocks: int = 0, **fields: Any) -> AvatarRequest:
    """A request with features for `blocks` blocks; START ones get a picture."""
    values: dict[str, Any] = {"start": False, "end": False, "options": Options(sink_distance=30)}
    values.update(fields)
    if values["start"]:
        values.setdefault("image", b"picture")
    if blocks:
        frames = blocks * CONFIG.video_frames_per_block
        shape = (1, CONFIG.audio_layers, CONFIG.audio_dim, frames)
        values["audio_features"] = np.zeros(shape, np.float32)
    return AvatarRequest(session=session, **values)


def submit(avatar: AvatarOrchestrator, session: int, **fields: object) -> FakeReply:
    """Send a request of `fields`; the reply collects its answers."""
    reply = FakeReply()
    avatar.submit(request(session, **fields), reply)  # type: ignore[arg-type]
    return reply


def wait_until(condition: object, timeout: float = 5.0) -> None:
    """Poll until `condition()` holds; an assertion fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    assert condition()  # type: ignore[operator]
