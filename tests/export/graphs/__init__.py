"""Tests of the graphs' export."""

import pytest

pytest.importorskip("torch", reason="graphs are exported from torch")
