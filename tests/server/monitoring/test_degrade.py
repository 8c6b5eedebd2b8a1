"""A real server whose blocks come late leaves out a step of its live session, and shows it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from export.repository.pbtxt import with_parameter
from tests.server.healing.supervision import pid_of
from tests.server.monitoring.test_metrics import scraped, settled
from tests.support.raw_stream import IMAGE, Stream

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
BLOCK = 7680
HELD_S = 0.7  # a block has 0.48 s; Triton gives a process up after 1 s


def test_late_blocks_cost_a_live_session_a_step(tmp_path: Path) -> None:
    """The knob would turn nothing, or nobody would see that it did."""
    repository = assemble(DEMO, tmp_path / "repository")
    config = repository / "live_avatar" / "configs" / "cpu.pbtxt"
    config.write_text(with_parameter(config.read_text(), "degrade", "yes"))
    voice = np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32) / 10
    with LocalServer(repository, log_dir=tmp_path / "log") as server:
        stream, decoder = Stream(server), pid_of(server, "vae_decoder")
        options = np.frombuffer(b'{"live": true, "look_ahead_frames": 0}', np.uint8)
        given = {"image": IMAGE, "options": options, "audio": np.zeros(BLOCK, np.float32)}
        assert stream.ask(start=True, **given) == (1, "")
        for _ in range(3):
            os.kill(decoder, signal.SIGSTOP)
            stream.send(audio=voice)
            time.sleep(HELD_S)
            os.kill(decoder, signal.SIGCONT)
            assert stream.answer() == (1, "")
        assert stream.ask(audio=voice) == (1, "")
        during = settled(server, 1)
        assert stream.ask(end=True) == (0, "")
        stream.close()
        settled(server, 0)
        after, log = scraped(server), server.log.read_text()
    assert (during["avatar_degraded_sessions"], during["avatar_degrades_total"]) == (1, 1)
    assert (after["avatar_degraded_sessions"], after["avatar_degrades_total"]) == (0, 1)
    assert after["avatar_onset_seconds_count"] == 1, "the voice began once, after silence"
    assert after["avatar_onset_seconds_sum"] > HELD_S
    assert f"session {stream.session} waits: live sessions lose a denoising step" in log
