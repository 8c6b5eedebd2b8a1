"""Tests of what reads and writes released weights."""

import pytest

pytest.importorskip("torch", reason="released weights are read with torch")
