"""Live Avatar against the release's run."""

import pytest

pytest.importorskip("torch", reason="the reference runs in torch")
