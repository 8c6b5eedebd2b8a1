"""Tests of the benchmark of live conversations, which reads mouths with the training's judge."""

import pytest

pytest.importorskip("torch", reason="the judge of mouths needs torch")
