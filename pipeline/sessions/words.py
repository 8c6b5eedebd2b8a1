"""What a client is told of an error: no path of this machine, no line of code, no traceback."""

import re

_TRACES = ("\n\nAt:", "Traceback (most recent call last)")
"""Where words end and frames of code begin; the first is Triton's own way to write them."""
_PATH = re.compile(r"(?<![\w./])/(?:[^\s/:;,'\"()<>]+/)+[^\s:;,'\"()<>]*")
_CODE = re.compile(r"[\w./-]+\.(?:py|cc|cpp)\b(?:[:(]\d+\)?)?")


def words_of(error: BaseException) -> str:
    """The words of an error that was raised for a client. Any other one is told by its kind alone:
    its words are for the log, where whoever caught it writes them."""
    if isinstance(error, ValueError | RuntimeError):
        return without_paths(str(error))
    if isinstance(error, MemoryError):
        return "the server has no memory for this now; try again later"
    return f"the server failed ({type(error).__name__}); its log says why"


def without_paths(words: str) -> str:
    """The same, without what tells of the server's files."""
    for trace in _TRACES:
        words = words.partition(trace)[0]
    return _CODE.sub("(code)", _PATH.sub("(a file)", words)).strip()
