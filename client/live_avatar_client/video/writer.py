"""A video file that grows block by block: H.264 pictures, and the sound they were made from.

Letters: T frames, H W picture size.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.video
import numpy as np

from live_avatar_client.files import check_apart, file_url, shown, words
from live_avatar_client.protocol import FPS, Array
from live_avatar_client.sound.decoder import open_sound
from live_avatar_client.video.sound_track import SampleTrack, SoundTrack

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_MIN_SIDE, MAX_SIDE = 256, 8192
MAX_SCALE = 64
_BT709 = 1  # the number of BT.709 in all three of H.264's colour fields
_LIMITED_RANGE = 1
_WRITE_BITS = 0o222


class VideoWriter:
    """Write uint8 RGB frames as they come; a context manager.

    `size` is (width, height) of the frames, taken from the first ones when None. `scale` enlarges
    by a whole factor, because players show a stamp of 64 x 64 badly; None brings the short side to
    256 pixels. `seal` is called with the finished file before it appears, to sign it.
    `audio_path` is any file with sound, which is cut where the video ends; with
    `sound_rate` in its place, mono samples come with the frames.

    The file appears under its name when it is closed, with all frames written so far, also when an
    exception ends the video early. Without a frame, or when the disk fails, an older one stays as
    it was. Raises ValueError for what can't be written, RuntimeError for a frame after the end.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: int = FPS,
        size: tuple[int, int] | None = None,
        audio_path: str | Path | None = None,
        sound_rate: int | None = None,
        scale: int | None = 1,
        crf: int = 18,
        seal: Callable[[Path], None] | None = None,
    ) -> None:
        if (scale is not None and not 1 <= scale <= MAX_SCALE) or fps < 1:
            raise ValueError(
                f"scale {scale} and fps {fps}: expected whole numbers of 1 or more, and a scale "
                f"of {MAX_SCALE} at most"
            )
        self._path, self._fps, self._scale, self._crf = Path(path), fps, scale, crf
        self._seal = seal
        if not os.path.isdir(self._path.parent):  # noqa: PTH112, False for names too long
            raise self._unwritable(f"{shown(self._path.parent)} is not a folder")
        if self._path.suffix.lower() not in _FORMATS:
            raise self._unwritable(f"expected {', '.join(_FORMATS)}")
        if audio_path is not None and sound_rate is not None:
            raise ValueError("sound is that of audio_path, or comes at sound_rate, not both")
        if audio_path is not None:
            check_apart(path, "audio", audio_path)
        self._audio_path, self._sound_rate, self._size = audio_path, sound_rate, size
        self._target: Target | None = None
        self._container: av.container.OutputContainer | None = None
        self._video: av.video.VideoStream
        self._sound: SoundTrack | None = None
        self._samples: SampleTrack | None = None
        self._ended = False
        self.num_frames = 0
        self.kept = False  # whether the file has appeared

    def __enter__(self) -> "VideoWriter":
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """Length of what was written so far."""
        return self.num_frames / self._fps

    def open(self) -> "Target":
        """Make sure that there is sound to copy and a place to write to; nothing appears yet."""
        self._check_going_on()
        if self._target is None:
            if self._audio_path is not None:
                with open_sound(self._audio_path):
                    pass
            with self._named():
                self._target = Target(self._path)
        return self._target

    def write(self, frames: Array, sound: Array | None = None) -> None:
        """Append uint8 RGB frames [T, H, W, 3], and with `sound_rate` their int16 samples [S]."""
        self._check_going_on()
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]"
            )
        height, width = frames.shape[1:3]
        if self._size not in (None, (width, height)):
            raise ValueError(f"frames are {width}x{height}, this video is {self._size}")
        self._size = (width, height)
        with self._named():
            container = self._container or self._begin(width, height)
            for picture in frames:
                container.mux(self._video.encode(self._converted(picture)))
                self.num_frames += 1
            if self._sound is not None:
                self._sound.write_until(Fraction(self.num_frames, self._fps))
            if self._samples is not None and sound is not None:
                self._samples.append(sound[None] / np.float32(32768))

    def close(self) -> None:
        """Finish the file and let it appear; the first call counts."""
        failed, self._ended = self._ended, True
        target, self._target = self._target, None
        container, self._container = self._container, None
        if target is None:
            return
        try:
            if container is not None and self.num_frames and not failed:
                with self._named():
                    container.mux(self._video.encode(None))
                    if self._sound is not None:
                        self._sound.finish(Fraction(self.num_frames, self._fps))
                    if self._samples is not None:
                        self._samples.finish()
                    container.close()
                    if self._seal is not None:
                        self._seal(target.temporary)
                    target.keep()
                    self.kept = True
        finally:
            if self._sound is not None:
                self._sound.close()
            if container is not None:
                with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                    container.close()
            target.discard()

    def _begin(self, width: int, height: int) -> av.container.OutputContainer:
        """Sizes are known: the streams and the file they go to."""
        scale = self._scale or -(-_MIN_SIDE // min(width, height))
        width, height = width * scale, height * scale
        size = f"{width}x{height} pixels"
        if width % 2 or height % 2:
            raise self._unwritable(f"{size}, H.264 wants even numbers; an even scale makes them so")
        if max(width, height) > MAX_SIDE:
            raise self._unwritable(f"{size}, at most {MAX_SIDE} a side are taken")
        url, form = file_url(self.open().temporary), _FORMATS[self._path.suffix.lower()]
        container = self._container = av.open(url, "w", format=form)
        self._video = container.add_stream(
            "libx264", rate=self._fps, options={"crf": str(self._crf), "preset": "veryfast"}
        )
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        if self._audio_path is not None:
            self._sound = SoundTrack(container, self._audio_path)
        if self._sound_rate is not None:
            self._samples = SampleTrack(container, self._sound_rate, 1)
        return container

    def _converted(self, picture: Array) -> av.VideoFrame:
        size = self._video.width, self._video.height
        colours: Any = {"dst_colorspace": _BT709, "dst_color_range": _LIMITED_RANGE}
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(*size, "yuv420p", interpolation="BICUBIC", **colours)
        frame.pts, frame.time_base = self.num_frames, Fraction(1, self._fps)
        return frame

    def _check_going_on(self) -> None:
        if self._ended:
            raise RuntimeError(f"the video {shown(self._path)} has ended; write another one")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what the system or FFmpeg says into a ValueError that names the video; it ends."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._ended = True
            raise self._unwritable(words(error)) from None

    def _unwritable(self, reason: str) -> ValueError:
        return ValueError(f"video {shown(self._path)} can't be written: {reason}")


class Target:
    """The place where a file is to appear, and an empty temporary file beside it, to be written.

    A symbolic link stays one: what it leads to is replaced, with its permissions kept. Whoever
    writes last wins. Raises OSError where the place can't be written, at once if that can be known.
    """

    def __init__(self, path: Path) -> None:
        self._place = Path(os.path.realpath(path))
        mode = _mode_of(self._place)
        # Short, and not made of the name: that one may be as long as the system allows.
        self.temporary = self._place.with_name(f".live-avatar-{secrets.token_hex(4)}.part")
        self.temporary.touch(exist_ok=False)
        if mode is not None:
            self.temporary.chmod(mode)

    def keep(self) -> None:
        """Let the file appear; what is still on its way to the disk gets there first."""
        with self.temporary.open("rb") as file:
            os.fsync(file.fileno())
        self.temporary.replace(self._place)

    def discard(self) -> None:
        """Leave no trace of a file that was not kept; what had the name before keeps it."""
        self.temporary.unlink(missing_ok=True)


def _mode_of(place: Path) -> int | None:
    """The permissions of the file that is there, None where there is none. OSError for one that
    open() would not write to, or that nobody may write to: renaming would not ask."""
    try:
        status = place.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(0, "there is a folder of that name")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "a pipe or a device has that name")
    if not status.st_mode & _WRITE_BITS:
        raise PermissionError(0, "the file of that name is write-protected")
    os.close(os.open(place, os.O_WRONLY))
    return stat.S_IMODE(status.st_mode)
