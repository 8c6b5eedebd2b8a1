"""Tests of the networks."""

import pytest

pytest.importorskip("torch", reason="the networks need torch")
