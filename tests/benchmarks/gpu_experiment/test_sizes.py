"""The sizes of 14B on torch's meta device, where nothing is computed: the miniature has others."""

import pytest
import torch

from benchmarks.gpu_experiment import in_place, step, trunk, vae
from benchmarks.gpu_experiment.step_parts import Parts
from benchmarks.gpu_experiment.trunk import Trunk
from networks import block, compact_vae, vae_layers
from networks.vae_layers import Conv3d


@pytest.fixture(autouse=True)
def _networks_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a test; the experiment changes them for the rest of its processes."""
    for module, name in ((block, "write_cache"), (vae_layers, "windows"), (compact_vae, "windows")):
        monkeypatch.setattr(module, name, getattr(module, name))


def test_the_trunk_and_its_cache_are_those_of_14b() -> None:
    """Others would be measured, and the planner would believe it."""
    whole = Trunk(trunk.preset_of(is_miniature=False), "meta")
    assert sum(weight.nbytes for weight in whole.dit.parameters()) == pytest.approx(
        32.6e9, rel=0.01
    )
    assert whole.num_bytes("cache_") == 819_200 * 15_312
    assert [whole.num_keys(n) for n in (1, 2, 3, 4)] == [5_808, 8_976, 12_144, 15_312]


def test_a_step_of_14b_and_its_parts_fit_together() -> None:
    """A shape that does not fit would be found out after half a minute of a lease."""
    some = Trunk(trunk.preset_of(is_miniature=False, num_layers=1), "meta")
    velocity = some.run()
    assert velocity.shape == (3, 1056, 64)
    assert some.run(1).shape == velocity.shape
    assert some.fill().shape == (1, 2640, 64)
    with torch.inference_mode():
        parts = Parts(some, "meta")
        parts.products(), parts.norms(), parts.cache_writes()
        parts.narrow_products()()
        assert parts.rotated_keys().shape == parts.k.shape
        assert parts.rotated_queries().shape == parts.q.shape
        assert parts.attention(parts.mask).shape == parts.cross_attention().shape == parts.q.shape
        assert parts.audio().shape == parts.x.shape
        assert parts.activation().shape == parts.hidden.shape
    step.narrow(some, None)
    assert any(isinstance(module, step.ScaledLinear) for module in some.dit.modules())
    assert some.run().shape == velocity.shape


@pytest.mark.parametrize("form", vae.FORMS)
def test_the_vae_of_14b_has_its_sizes_in_every_form(form: str) -> None:
    """The same, for a block of twelve frames and for a picture."""
    with vae.formed(vae.FORMS[form]):
        passes = vae.Passes(vae.preset_of(is_miniature=False), "meta")
        assert passes.decode().shape == (12, 704, 384, 3)
        assert passes.encode().shape == (1, 16, 19, 88, 48)


def test_a_form_ends_with_its_measurement() -> None:
    """The next one would be measured in the wrong form."""
    plain = Conv3d.forward
    with vae.formed(vae.channels_last):
        inside = Conv3d.forward
    assert inside is vae.channels_last
    assert Conv3d.forward is plain


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_without_a_list_are_those_of_the_networks(stride: int) -> None:
    """The VAE would be measured with the wrong frames side by side."""
    x = torch.randn(7, 2, 3, 3)
    wanted = vae_layers.windows(x, 1, 3, stride)
    assert torch.equal(in_place.windows_of_one(x, 1, 3, stride), wanted)
    with pytest.raises(ValueError, match="2 clips side by side"):
        in_place.windows_of_one(x, 2, 3, stride)
