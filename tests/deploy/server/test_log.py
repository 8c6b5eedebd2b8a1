"""What a server's log says of its public models."""

from pathlib import Path

from deploy.server.log import verdicts
from pipeline.identity.examination import AGREED, REFUSES

LINE = '2026-11-28T09:30:09Z {} 168 serving.py:64] "{}"\n'


def test_the_last_verdict_of_each_public_model_counts(tmp_path: Path) -> None:
    """A start would wait for words that the model does not say, or take another's for them."""
    log = tmp_path / "server.log"
    assert verdicts(log) == {}
    log.write_text(
        LINE.format("E", f"live_avatar {REFUSES}: dit_stage_3 can't be reached")
        + LINE.format("I", f"rolling_forcing: {AGREED}")
        + LINE.format("I", f"session 3 fails: live_avatar {REFUSES}: because")
        + LINE.format("I", f"dit_stage_1: {AGREED}")
    )
    assert verdicts(log) == {
        "live_avatar": "dit_stage_3 can't be reached",
        "rolling_forcing": "",
    }
    with log.open("a") as file:
        file.write(LINE.format("I", f"live_avatar: {AGREED}"))
    assert verdicts(log)["live_avatar"] == ""
