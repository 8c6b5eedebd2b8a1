"""Peers give the same pictures before anybody times them; what cannot run says why."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import release
from benchmarks.peers.__main__ import agree, differences, every_peer, measure
from benchmarks.peers.peer import NotToBeHadError, Peer, PeerProcess, find_compiler
from tests.conftest import ROOT

ARTIFACTS = ROOT / "artifacts" / "demo"
OURS, ONNX = every_peer(1)[:2]
EAGER = Peer(name="PyTorch eager", engine="PyTorch eager", threads=1)


class Told:
    """A process that answers at once: latents off by so much, and these periods in turn."""

    def __init__(self, peer: Peer, off: float, *periods: float) -> None:
        self.peer, self.off, self.periods = peer, off, list(periods)

    def outputs(self, blocks: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((blocks, 3), self.off), np.zeros((blocks, 12), np.uint8)

    def period_s(self, blocks: int) -> float:
        return self.periods.pop(0)


def test_a_speed_up_is_of_one_turn_and_of_equal_outputs() -> None:
    """A machine that slows down between two turns slows down both; other outputs are other work."""
    told = [Told(OURS, 0, 0.1, 0.3), Told(ONNX, 0, 0.2, 0.6), Told(EAGER, 0.01)]
    ours, onnx, eager = measure(told, blocks=2, repetitions=2, frames=12)
    assert (ours["speed_up"], ours["fps_high"], ours["ms_per_block_low"]) == (1, 120, 100)
    assert (onnx["speed_up_low"], onnx["speed_up_high"]) == (2, 2)
    assert "its outputs are others" in eager["not_measured"]
    assert "fps" not in eager


@contextmanager
def running(*peers: Peer) -> Iterator[list[PeerProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(PeerProcess(p, "demo", ARTIFACTS))) for p in peers]


@pytest.mark.long
def test_peers_make_the_same_pictures() -> None:
    """The short form: two blocks, while the ring fills."""
    with running(OURS, ONNX, EAGER) as processes:
        ours, onnx, eager = (process.outputs(2) for process in processes)
    assert differences(ours, onnx) == {"latent_difference": 0, "frame_difference": 0}
    off = differences(eager, onnx)
    assert off["latent_difference"] > 0  # the same network, added in another order
    agree(off)


@pytest.mark.slow
def test_every_peer_makes_the_same_pictures_and_is_timed() -> None:
    """With torch.compile, and a ring that has wrapped."""
    with running(*every_peer(1)) as processes:
        for row in measure(processes, blocks=2, repetitions=1, frames=12):
            assert row["not_measured"] == ""
            assert row["fps"] > 0


def test_other_outputs_are_not_timed() -> None:
    """Also those that are no numbers."""
    frames = np.zeros((1, 12, 8, 8, 3), np.uint8)
    for off in (0.01, float("nan")):
        seen = np.full((1, 4), off, np.float32), frames
        with pytest.raises(NotToBeHadError, match="its outputs are others: latent_difference"):
            agree(differences(seen, (np.zeros((1, 4), np.float32), frames)))
    agree(differences((seen[1], frames), (seen[1], frames + np.uint8(1))))


@pytest.mark.long
def test_a_peer_that_cannot_run_says_why(tmp_path: Path) -> None:
    """The others go on, and the report has its words."""
    with closing(PeerProcess(ONNX, "demo", tmp_path)) as process:
        with pytest.raises(NotToBeHadError, match=r"pipeline\.json"):
            process.period_s(2)
        process._process.kill()
        with pytest.raises(NotToBeHadError, match="its process ended with -9"):
            process.period_s(2)


@pytest.mark.long
def test_without_a_compiler_it_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch.compile is torch's")
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(NotToBeHadError, match="apt-get install g"):
        find_compiler()


def test_the_release_lacks_what_it_lacks(tmp_path: Path) -> None:
    """It is never fetched: neither by us nor by its program."""
    assert release.measure(None)["not_measured"] == release.NOT_ASKED
    lacks = release.measure(tmp_path)["not_measured"]
    assert all(name in lacks for name in release.NEEDED)
    assert release.LORA in release.command(2)


def test_loading_cancels_out_of_the_release_figures() -> None:
    assert release.found(100.0, 112.0) == {
        "not_measured": "", "fps": 24.0, "gpus": 5, "size": "720*400"
    }  # fmt: skip
    assert "fps" not in release.found(100.0, 99.0)
