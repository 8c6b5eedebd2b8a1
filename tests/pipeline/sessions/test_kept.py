"""What of a session is kept to bring it back."""

import numpy as np

from pipeline.sessions.kept import Kept


def block(number: int, **more: int) -> dict[str, np.ndarray]:
    return {name: np.array([value]) for name, value in {"block": number, **more}.items()}


def test_what_holds_for_later_blocks_outlives_its_own() -> None:
    """The session would go on under the prompt of before."""
    kept = Kept({"text": np.array([0])}, most=5)
    for tick in range(12):
        lasting = {3: {"text": 33}, 4: {"reference": 44}, 7: {"text": 77, "ring_start": 7}}
        kept.add(tick, block(tick, **lasting.get(tick, {})))
    (first, begun), *others = kept.history()
    assert first == 8
    assert {name: int(value[0]) for name, value in begun.items()} == {
        "block": 8,
        "reference": 44,
        "text": 77,
        "ring_start": 7,
    }
    assert [tick for tick, _ in others] == [9, 10, 11]
    assert all(set(inputs) == {"block"} for _, inputs in others)


def test_a_replay_begins_at_an_even_block_though_a_block_was_made_again() -> None:
    """The decoder's buffers take turns by the block's number, and ticks run ahead of it."""
    kept = Kept({}, most=3)
    blocks = [0, 1, 2, 2, 3, 4, 5]
    for tick, number in enumerate(blocks):
        kept.add(tick, block(number))
    assert [tick for tick, _ in kept.history()] == [5, 6]


def test_a_block_that_is_left_as_it_was_is_kept_as_it_was() -> None:
    """One that is made again from its second step on passes the first one as a number."""
    kept = Kept(opening={}, most=4)
    kept.add(0, block(0, latent=7))
    kept.add(1, block(0, text=5))
    ((_, inputs),) = kept.history()
    assert inputs == block(0, latent=7, text=5)


def test_a_session_that_has_made_nothing_has_no_history() -> None:
    """It is opened, and that is all."""
    assert Kept({}, most=1).history() == []


def test_a_block_that_is_made_again_is_repeated_once() -> None:
    """What it was before is heard no more, and would take the place of a block that is."""
    kept = Kept({}, most=3)
    for tick, number in enumerate([0, 1, 2, 3, 4, 4, 4, 5, 6]):
        kept.add(tick, block(number, **({"text": 7} if tick == 5 else {})))
    assert [(tick, int(inputs["block"][0])) for tick, inputs in kept.history()] == [
        (6, 4),
        (7, 5),
        (8, 6),
    ]
    assert kept.history()[0][1]["text"] == 7  # came with a making that is not repeated
