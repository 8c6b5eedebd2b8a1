"""A session of the real server goes astray, is seen, and is re-anchored."""

from pathlib import Path

import numpy as np
import pytest

from deploy.server.local import LocalServer
from export.repository.assemble import assemble
from export.repository.pbtxt import with_parameter
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.noise import block_noise
from tests.server.monitoring.test_metrics import scraped, settled
from tests.support.raw_stream import IMAGE, Stream

pytestmark = [pytest.mark.triton, pytest.mark.slow]
DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
NUM_BLOCKS, BAD = 18, 4


def noise() -> np.ndarray:
    """Of a talk; one block's is so loud that what stages make of it is no number."""
    drawn = np.concatenate([block_noise(0, b, CONFIG.latent_shape) for b in range(NUM_BLOCKS)])
    drawn[BAD] = 3e38 * np.sign(drawn[BAD])
    return drawn


@pytest.mark.parametrize("reanchor", ["no", "yes"])
def test_a_session_that_is_lost_comes_back_where_it_may_be_re_anchored(
    tmp_path: Path, reanchor: str
) -> None:
    """What went to the ring once would be there for the rest of the talk, and nobody would know."""
    repository = assemble(DEMO, tmp_path / "repository")
    config = repository / "live_avatar" / "configs" / "cpu.pbtxt"
    config.write_text(with_parameter(config.read_text(), "reanchor", reanchor))
    with LocalServer(repository, log_dir=tmp_path / "log") as server:
        before, stream = settled(server, 0), Stream(server)
        assert before['avatar_drift_limit{distance="identity"}'] == 0.25
        sound = np.zeros(NUM_BLOCKS * CONFIG.samples_per_block + 1280, np.float32)
        stream.send(start=True, image=IMAGE, audio=sound, noise=noise())
        answers, error = stream.answered(120)
        assert error == ""
        during = settled(server, 1)
        assert scraped(server)['avatar_drift{distance="identity"}'] > 0.25
        assert stream.ask(end=True) == (1, "")
        stream.close()
        after = settled(server, 0)
        log = server.log.read_text()
    assert [int(answer["block"][0]) for answer in answers] == list(range(NUM_BLOCKS))
    lost = [n for n, answer in enumerate(answers) if not np.isfinite(answer["latent"]).all()]
    assert lost[0] == BAD
    assert lost[-1] == NUM_BLOCKS - 1 if reanchor == "no" else lost[-1] < BAD + 8
    assert during["avatar_sessions_drifted"] == 1
    assert (after["avatar_drifts_total"], after["avatar_sessions_drifted"]) == (1, 0)
    assert after["avatar_reanchors_total"] == (reanchor == "yes")
    assert f"session {stream.session} has drifted by block {BAD}: colour" in log
    assert (f"session {stream.session} is re-anchored" in log) == (reanchor == "yes")
