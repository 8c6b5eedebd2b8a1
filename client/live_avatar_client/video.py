"""A video file that grows block by block: H.264 pictures, and the sound they were made from.

Letters: T frames, H W picture size.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import av.video
import numpy as np

from live_avatar_client.audio import decode_sound, open_sound
from live_avatar_client.protocol import FPS

_SUFFIXES = (".mp4", ".mov", ".mkv")
_MIN_SIDE = 256
_AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_BT709 = 1  # the number of BT.709 in all three of H.264's colour fields
_LIMITED_RANGE = 1


class VideoWriter:
    """Write uint8 RGB frames as they come; a context manager.

    `size` is (width, height) of the frames, taken from the first ones when None. `scale` enlarges
    by a whole factor, because players show a stamp of 64 x 64 badly; None brings the short side to
    256 pixels. `audio_path` is any file with sound; it starts with the first frame, is cut where
    the video ends, and is written along with the frames. The file appears with the first frame.
    Raises ValueError for what can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: int = FPS,
        size: tuple[int, int] | None = None,
        audio_path: str | Path | None = None,
        scale: int | None = 1,
        crf: int = 18,
    ) -> None:
        if (scale is not None and scale < 1) or fps < 1:
            raise ValueError(f"scale {scale} and fps {fps}: expected whole numbers of 1 or more")
        if not Path(path).parent.is_dir():
            raise ValueError(f"video {path} can't be written: {Path(path).parent} is not a folder")
        if Path(path).suffix.lower() not in _SUFFIXES:
            raise ValueError(f"video {path} can't be written: expected {', '.join(_SUFFIXES)}")
        self._path, self._fps, self._scale, self._crf = Path(path), fps, scale, crf
        self._audio_path = audio_path
        self._size = size
        self._container: av.container.OutputContainer | None = None
        self._video: av.video.VideoStream
        self._sound: _SoundTrack | None = None
        self.num_frames = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 RGB frames [T, H, W, 3]."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]"
            )
        height, width = frames.shape[1:3]
        if self._size not in (None, (width, height)):
            raise ValueError(f"frames are {width}x{height}, this video is {self._size}")
        self._size = (width, height)
        container = self._container or self._open(width, height)
        for picture in frames:
            container.mux(self._video.encode(self._converted(picture)))
            self.num_frames += 1
        if self._sound is not None:
            self._sound.write_until(Fraction(self.num_frames, self._fps))

    def close(self) -> None:
        """Finish the file; what was written so far is playable."""
        container, self._container = self._container, None
        if container is None:
            return
        try:
            container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.finish(Fraction(self.num_frames, self._fps))
        finally:
            container.close()

    def _open(self, width: int, height: int) -> av.container.OutputContainer:
        scale = self._scale or -(-_MIN_SIDE // min(width, height))
        width, height = width * scale, height * scale
        if width % 2 or height % 2:
            raise ValueError(
                f"video of {width}x{height} can't be written: H.264 wants even numbers; "
                "an even scale makes them so"
            )
        try:
            container = av.open(str(self._path), "w")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ValueError(f"video {self._path} can't be written: {error}") from None
        self._container = container
        self._video = container.add_stream(
            "libx264", rate=self._fps, options={"crf": str(self._crf), "preset": "veryfast"}
        )
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        if self._audio_path is not None:
            self._sound = _SoundTrack(container, self._audio_path)
        return container

    def _converted(self, picture: np.ndarray) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(
            width=self._video.width,
            height=self._video.height,
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_LIMITED_RANGE,
            interpolation="BICUBIC",
        )
        frame.pts, frame.time_base = self.num_frames, Fraction(1, self._fps)
        return frame


class _SoundTrack:
    """AAC beside the video, never further than the video is."""

    def __init__(self, container: av.container.OutputContainer, path: str | Path) -> None:
        with open_sound(path) as (_, source):
            rate = source.rate if source.rate in _AAC_RATES else 48_000
            layout = "mono" if source.channels == 1 else "stereo"
        self._container = container
        self._stream = container.add_stream("aac", rate=rate, layout=layout)
        self._rate, self._layout = rate, layout
        self._pieces = decode_sound(path, rate, layout)
        self._next: np.ndarray | None = next(self._pieces, None)
        self._num_samples = 0

    def write_until(self, seconds: Fraction) -> None:
        """Write the pieces that end by then."""
        limit = int(seconds * self._rate)
        while self._next is not None and self._num_samples + self._next.shape[1] <= limit:
            self._write(self._next)
            self._next = next(self._pieces, None)

    def finish(self, seconds: Fraction) -> None:
        """Write what is left until then, cutting the last piece, and close the source."""
        self.write_until(seconds)
        room = int(seconds * self._rate) - self._num_samples
        if self._next is not None and room > 0:
            self._write(self._next[:, :room])
        self._pieces.close()
        self._container.mux(self._stream.encode(None))

    def _write(self, piece: np.ndarray) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(piece), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._num_samples
        self._num_samples += piece.shape[1]
        self._container.mux(self._stream.encode(frame))
