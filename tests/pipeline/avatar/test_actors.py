"""Several actors in one picture, each with a sound of his own, on one clock."""

import numpy as np

from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import Options
from tests.support.fake_executor import CONFIG, FakeExecutor, submit

BLOCK = CONFIG.samples_per_block
MASKS = np.array([[[1, 0]], [[0, 1]]], np.uint8)


def tone(blocks: int, volume: float) -> np.ndarray:
    """Sound that normalising leaves told apart: it ends loud."""
    sound = np.zeros(blocks * BLOCK, np.float32)
    sound[BLOCK - 1 :: BLOCK] = volume
    return sound


def test_all_actors_are_heard_in_every_block_in_their_order(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """One would move with the other's words."""
    both = np.stack([tone(2, 0.5), -tone(2, 0.5)])
    made = submit(avatar, 1, start=True, actor_masks=MASKS, audio=both, actors=(0, 1), end=True)
    assert made.wait() == ""
    assert len(made.blocks) == 2
    for features in executor.heard:
        assert features.shape[0] == 2
        first, second = features[:, 0, 0, 0]
        assert first > 0 > second


def test_who_sends_nothing_is_silent_and_the_clock_goes_on(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Blocks would wait for a listener's words, or his next ones would come at the wrong time."""
    submit(avatar, 1, start=True, actor_masks=MASKS, audio=tone(1, 0.5)).wait()
    submit(avatar, 1, audio=tone(1, 0.5)[None], actors=(1,), end=True).wait()
    heard = [features[:, 0, 0, 0] for features in executor.heard]
    assert heard[0][0] > 0 == heard[0][1]
    assert heard[1][0] <= 0 < heard[1][1]


def test_an_interruption_withdraws_the_sound_of_all(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """Afterwards the two would stand at different places of the video."""
    live = Options(sink_distance=30, live=True)
    both = np.pad([tone(2, 0.5), tone(2, 0.5)], ((0, 0), (0, BLOCK // 2)))
    given = {"actor_masks": MASKS, "actors": (0, 1), "options": live}
    submit(avatar, 1, start=True, audio=both, **given).wait()
    executor.heard.clear()
    again = np.stack([tone(1, 0.5), -tone(1, 0.5)])
    reply = submit(avatar, 1, audio=again, actors=(0, 1), interrupt=1, end=True)
    assert reply.wait() == ""
    (features,) = executor.heard
    assert features[0, 0, 0, 0] > 0 > features[1, 0, 0, 0]


def test_sound_of_an_actor_who_is_not_there_changes_nothing(
    avatar: AvatarOrchestrator, executor: FakeExecutor
) -> None:
    """It would be dropped in silence; the others must not have heard theirs twice either."""
    submit(avatar, 1, start=True).wait()
    both = np.stack([tone(1, 0.5), tone(1, 0.5)])
    assert (
        "is of actor 1, this session has 1" in submit(avatar, 1, audio=both, actors=(0, 1)).wait()
    )
    made = submit(avatar, 1, audio=tone(1, 0.5), end=True)
    assert made.wait() == ""
    assert [b.frame_index for b in made.blocks] == [0]
    refused = submit(avatar, 2, start=True, actor_masks=MASKS, blocks=1)
    assert "audio_features has 1 actors, this session 2" in refused.wait()


def test_what_may_wait_counts_every_actor(avatar: AvatarOrchestrator) -> None:
    """Two actors' sound takes twice the memory."""
    minutes = np.zeros((2, 601 * CONFIG.sample_rate), np.float32)
    refused = submit(avatar, 1, start=True, actor_masks=MASKS, audio=minutes, actors=(0, 1))
    assert "audio for 1202.00 s came" in refused.wait()
    features = np.zeros((2, CONFIG.audio_layers, CONFIG.audio_dim, 12 * 1253), np.float32)
    refused = submit(avatar, 2, start=True, actor_masks=MASKS, audio_features=features)
    assert "audio_features for 1202.88 s came" in refused.wait()
