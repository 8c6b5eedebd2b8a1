"""Where the answers of a request go, and where its trace is."""

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def request(context: str | None) -> Any:
    return SimpleNamespace(
        get_response_sender=lambda: None,
        requested_output_names=lambda: [],
        parameters=lambda: "",
        trace=lambda: SimpleNamespace(get_context=lambda: context),
    )


@pytest.mark.parametrize(
    ("context", "wanted"), [(f'{{"traceparent": "{PARENT}"}}', PARENT), (None, None), ("", None)]
)
def test_a_request_tells_its_place_in_its_trace(
    serving: ModuleType, context: str | None, wanted: str | None
) -> None:
    """Blocks would be traces of their own, or requests that Triton does not sample be traced."""
    reply = importlib.import_module("pipeline.triton.reply")
    assert reply.TritonReply(request(context), is_traced=True).traceparent == wanted
    assert reply.TritonReply(request(context)).traceparent is None
