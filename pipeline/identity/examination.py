"""Do the models of a repository belong together? They load side by side and can't call each other
before they have, so the public model asks from a thread of its own, as soon as all are there. No
session starts before the answer."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from pipeline.identity.holders import Identity, differences

logger = logging.getLogger(__name__)

AGREED = "its models belong together"
REFUSES = "refuses every session"
"""The two ends of an examination in the log, behind the model's name; `deploy` waits for them."""
NOT_READY = "Server not ready"
"""How Triton answers a call while it loads the models it was started with, and when it ends."""
SETTLE_S = 0.5
"""`initialize` must have returned before the first call, and has no way to say when it has."""
POLL_S = 0.05
GRACE_S = 5.0  # how long a model may be missing before that is an error


class Examination:
    """Asks `holders` with `ask`, which raises where a model can't be reached, what they are, once
    they can be, and keeps the verdict. `stateless` are models that can't be asked, as far as they
    are known."""

    def __init__(
        self,
        public: Identity,
        holders: Sequence[str],
        ask: Callable[[str], Identity],
        stateless: Sequence[Identity] = (),
    ) -> None:
        self.public, self.holders, self.stateless = public, list(holders), list(stateless)
        self._ask = ask
        self._refused: Callable[[], None] = lambda: None
        self._with_server = False
        self._words = f"{public.model}: its models are not asked yet what they are; try again"
        self._is_agreed = False
        self._has_verdict = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="examination", daemon=True)

    def start(self, refused: Callable[[], None], *, with_server: bool) -> None:
        """Begin; the last thing that a model does when it loads. The thread calls `refused` once
        when the models contradict each other, and when one is missing `with_server`: this model was
        loaded as the server started, so nothing will bring it. Of a model loaded by hand the others
        may be on their way."""
        self._refused, self._with_server = refused, with_server
        self._thread.start()

    def stop(self) -> None:
        """End the thread, whether it has a verdict or not."""
        self._stopping.set()
        self._has_verdict.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(GRACE_S)

    def await_agreement(self) -> None:
        """Return when the models belong together; RuntimeError says why they don't."""
        self._has_verdict.wait(GRACE_S)
        if not self._is_agreed:
            raise RuntimeError(self._words)

    def check(self, identities: Iterable[Identity]) -> None:
        """Compare with the answers to a session's START, as one of the models may be another one
        since; RuntimeError as above."""
        if found := differences(self.public, list(identities)):
            raise RuntimeError(f"{self.public.model}: {'; '.join(found)}")

    def _run(self) -> None:
        if self._stopping.wait(SETTLE_S):
            return
        identities = self._reach_all()
        if identities is None:
            return
        if found := differences(self.public, [*identities, *self.stateless]):
            self._refuse("; ".join(found))
            return
        self._is_agreed = True
        logger.info("%s: %s", self.public.model, AGREED)
        self._has_verdict.set()

    def _reach_all(self) -> list[Identity] | None:
        """What the holders are; None if the model ends before, or one won't come."""
        is_told, missing_since = False, time.monotonic()
        while not self._stopping.is_set():
            try:
                return [self._ask(holder) for holder in self.holders]
            except Exception as error:
                words = f"not all of its models can be reached: {error}"
                is_starting = NOT_READY in str(error)
            self._words = f"{self.public.model}: {words}"
            if is_starting:
                self._with_server, missing_since = True, time.monotonic()
            elif time.monotonic() - missing_since > GRACE_S:
                if self._with_server:
                    self._refuse(words)
                    return None
                if not is_told:
                    logger.error("%s %s: %s", self.public.model, REFUSES, words)
                is_told = True
            self._stopping.wait(1.0 if is_told else POLL_S)
        return None

    def _refuse(self, words: str) -> None:
        self._words = f"{self.public.model}: {words}"
        logger.error("%s %s: %s", self.public.model, REFUSES, words)
        self._has_verdict.set()
        self._refused()
