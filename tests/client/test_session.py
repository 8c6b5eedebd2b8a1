"""The client's session against a stand-in server that speaks the wire."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from live_avatar_client import AvatarError, Session
from tests.support.fake_avatar_server import FakeAvatar, serving

BLOCK = 7680  # samples of 12 frames


def chunks_of(audio: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for begin in range(0, len(audio), size):
        yield audio[begin : begin + size]


def silence(num_samples: int) -> np.ndarray:
    return np.zeros(num_samples, np.float32)


@pytest.fixture(autouse=True)
def _no_client_thread_survives() -> Iterator[None]:
    """Every test ends with the reading and feeding threads gone, errors included."""
    yield
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        left = [t.name for t in threading.enumerate() if t.name.startswith("avatar-")]
        if not left:
            return
        time.sleep(0.01)
    assert not left


@pytest.mark.parametrize("size", [1, 640, 7681, 100_000])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_blocks_come_in_order_on_the_audio_clock_whatever_the_chunks(size: int, dtype) -> None:
    """Lost or doubled samples would show as a wrong number of frames: ceil(n / 640)."""
    num_samples = 3 * BLOCK + 641 if size > 1 else 1000
    audio = np.zeros(num_samples, dtype)
    with serving(FakeAvatar()) as url, Session(image=b"png", url=url) as session:
        blocks = list(session.stream(chunks_of(audio, size)))
    assert [b.block for b in blocks] == list(range(len(blocks)))
    assert sum(len(b.frames) for b in blocks) == -(-num_samples // 640)
    assert [b.frame_index for b in blocks] == [12 * i for i in range(len(blocks))]
    assert all((b.frames == b.block).all() and b.frames.dtype == np.uint8 for b in blocks)
    assert blocks[0].latent is None


def test_first_block_arrives_while_audio_is_still_being_fed() -> None:
    """A client that collects its input first would wait here for ever."""
    arrived = threading.Event()

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        assert arrived.wait(5)
        yield silence(BLOCK)

    with serving(FakeAvatar()) as url, Session(image=b"png", url=url) as session:
        seen = []
        for block in session.stream(speech()):
            arrived.set()
            seen.append(block.block)
    assert seen == [0, 1]


def test_the_wire_carries_one_sequence_with_one_start_and_one_end() -> None:
    """Triton refuses a sequence whose flags or id are wrong, and sends latents nobody wants."""
    avatar = FakeAvatar()
    with (
        serving(avatar) as url,
        Session(
            image=np.zeros((4, 6, 3), np.uint8), prompt="ä", seed=-1, options={"a": 1}, url=url
        ) as session,
    ):
        session.send(silence(BLOCK))
        session.finish()
        session.finish()
        assert len(list(session)) == 1
    flags = [
        (r.parameters["sequence_start"].bool_param, r.parameters["sequence_end"].bool_param)
        for r, _ in avatar.requests
    ]
    assert flags == [(True, False), (False, False), (False, True)]
    ids = {r.parameters["sequence_id"].int64_param for r, _ in avatar.requests}
    assert len(ids) == 1
    assert 0 < ids.pop() < 2**63
    request, start = avatar.requests[0]
    outputs = [output.name for output in request.outputs]
    assert outputs == ["frames", "frame_index", "block", "timings_ms", "generation"]
    assert start["image_rgb"].shape == (4, 6, 3)
    assert start["prompt"].tobytes().decode() == "ä"
    assert start["options"].tobytes() == b'{"a": 1}'
    assert start["seed"].tolist() == [-1]


def test_latents_and_named_timings_come_when_asked_for() -> None:
    """Parity tests read the latents; an operator reads the timings by their names."""
    with serving(FakeAvatar()) as url, Session(image=b"p", url=url, want_latent=True) as session:
        (block,) = session.stream([silence(BLOCK)])
    assert block.latent is not None
    assert block.latent.shape == (1, 16, 3, 1, 1)
    assert list(block.timings_ms)[-2:] == ["dit_stage_0", "dit_stage_1"]


def test_parity_inputs_travel_with_their_audio_in_one_request() -> None:
    """Split audio would separate the noise from the blocks it belongs to."""
    avatar = FakeAvatar()
    noise = np.ones((4, 16, 3, 2, 2), np.float32)
    with serving(avatar) as url, Session(image=b"p", url=url) as session:
        session.send(silence(4 * BLOCK), noise=noise, sink_distance=np.ones((4, 4), np.int64))
        session.finish()
        assert len(list(session)) == 4
    (tensors,) = [t for _, t in avatar.requests if "audio" in t]
    assert len(tensors["audio"]) == 4 * BLOCK
    assert (tensors["noise"] == noise).all()


def test_frames_on_a_final_response_are_not_lost() -> None:
    """The final flag and the tensors may come in one message."""
    with (
        serving(FakeAvatar(final_with_frames=True)) as url,
        Session(image=b"p", url=url) as session,
    ):
        assert len(list(session.stream([silence(3 * BLOCK)]))) == 3


def test_a_server_error_arrives_with_its_text_after_the_blocks_before_it() -> None:
    """The text is the only thing that tells the user what to change."""
    with serving(FakeAvatar(error_at_block=2)) as url, Session(image=b"p", url=url) as session:
        blocks = session.stream(chunks_of(silence(20 * BLOCK), 1600))
        assert [next(blocks).block, next(blocks).block] == [0, 1]
        with pytest.raises(AvatarError, match="stage 2 is on fire"):
            next(blocks)


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"cut_at_block": 2}, "ended the stream"), ({"abort_at_block": 2}, "going down")],
)
def test_a_stream_cut_in_the_middle_is_an_error_not_a_hang(fault: dict, words: str) -> None:
    """tritonclient says nothing when a server ends a stream in good order."""
    with serving(FakeAvatar(**fault)) as url, Session(image=b"p", url=url) as session:
        blocks = session.stream(chunks_of(silence(20 * BLOCK), 1600))
        assert [next(blocks).block, next(blocks).block] == [0, 1]
        with pytest.raises(AvatarError, match=words):
            next(blocks)


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    """Without patience's end a dead model process would hold the caller for ever."""
    with (
        serving(FakeAvatar(silent=True)) as url,
        pytest.raises(AvatarError, match=r"silent for 0\.2 s, with \d+ requests unanswered"),
        Session(image=b"p", url=url, timeout_s=0.2) as session,
    ):
        list(session.stream([silence(BLOCK)]))


