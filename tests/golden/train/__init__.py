"""Training against the release's run."""

import pytest

pytest.importorskip("torch", reason="training needs torch")
