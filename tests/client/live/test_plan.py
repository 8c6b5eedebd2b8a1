"""The clock of a live conversation, in simulated time."""

import itertools

import numpy as np
import pytest

from live_avatar_client.live.pace import Pace
from live_avatar_client.live.speech import PATIENCE_S
from tests.client.live.simulated_talk import BLOCK, Talk, speech

TICK_S = 0.04


def onset_s(talk: Talk, fed_s: float) -> float:
    """From the feeding until the first frame with speech is shown."""
    first = next(s for s in talk.shown if s.sent.is_speech and s.time_s > 1000.0 + fed_s)
    return first.time_s - 1000.0 - fed_s


def test_an_idle_face_gets_exact_zeros_just_in_time() -> None:
    """Noise would move the mouth, and blocks ahead of the viewer would delay the first word."""
    talk = Talk().run(20.0)
    assert not talk.stream.any()
    assert not talk.heard.any()
    begins = np.array([begin_s for begin_s, _ in talk.orders])
    shown_s = {s.frame: s.time_s for s in talk.shown}
    for block in range(1, len(begins) - 1):
        assert shown_s[12 * block] - begins[block] == pytest.approx(0.2, abs=1e-6)


def test_every_block_has_what_the_server_needs_for_it_and_no_more() -> None:
    """Less and the block never comes; more and speech waits behind silence."""
    for look_ahead in (0, 2, 5):
        talk = Talk(look_ahead=look_ahead)
        talk.feed(3.0, speech(2.0))
        talk.run(10.0)
        sent = np.cumsum([len(o.sound) for _, o in talk.orders if o.interrupt is None])
        assert list(sent) == [(n + 1) * BLOCK + 640 * look_ahead for n in range(len(sent))]
        again = [len(o.sound) for _, o in talk.orders if o.interrupt is not None]
        assert set(again) <= {BLOCK + 640 * look_ahead}


@pytest.mark.parametrize("phase", np.linspace(0, 0.48, 13))
def test_a_burst_is_answered_by_the_next_block_whenever_it_comes(phase: float) -> None:
    """Waiting for the block's turn would cost up to half a second."""
    talk = Talk()
    talk.feed(5.0 + phase, speech(3.0))
    talk.run(12.0)
    # The server's time, a tick's rest, and of the block that is waited for what is worth it.
    assert onset_s(talk, 5.0 + phase) <= 0.15 * 1.6 + TICK_S + 1e-6
    assert talk.plan.counts.late == 0
    # The block just begun, the lead before it, the look-ahead that silence had used up.
    assert 0 <= talk.plan.counts.skipped <= 12 + 5 + 2


@pytest.mark.parametrize("phase", np.linspace(0, 0.48, 13))
def test_without_cuts_every_frame_is_shown_and_a_burst_waits_for_the_next_block(
    phase: float,
) -> None:
    """Blocks are made again where that is in time; nothing is left out for what is not."""
    talk = Talk(lead_s=0.32, cuts=False)
    talk.feed(5.0 + phase, speech(3.0))
    talk.interrupt(7.0 + phase)
    talk.run(14.0)
    assert onset_s(talk, 5.0 + phase) <= 0.48
    assert [s.frame for s in talk.shown] == list(range(len(talk.shown)))
    assert talk.plan.counts.skipped == talk.plan.counts.late == 0


def test_without_cuts_most_bursts_are_answered_as_soon_as_a_block_is_made_again() -> None:
    onsets = []
    for phase in np.linspace(0, 0.48, 48):
        talk = Talk(lead_s=0.32, cuts=False)
        talk.feed(5.0 + phase, speech(3.0))
        onsets.append(onset_s(talk.run(12.0), 5.0 + phase))
    assert np.median(onsets) <= 0.15 + TICK_S


@pytest.mark.parametrize("gives_up", [True, False])
def test_a_block_that_is_under_way_is_made_again_if_that_is_in_time(gives_up: bool) -> None:
    """Its place in the stream would stay silent. A server that could not give it up any more sends
    it, too."""
    onsets = []
    for phase in np.linspace(0, 0.48, 25):
        talk = Talk(lead_s=0.32, gives_up=gives_up)
        talk.feed(5.0 + phase, speech(3.0))
        begun = [at_s for at_s, _ in talk.run(5.0 + phase - 1e-6).orders]
        under_way_s = 1005.0 + phase - begun[-1]
        _, order = talk.run(12.0).orders[len(begun)]
        if under_way_s < 0.13:  # 0.32 - 0.15 - a tick
            assert order.interrupt == len(begun) - 1
            onsets.append(onset_s(talk, 5.0 + phase))
        assert talk.plan.counts.late == 0
        assert all(talk.is_paired(shown) for shown in talk.shown)
    assert len(onsets) > 4
    assert max(onsets) <= 0.15 + TICK_S + 1e-6


