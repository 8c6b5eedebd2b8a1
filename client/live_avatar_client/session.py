"""A session with the avatar: audio goes up in requests, blocks of video come down meanwhile."""

import functools
import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from live_avatar_client.actors import Mask
from live_avatar_client.exchange import Exchange
from live_avatar_client.protocol import (
    DEFAULT_URL,
    MODEL,
    SAMPLES_PER_FRAME,
    Array,
    AvatarError,
    Block,
    Wire,
)
from live_avatar_client.requests import (
    Image,
    audio_tensors,
    pose_frames,
    pose_tensor,
    start_tensors,
)
from live_avatar_client.tls import Tls

_FEEDER_FAREWELL_S = 1.0
_NO_CHUNKS = (np.ndarray, str, bytes, Path)  # iterables whose items are no chunks


class Session:
    """One avatar talking, from START to END; a context manager, good for one stream.

    `image`: bytes of a picture (PNG, JPEG, WebP, AVIF, BMP or GIF), a path to one, or uint8 RGB
    [H, W, 3]. `prompt` is text; `text` float32 [rows, text_dim] an already encoded one. `options`
    is sent as JSON. `idle`: when the voice pauses, silence is sent at real time, so that its last
    words come out and the face lives on; False for files, where sound that comes late is no pause.
    `max_ahead_s`: seconds of audio that may be sent and not yet answered. `timeout_s`: the longest
    silence of a server that owes an answer. `tls`: what a server with TLS is to be trusted by.
    `resume`: a session whose server is lost goes on with the first block that has not come, and one
    that finds no place tries again, for up to 30 s; the picture jumps once to that of `image`
    (docs/scale.md). With several actors, a pose or other keywords of `send` only until the first
    block has come.

    `actors`: a mask of each one who speaks, if there are several: pictures of one size and of the
    shape of `image`, light where an actor is (bytes, a path, or bool or uint8 [H, W]). Audio then
    has a row for each, [actors, samples]; `side_by_side` makes it of separate sounds. Audio
    [samples] is the first one's, and the others are silent meanwhile.

    Raises ValueError for unfit arguments, AvatarError for what the server or the network did,
    RuntimeError for calls at the wrong moment.
    """

    def __init__(
        self,
        *,
        image: Image,
        url: str = DEFAULT_URL,
        prompt: str | None = None,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        text: Array | None = None,
        actors: Sequence[Mask] | None = None,
        want_latent: bool = False,
        model: str = MODEL,
        idle: bool = True,
        resume: bool = False,
        max_ahead_s: float = 4.0,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 60.0,
        tls: Tls | None = None,
    ) -> None:
        if min(max_ahead_s, connect_timeout_s, timeout_s) <= 0:
            raise ValueError(
                f"max_ahead_s {max_ahead_s}, connect_timeout_s {connect_timeout_s}, timeout_s "
                f"{timeout_s}: expected seconds above 0"
            )
        self._start = start_tensors(
            image, prompt=prompt, seed=seed, options=options, text=text, actors=actors
        )
        self._num_actors = 1 if actors is None else len(self._start["actor_masks"])
        wire = Wire(model=model, want_latent=want_latent)
        wire.check(self._start)
        self._connect = functools.partial(
            Exchange,
            url=url,
            wire=wire,
            is_fed=idle,
            resumes=resume,
            max_ahead_s=max_ahead_s,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            tls=tls,
        )
        self._exchange: Exchange | None = None

    def __enter__(self) -> "Session":
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect and send START, so that the server prepares while the first audio is spoken."""
        if self._exchange is not None:
            raise RuntimeError("this session was opened before; make a new one per stream")
        self._exchange = self._connect()
        weakref.finalize(self, self._exchange.close)  # a session that nobody closes keeps no place
        try:
            self._exchange.start(self._start)
        except BaseException:  # `with` closes only what it has entered
            self._exchange.close()
            raise

    def send(
        self,
        audio: Array | Sequence[Array] | None = None,
        *,
        pose: Array | None = None,
        pose_latents: Array | None = None,
        noise: Array | None = None,
        audio_features: Array | None = None,
        sink_distance: Array | None = None,
    ) -> None:
        """Send mono 16 kHz audio, float32 in [-1, 1] or int16, any length; may wait for room.

        `pose` uint8 RGB [n, H, W, 3] are the next frames that the video follows. They are on its
        clock: send each before the sound of its frame, or with it.

        The keywords are for parity and experiments; they go out as one request with this audio:
        `noise` float32 [n, 16, F, h, w] and `sink_distance` int64 [n, steps] for the next n blocks
        that the server begins, `audio_features` float32 [actors, L+1, C, 12 n] in place
        of audio, `pose_latents` float32 [n, 16, F, h, w] of whole blocks in place of pose.
        """
        given = {"noise": noise, "audio_features": audio_features, "sink_distance": sink_distance}
        given |= {"pose": None if pose is None else pose_tensor(pose)}
        given |= {"pose_latents": pose_latents}
        extras = {name: array for name, array in given.items() if array is not None}
        if audio is None and not extras:
            raise ValueError("send needs audio, or audio_features in its place")
        actors, whole = self._num_actors, bool(extras)
        parts = [{}] if audio is None else audio_tensors(audio, whole=whole, num_actors=actors)
        for part in parts:
            self._opened().send(extras | part, until_taken=False)

    def finish(self) -> None:
        """Say that no audio follows: the server pads the last partial block and answers it."""
        self._opened().finish()

    def __iter__(self) -> Iterator[Block]:
        """Blocks in order, as they arrive, until the answer to `finish` is complete."""
        while (block := self._opened().take()) is not None:
            yield block

    def stream(
        self, audio_chunks: Iterable[Array], *, pose: Iterable[Array] | None = None
    ) -> Iterator[Block]:
        """Feed the chunks from a background thread, finish, and yield the blocks meanwhile.

        What is not yet taken from this iterator counts as unanswered: a slow reader slows the
        feeding down. Leaving the loop early ends the session. An exception of `audio_chunks` is
        raised here, behind the blocks of the audio before it.

        `pose`: frames uint8 RGB [H, W, 3] that the video follows, 25 to a second of the sound, such
        as those of `read_pose`. They go up with the sound of their time; what is longer than the
        sound is not sent, and where they end the video goes on without.
        """
        if not isinstance(audio_chunks, Iterable) or isinstance(audio_chunks, _NO_CHUNKS):
            raise ValueError(
                f"stream got {type(audio_chunks).__name__}, expected an iterable of chunks: "
                "read_audio(path) for a file, [samples] for samples"
            )
        exchange = self._opened()
        frames = None if pose is None else iter(pose_frames(pose))
        given = (exchange, audio_chunks, self._num_actors, frames)
        feeder = threading.Thread(target=_feed, args=given, name="avatar-feeder", daemon=True)
        feeder.start()
        try:
            yield from self
        finally:
            exchange.fail(AvatarError("the stream was left before its end"))
            # A chunk source that never yields again can't be stopped from here: wait a moment only.
            feeder.join(timeout=_FEEDER_FAREWELL_S)

    def close(self) -> None:
        """End the stream and free the server's place; what is still being made is cancelled."""
        if self._exchange is not None:
            self._exchange.close()

    def _opened(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("the session is not open: use `with Session(...) as session`")
        return self._exchange


def _feed(
    exchange: Exchange,
    audio_chunks: Iterable[Array],
    num_actors: int,
    pose: Iterator[Array] | None,
) -> None:
    """Runs in the feeding thread; what goes wrong is raised where the blocks are taken."""
    num_samples = num_frames = 0
    try:
        for chunk in audio_chunks:
            for tensors in audio_tensors(chunk, num_actors=num_actors):
                if pose is not None:
                    num_samples += next(iter(tensors.values())).shape[-1]
                    due = -(-num_samples // SAMPLES_PER_FRAME) - num_frames
                    frames = list(itertools.islice(pose, due))
                    tensors |= {"pose": pose_tensor(frames, num_frames)} if frames else {}
                    num_frames += len(frames)
                exchange.send(tensors, until_taken=True)
        exchange.finish()
    except BaseException as error:  # SystemExit, too: nobody else sees it in this thread
        with suppress(Exception):  # of a session that had failed before, and says so itself
            exchange.finish(error)
