"""The calls that make a text-to-video stream, whatever carries them to the models."""

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.engines.base import Array, Arrays
from pipeline.rolling.request import RollingRequest
from pipeline.sessions.calls import Executor

WINDOW, DECODER, TEXT = "dit_window", "rolling_vae_decoder", "rolling_text_encoder"


class RollingExecutor(Executor):
    """What `rolling_forcing` calls."""

    decoder = DECODER
    config: RollingConfig

    def start(self, request: RollingRequest) -> None:
        """Encode the prompt, open the session at the window and the decoder."""
        self.calls.ready()
        text = self.encode_text(request.prompt or "") if request.text is None else request.text
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