def test_what_is_fed_is_heard_whole_and_in_one_piece() -> None:
    """A cut must never touch speech."""
    said = speech(3.3)
    talk = Talk()
    talk.feed(4.1, said)
    talk.run(12.0)
    begin = np.flatnonzero(talk.heard)[0]
    assert np.array_equal(talk.heard[begin : begin + len(said)], said)
    assert not talk.heard[begin + len(said) :].any()


@pytest.mark.parametrize("lead_s", [0.2, 0.4])
def test_a_burst_in_pieces_is_heard_without_tears(lead_s: float) -> None:
    """As text-to-speech gives it: the first pieces are no block yet when the others follow."""
    said = speech(2.0)
    for phase in range(24):
        talk = Talk(lead_s=lead_s)
        for piece, begin in enumerate(range(0, len(said), 1333)):
            talk.feed(3.0 + phase * 0.02 + piece * 0.002, said[begin : begin + 1333])
        heard = talk.run(7.0).heard
        spoken = np.flatnonzero(heard)
        np.testing.assert_array_equal(heard[spoken[0] : spoken[-1] + 1], said)


@pytest.mark.parametrize("lead_s", [0.2, 0.4])
@pytest.mark.parametrize("chunk_s", [0.02, 0.1, 0.137])
def test_a_microphone_is_heard_without_tears(chunk_s: float, lead_s: float) -> None:
    """A block that began with the first chunk alone would tear the first word."""
    said = speech(4.0)
    step = round(chunk_s * 16_000)
    for phase_s in np.arange(12) * TICK_S:
        talk = Talk(lead_s=lead_s)
        for begin in range(0, len(said), step):
            chunk = said[begin : begin + step]
            talk.feed(3.0 + phase_s + (begin + len(chunk)) / 16_000, chunk)
        talk.run(12.0)
        loud = np.flatnonzero(talk.heard)
        assert len(loud) == len(said), "something was lost, or said twice"
        gap_s = (loud[-1] + 1 - loud[0] - len(said)) / 16_000
        assert gap_s < chunk_s, "one chunk may come a moment late"
        waited_s = 0.48 + 2 * TICK_S + (lead_s - 0.15) + 2 * TICK_S
        assert onset_s(talk, 3.0 + phase_s) <= waited_s + 1.6 * 0.15 + TICK_S + chunk_s


def test_a_short_word_waits_a_moment_for_more_and_not_at_all_when_it_is_whole() -> None:
    """A yes must come at once, the beginning of a sentence must not be torn off."""
    onsets = []
    for is_whole in (False, True):
        talk = Talk()
        talk.feed(5.0, speech(0.2))
        if is_whole:
            talk.at(5.0, talk.plan.flush)
        talk.run(8.0)
        onsets.append(onset_s(talk, 5.0))
        assert np.count_nonzero(talk.heard) == 3200
    assert onsets[1] <= 0.15 + TICK_S + 1e-6
    assert onsets[0] - onsets[1] == pytest.approx(PATIENCE_S, abs=2 * TICK_S)


def test_sentences_that_follow_each_other_are_joined() -> None:
    """The second one came before the first was over: nothing may be between them."""
    talk = Talk()
    talk.feed(3.0, speech(1.0))
    talk.feed(3.6, speech(1.0, first=7))
    talk.run(9.0)
    loud = np.flatnonzero(talk.heard)
    assert loud[-1] - loud[0] + 1 == 2 * 16_000


def test_the_rest_of_a_block_gives_way_to_the_next_sentence() -> None:
    """The end of a sentence, padded to a whole block, would delay the next one."""
    talk = Talk()
    talk.feed(3.0, speech(0.6))  # in the second of its blocks are 0.36 s of silence
    talk.feed(3.0 + 0.7, speech(1.0))  # while the first sentence is still being heard
    talk.run(9.0)
    loud = np.flatnonzero(talk.heard)
    gap_s = (loud[-1] + 1 - loud[0] - 1.6 * 16_000) / 16_000
    assert 0 <= gap_s <= 0.2
    assert talk.plan.counts.late == 0


@pytest.mark.parametrize("phase", np.linspace(0, 0.48, 13))
def test_an_interruption_is_silent_at_once_and_soon_a_closed_mouth(phase: float) -> None:
    """Who is interrupted and goes on talking is rude."""
    talk = Talk()
    talk.feed(3.0, speech(6.0))
    talk.interrupt(5.0 + phase)
    talk.run(9.0)
    after = [s for s in talk.shown if s.time_s > 1005.0 + phase]
    assert not any(s.sent.sound.any() or s.sent.is_speech for s in after)
    new = next(s for s in after if s.sent.generation == 1)
    assert new.time_s - 1005.0 - phase <= 0.15 * 1.6 + TICK_S + 1e-6
    assert all(s.sent.generation == 1 for s in after if s.time_s >= new.time_s)
    assert talk.plan.queued_s == 0


