"""The calls that make a text-to-video stream, whatever carries them to the models."""

from pathlib import Path

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, Arrays
from pipeline.rolling.request import RollingRequest
from pipeline.sessions.calls import Calls
from pipeline.sessions.executor import Executor
from pipeline.sessions.text import pad_text

WINDOW, DECODER, TEXT = "dit_window", "rolling_vae_decoder", "rolling_text_encoder"


class RollingExecutor(Executor):
    """What `rolling_forcing` calls."""

    decoder = DECODER

    def __init__(self, config: RollingConfig, folder: Path, calls: Calls) -> None:
        """`folder` has the tokenizer."""
        super().__init__(config, folder, calls)
        self.config = config

    def start(self, request: RollingRequest) -> None:
        """Encode the prompt, open the session at the window and the decoder."""
        self.calls.ready()
        if request.text is not None:
            text = pad_text(request.text, self.config)
        else:
            text = self.encode_text(request.prompt or "")
        window: Arrays = {
            "text": text,
            "seed": np.array([request.seed], np.int64),
            "rules": np.frombuffer(request.options.rules.encode(), np.uint8),
        }
        self.calls.open(request.session, {WINDOW: window, DECODER: {}})

    def encode_text(self, prompt: str) -> Array:
        """text [1, text_len, text_dim]."""
        return self.calls.call(TEXT, self.tokenizer(prompt), ["text"])["text"]

    def tick(self, session: int, tick: int, **tensors: Array) -> Array | None:
        """Tensors as in `WindowDevice.step`. Returns a finished block's latent."""
        return self.calls.step(WINDOW, session, tick, tensors)
