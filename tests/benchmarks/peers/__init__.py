"""Schedules of one size, on workers."""

import pytest

pytest.importorskip("torch", reason="the avatar is exported with torch")
