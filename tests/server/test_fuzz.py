"""Damaged files, each given to a session of the real server: no place is lost, nobody crashes."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from live_avatar_client import AvatarError, Session, read_audio
from tests.support.fuzz_files import damaged_files, original_files
from tests.support.raw_stream import wait_until_free

pytestmark = pytest.mark.triton
PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.png"


FULL = "all 2 sessions"


def stream_when_free(url: str, path: Path) -> str:
    """The same, a second at most behind a failure that frees its place only now."""
    deadline_s = time.monotonic() + 1.0
    while FULL in (heard := stream(url, path)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return heard


def stream(url: str, path: Path) -> str:
    """What a session makes of a damaged portrait or voice: "frames", or the error's words."""
    is_picture = path.name.startswith("portrait")
    image = path if is_picture else PORTRAIT
    voice = [np.zeros(640, np.float32)] if is_picture else read_audio(path)
    try:
        with Session(url=url, image=image, idle=False) as session:
            num_frames = sum(len(block.frames) for block in session.stream(voice))
    except (AvatarError, ValueError) as error:
        return str(error)
    return "frames" if num_frames else "no frames and no word of why"


@pytest.mark.parametrize("count", [36, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_cost_no_place_and_no_traceback(
    server: LocalServer, tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One file in a thousand that keeps its place would close a server in a day."""
    caplog.set_level(logging.ERROR)  # damage is warned of; that is tested elsewhere
    paths = []
    for name, data in damaged_files(original_files(tmp_path, seconds=0.4), count):
        (tmp_path / name).write_bytes(data)
        paths.append(tmp_path / name)
    with ThreadPoolExecutor(2) as pool:  # as many as there are places: a lost one is missed
        heard = list(pool.map(lambda path: stream_when_free(server.grpc_url, path), paths))
    assert not [words for words in heard if FULL in words or "no word" in words]
    assert not [words for words in heard if "\n" in words or "Traceback" in words]
    assert 0.2 * count < heard.count("frames") < 0.95 * count, "the files are whole, or all broken"
    assert wait_until_free(server) < 1.0
    assert "Traceback" not in server.log.read_text()
