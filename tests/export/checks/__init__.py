"""Tests of the claims that need no GPU."""

import pytest

pytest.importorskip("torch", reason="graphs are compared with torch")