def test_a_pause_of_the_speaker_is_no_timeout() -> None:
    """With every request answered, silence is the caller's: a microphone may be off."""

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        time.sleep(0.4)  # twice the patience below
        yield silence(BLOCK)

    with serving(FakeAvatar()) as url, Session(image=b"p", url=url, timeout_s=0.2) as session:
        assert len(list(session.stream(speech()))) == 2


def test_an_unreachable_server_is_named_with_the_way_to_start_one() -> None:
    """Connection errors are what a newcomer meets first."""
    with pytest.raises(AvatarError, match=r"no server answers at 127\.0\.0\.1:9 .*make serve"):
        Session(image=b"p", url="127.0.0.1:9").open()


def test_a_model_that_is_not_ready_is_named() -> None:
    """A server is up long before its models, and stays up without them."""
    with (
        serving(FakeAvatar(model="other")) as url,
        pytest.raises(AvatarError, match="model 'live_avatar' is not ready"),
    ):
        Session(image=b"p", url=url).open()


def test_no_more_audio_is_sent_than_the_bound_when_nothing_comes_back() -> None:
    """Without the bound an endless stream would pile up in memory before a slow server."""
    avatar = FakeAvatar()
    avatar.may_answer.clear()
    drawn = []

    def speech() -> Iterator[np.ndarray]:
        for _ in range(500):
            drawn.append(1600)
            yield silence(1600)

    with serving(avatar) as url, Session(image=b"p", url=url, max_ahead_s=1.0) as session:
        blocks = session.stream(speech())
        threading.Timer(0.4, avatar.may_answer.set).start()
        next(blocks)
        blocks.close()
    # 1 s before the first answer and, by the time it is taken, what that answer made room for:
    # one block, the chunk in hand and one more that was drawn meanwhile.
    assert sum(drawn) <= 16_000 + BLOCK + 2 * 1600