def test_no_block_behind_an_interruption_hears_what_was_interrupted() -> None:
    """The look-ahead of what was said would keep the mouth open for 80 ms more."""
    is_made_again = []
    for phase in np.linspace(0, 0.48, 25):
        talk = Talk()
        talk.feed(3.0, speech(6.0))
        talk.interrupt(5.0 + phase)
        before = talk.run(4.9).plan.counts.made_again
        talk.run(6.0)
        at_s, order = next(o for o in talk.orders if o[0] >= 1005.0 + phase)
        if all(begin_s + 0.15 < at_s for begin_s, o in talk.orders if begin_s < at_s):
            assert len(order.sound) == BLOCK + 1280
            assert not order.sound.any()
            is_made_again.append(talk.plan.counts.made_again > before)
    assert set(is_made_again) == {False, True}


def test_what_is_said_after_an_interruption_is_heard() -> None:
    """The answer to the interruption may come before the mouth has closed."""
    for pause_s in (0.0, 0.05, 0.2, 0.5):
        talk = Talk()
        talk.feed(3.0, speech(6.0))
        talk.interrupt(5.0)
        answer = speech(1.5, first=99)
        talk.feed(5.0 + pause_s, answer)
        talk.run(10.0)
        heard = np.concatenate([s.sent.sound for s in talk.shown if s.sent.generation == 1])
        loud = np.flatnonzero(heard)
        assert np.array_equal(heard[loud[0] : loud[0] + len(answer)], answer)
        assert onset_s(talk, 5.0 + pause_s) <= 0.15 + TICK_S + 1e-6


def test_interrupting_a_silent_face_skips_nothing() -> None:
    """Nothing is to be stopped; a jump would be seen."""
    talk = Talk()
    talk.interrupt(5.1)
    talk.run(9.0)
    assert talk.plan.counts.skipped == 0
    assert talk.plan.generation == 1


def test_a_late_block_holds_the_picture_and_drops_nothing() -> None:
    """Frames dropped in the middle are words dropped in the middle."""
    said = speech(6.0)
    talk = Talk(lambda block: 0.55 if block == 12 else 0.15)
    talk.feed(4.0, said)
    talk.run(14.0)
    counts = talk.plan.counts
    assert counts.late == 1
    assert 8 <= counts.held <= 10  # 0.55 - 0.2 s
    held = [s for s in talk.shown if s.is_held]
    assert not any(s.sent.sound.any() for s in held)
    assert all(s.sent.is_speech for s in held)  # it goes on: nobody has stopped to speak
    frames = [s.frame for s in talk.shown if not s.is_held]
    assert [s.frame for s in talk.shown] == sorted(s.frame for s in talk.shown)
    assert len(frames) + counts.skipped == frames[-1] + 1
    shown = np.concatenate([s.sent.sound for s in talk.shown if not s.is_held])
    loud = np.flatnonzero(shown)
    assert np.array_equal(shown[loud[0] : loud[0] + len(said)], said)


def test_a_slow_server_gets_the_lead_that_it_needs() -> None:
    """With the least lead every block would be late, for ever."""
    talk = Talk(lambda block: 0.37, lead_s=0.2).run(30.0)
    assert talk.plan.counts.late <= 1
    assert talk.plan.lead_s == pytest.approx(0.39)


def test_blocks_that_are_made_again_have_a_pace_of_their_own() -> None:
    """A server may leave a step out of them; they are waited for as long as they take."""
    pace = Pace(0.4)
    assert pace.usual_again_s == 0.4
    for _ in range(4):
        pace.received(0.2)
    assert pace.usual_again_s == pytest.approx(0.2)
    pace.received(0.15, is_again=True)
    assert (pace.usual_s, pace.usual_again_s) == (pytest.approx(0.2), pytest.approx(0.15))


def test_one_slow_block_is_forgotten() -> None:
    """A lead that stays long would make the face deaf for what comes."""
    talk = Talk(lambda block: 1.2 if block == 10 else 0.15).run(90.0)
    assert talk.plan.lead_s < 0.25
    assert talk.plan.counts.late == 1


def test_a_lead_of_several_blocks_keeps_several_under_way() -> None:
    """Where five stages take a block's time each, one block at a time would be a standstill."""
    talk = Talk(lambda block: 1.9, lead_s=2.0)
    talk.feed(10.0, speech(3.0))
    talk.run(30.0)
    assert talk.plan.counts.late == 0
    assert onset_s(talk, 10.0) <= 2.0 + TICK_S + 1e-6


