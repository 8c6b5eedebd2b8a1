"""From PyTorch over ONNX in float32 to float16: where on the way to a plan numbers drift."""

from pathlib import Path

import pytest

from tests.golden.fixtures import needs_golden
from tests.golden.parity_ladder import climb, table

pytestmark = [needs_golden, pytest.mark.slow]

SINGLE, HALF = 2e-5, 1.2e-2
"""Of latents up to 4.5: float32 sums in another order; three times what float16 was seen to do."""


def test_no_block_drifts_on_any_rung(tmp_path: Path) -> None:
    """A cache that keeps errors would show in the later blocks, a cast too early in all."""
    errors = climb(tmp_path)
    print(table(errors))
    for each in errors:
        assert max(each.torch_release, each.single_torch) <= SINGLE
        assert 1e-5 <= each.half_single <= HALF  # the arithmetic is not float32's
        assert each.single_frames <= 1  # rounding to 8 bits
        assert each.half_frames <= 2
    half = len(errors) // 2
    early, late = (max(e.half_single for e in part) for part in (errors[:half], errors[half:]))
    assert late <= 2 * early
