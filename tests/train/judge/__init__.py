"""Tests of the judgement of text to video."""
