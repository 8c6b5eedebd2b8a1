"""Those lines of the GPU experiment that its miniature does not come by."""

import pytest

pytest.importorskip("torch", reason="the GPU experiment needs torch")