def test_sound_and_picture_stay_together_for_thirty_minutes() -> None:
    """People report seconds of drift after a night; here a frame is shown with its own sound."""
    chance = np.random.default_rng(7)
    talk = Talk(lambda block: float(chance.uniform(0.1, 0.19)))
    for second in range(5, 1795, 9):
        talk.feed(second + chance.uniform(0, 1), speech(chance.uniform(0.1, 6)))
        if second % 4 == 0:
            talk.interrupt(second + chance.uniform(0, 4))
    talk.run(1800.0)
    for s in talk.shown:
        assert talk.is_paired(s)
        assert s.time_s == pytest.approx(talk.plan.t0_s + s.tick / 25, abs=1e-9)
    assert [s.tick for s in talk.shown] == list(range(len(talk.shown)))
    # A block that is made again is awaited for the time that nearly all take.
    assert talk.plan.counts.held < 1e-3 * len(talk.shown)
    assert len(talk.shown) == pytest.approx(25 * 1800, abs=10)
    assert (
        len(talk.orders) - talk.plan.counts.made_again
    ) * 0.48 < 1800 + talk.plan.counts.skipped * TICK_S + 1


@pytest.mark.parametrize("seed", range(40))
def test_no_word_is_lost_doubled_or_moved_whatever_happens(seed: int) -> None:
    """Cuts, late blocks, trickles and any lead together: what is heard is what was fed, in order,
    and nothing of what was interrupted."""
    chance = np.random.default_rng(seed)
    slow = float(chance.choice([0.1, 0.3, 0.8]))
    talk = Talk(
        lambda block: float(chance.exponential(slow)),
        lead_s=float(chance.choice([0.1, 0.2, 1.3])),
        look_ahead=int(chance.integers(0, 4)),
        gives_up=bool(chance.random() < 0.7),
    )
    at_s, first, wanted = 0.5, 1, []
    for _ in range(12):
        at_s += float(chance.exponential(0.8))
        said = speech(float(chance.exponential(0.7)), first=first)
        first = (first + len(said)) % 20_000 + 1
        talk.feed(at_s, said)
        wanted.append(said)
        if chance.random() < 0.3:
            talk.at(at_s, talk.plan.flush)
    heard = talk.run(at_s + 30.0).heard
    assert np.array_equal(heard[heard != 0], np.concatenate(wanted))
    stream = talk.stream.reshape(-1, 640)
    shown = [s for s in talk.shown if not s.is_held]
    assert all(np.array_equal(s.sent.sound, stream[s.frame]) for s in shown)
    assert talk.plan.queued_s == 0


@pytest.mark.parametrize("seed", range(25))
def test_no_word_is_lost_or_doubled_when_servers_die(seed: int) -> None:
    """Speech that was under way would be gone, or be said twice; the clock would stand still."""
    chance = np.random.default_rng(seed)
    slow = float(chance.choice([0.1, 0.3]))
    talk = Talk(
        lambda block: float(chance.exponential(slow)), look_ahead=int(chance.integers(0, 4))
    )
    at_s, first, wanted = 0.5, 1, []
    for _ in range(12):
        at_s += float(chance.exponential(0.8))
        said = speech(float(chance.exponential(0.7)), first=first)
        first = (first + len(said)) % 20_000 + 1
        talk.feed(at_s, said)
        wanted.append(said)
    for at in chance.uniform(0.0, at_s + 2, 4):
        talk.lose(float(at), float(chance.uniform(0.1, 2.0)))
    heard = talk.run(at_s + 40.0).heard
    assert np.array_equal(heard[heard != 0], np.concatenate(wanted))
    assert all(talk.is_paired(shown) for shown in talk.shown if not shown.is_held)
    assert [shown.tick for shown in talk.shown] == list(range(len(talk.shown)))
    assert all(b.frame - a.frame in (0, *range(1, 40)) for a, b in itertools.pairwise(talk.shown))
    assert talk.plan.queued_s == 0
    assert not all(shown.is_held for shown in talk.shown[-50:])


def test_what_was_interrupted_is_not_said_after_a_loss_either() -> None:
    """The next server would get the sentence that nobody wants to hear."""
    talk = Talk()
    talk.feed(1.0, speech(3.0))
    talk.interrupt(1.6)
    talk.lose(1.61, 1.0)
    talk.run(8.0)
    assert not any(shown.sent.sound.any() for shown in talk.shown if shown.time_s > 1001.7)


def test_a_block_of_another_size_is_refused_in_words() -> None:
    """Sound would belong to other frames than it is played with."""
    talk = Talk()
    with pytest.raises(ValueError, match=r"blocks have 16 frames.*frames_per_block=16"):
        talk.plan.received(16, talk.now_s)
