"""What the planner counts on networks, and what follows from that."""

import pytest

pytest.importorskip("torch", reason="work is counted on torch's modules")
