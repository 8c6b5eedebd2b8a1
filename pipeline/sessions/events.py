"""What a control thread has to do next: what the models have done goes first, then what clients
ask, in turns. A flood of one client's requests would hold up everybody else's."""

import queue
import threading
from collections import deque
from collections.abc import Callable

Event = Callable[[], None]


class Events:
    """A queue from any thread to one. The events of one client stay in order, and so do the
    models'."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each event
        self._lock = threading.Lock()  # guards the two below
        self._of_models: deque[Event] = deque()
        self._of_clients: dict[int, deque[Event]] = {}  # by session; whose turn it is comes first

    def put(self, event: Event, session: int | None = None) -> None:
        """`session`: whose client asks for it; None: it goes before what clients ask."""
        with self._lock:
            if session is None:
                self._of_models.append(event)
            else:
                self._of_clients.setdefault(session, deque()).append(event)
        self._came.put(None)

    def get(self, timeout_s: float) -> Event | None:
        """The next one; None if none came in that time."""
        try:
            self._came.get(timeout=timeout_s)
        except queue.Empty:
            return None
        with self._lock:
            if self._of_models:
                return self._of_models.popleft()
            session = next(iter(self._of_clients))
            events = self._of_clients.pop(session)
            event = events.popleft()
            if events:
                self._of_clients[session] = events  # behind the others
            return event

    def __len__(self) -> int:
        return self._came.qsize()