def test_a_slow_reader_slows_the_feeding() -> None:
    """Frames that nobody takes would fill memory: 33 MB per block at 720p."""
    drawn = []

    def speech() -> Iterator[np.ndarray]:
        for _ in range(500):
            drawn.append(1600)
            yield silence(1600)

    with serving(FakeAvatar()) as url, Session(image=b"p", url=url, max_ahead_s=1.0) as session:
        blocks = session.stream(speech())
        next(blocks)
        time.sleep(0.3)
        assert sum(drawn) <= 16_000 + BLOCK + 2 * 1600
        blocks.close()


def test_a_whole_file_may_be_sent_before_the_first_block_is_taken() -> None:
    """One thread, send then read: the bound counts what came back, not what was taken."""
    with serving(FakeAvatar()) as url, Session(image=b"p", url=url, max_ahead_s=1.0) as session:
        session.send(silence(20 * BLOCK))
        session.finish()
        assert len(list(session)) == 20


def test_a_bound_below_one_block_still_makes_progress() -> None:
    """The server answers whole blocks only: waiting for room then would never end."""
    with serving(FakeAvatar()) as url, Session(image=b"p", url=url, max_ahead_s=0.05) as session:
        assert len(list(session.stream(chunks_of(silence(2 * BLOCK), 400)))) == 2


def test_leaving_the_loop_cancels_what_is_open() -> None:
    """An open request is how the server notices that the viewer has gone."""
    avatar = FakeAvatar()
    with serving(avatar) as url:
        with Session(image=b"p", url=url) as session:
            for _ in session.stream(chunks_of(silence(100 * BLOCK), 1600)):
                break
        assert avatar.cancelled.wait(3)


def test_closing_an_idle_session_sends_end() -> None:
    """Cancelling reaches open requests only; without END the place stays taken until idle-out."""
    avatar = FakeAvatar()
    with serving(avatar) as url, Session(image=b"p", url=url) as session:
        session.send(silence(BLOCK))
        next(iter(session))
        time.sleep(0.1)  # let the final response arrive, so that nothing is open
    assert avatar.requests[-1][0].parameters["sequence_end"].bool_param


def test_an_error_of_the_audio_source_reaches_the_reader() -> None:
    """Swallowed in the feeding thread, it would look like the end of the speech."""

    def speech() -> Iterator[np.ndarray]:
        yield silence(BLOCK)
        raise OSError("microphone unplugged")

    with (
        serving(FakeAvatar()) as url,
        pytest.raises(OSError, match="unplugged"),
        Session(image=b"p", url=url) as session,
    ):
        list(session.stream(speech()))


def test_a_block_out_of_order_is_refused() -> None:
    """Pictures in the wrong place would be played without a word."""
    with (
        serving(FakeAvatar(renumber=1)) as url,
        pytest.raises(AvatarError, match="sent block 1 at frame 0, expected block 0"),
        Session(image=b"p", url=url) as session,
    ):
        list(session.stream([silence(BLOCK)]))


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros((2, 640), np.float32), r"audio is float32 \[2, 640\], expected mono 16 kHz"),
        (np.zeros(640), r"audio is float64 \[640\], expected"),
    ],
)
def test_unfit_audio_is_refused_before_it_is_sent(audio: np.ndarray, words: str) -> None:
    """Stereo read as mono plays at half speed; doubles arrive as noise."""
    with serving(FakeAvatar()) as url, Session(image=b"p", url=url) as session:
        with pytest.raises(ValueError, match=words):
            session.send(audio)
        session.finish()
        assert list(session) == []
        with pytest.raises(RuntimeError, match="after finish"):
            session.send(silence(1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "no/such.png"}, "no/such.png is not a file"),
        ({"image": b""}, "image has 0 bytes"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"image_rgb is uint8 \[4, 4\], expected UINT8"),
        ({"image": b"p", "prompt": "a", "text": np.zeros((1, 2), np.float32)}, "same thing twice"),
        ({"image": b"p", "seed": 2**63}, "64-bit"),
        ({"image": b"p", "options": {"a": object()}}, "JSON"),
        ({"image": b"p", "max_ahead_s": 0}, "above 0"),
    ],
)
def test_unfit_arguments_are_named_before_connecting(arguments: dict, words: str) -> None:
    """A mistake costs no round trip and no place on the server."""
    with pytest.raises(ValueError, match=words):
        Session(**arguments)
