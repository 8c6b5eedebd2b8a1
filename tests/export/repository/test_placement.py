"""Where the denoising steps go: each once, no GPU idle."""

import pytest

from export.repository.placement import Placement, place


@pytest.mark.parametrize("num_steps", [1, 3, 4, 8])
def test_every_step_is_placed_once_and_no_gpu_is_idle(num_steps: int) -> None:
    """A step left out leaves its noise in; one placed twice denoises twice."""
    for num_gpus in range(1, num_steps + 2):
        placement = place(num_steps, num_gpus)
        assert [s for stage in placement.steps for s in stage] == list(range(num_steps))
        assert all(placement.steps)
        assert placement.num_gpus == num_gpus
        sizes = [len(stage) for stage in placement.steps]
        assert max(sizes) - min(sizes) <= 1


def test_more_gpus_are_never_slower() -> None:
    """A GPU would be paid for and hold the others up."""
    loads = [place(4, num_gpus).load for num_gpus in (1, 2, 3, 4, 5)]
    assert loads == sorted(loads, reverse=True)
    assert loads[-1] == 1  # nothing waits for anything else


@pytest.mark.parametrize("num_gpus", [0, 6])
def test_a_number_of_gpus_without_a_use_is_refused(num_gpus: int) -> None:
    """GPUS=8 would leave three idle in silence."""
    with pytest.raises(ValueError, match=rf"{num_gpus} GPUs for 4 steps, wanted 1..5"):
        place(4, num_gpus)


def test_a_placement_with_a_step_twice_is_refused() -> None:
    """The block would be denoised twice at one noise level."""
    with pytest.raises(ValueError, match="each once"):
        Placement(steps=((0, 1), (1, 2)), vae_gpu=2)
