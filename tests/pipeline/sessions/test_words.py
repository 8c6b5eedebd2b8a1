"""What a client is told of an error."""

import pytest

from pipeline.sessions.words import without_paths, words_of

FORBIDDEN = ("/", "Traceback", "File ", ".py")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("audio has 3 samples, wanted 640"), "audio has 3 samples, wanted 640"),
        (RuntimeError("all 2 sessions are in use"), "all 2 sessions are in use"),
        (ValueError("1.5 s at 24 frames/s, 3 / 4 of it"), "1.5 s at 24 frames/s, 3 / 4 of it"),
        (KeyError("latent"), "the server failed (KeyError); its log says why"),
        (OSError(2, "No such file", "/srv/models/x"), "the server failed (FileNotFoundError)"),
        (MemoryError(), "the server has no memory for this now; try again later"),
        (RuntimeError("can't open '/srv/models/1/x.onnx': gone"), "can't open '(a file)': gone"),
    ],
    ids=str,
)
def test_an_error_keeps_its_words_and_loses_paths(error: Exception, words: str) -> None:
    """A stranger would learn how the machine is laid out, or nothing of what he did wrong."""
    assert words_of(error).startswith(words)


@pytest.mark.parametrize(
    "words",
    [
        "Failed to process the request(s) for model 'dit_stage_0_0', message: TypeError: x\n\nAt:\n"
        "  /srv/models/dit_stage_0/1/model.py(12): execute\n",
        'broken: Traceback (most recent call last):\n  File "/srv/x.py", line 3, in f\n',
        "[ONNXRuntimeError] : 6 : /onnxruntime_src/onnxruntime/core/framework/op_kernel.cc:83",
        "model.py:12 failed",
    ],
)
def test_nothing_of_the_code_is_told(words: str) -> None:
    """Triton and ONNX Runtime put files and lines into their errors."""
    told = without_paths(words)
    assert told
    assert not [sign for sign in FORBIDDEN if sign in told]
