"""A live conversation in simulated time: the plan, a server that takes a while, a viewer."""

import functools
import heapq
import itertools
from collections.abc import Callable

import numpy as np

from live_avatar_client.live.orders import Order, Shown
from live_avatar_client.live.plan import FRAME_S, Plan

BLOCK = 7680


class Talk:
    """`took_s(number)` is how long the server takes for its nth block, those made again counted;
    for these it is `took_again_s` if that is given. With `gives_up` it does not go on with a block
    that is to be made again; without, that comes, too. `shown` is all that was shown, `orders` all
    that was asked for, with its moment."""

    def __init__(
        self,
        took_s: Callable[[int], float] = lambda block: 0.15,
        *,
        lead_s: float = 0.2,
        look_ahead: int = 2,
        gives_up: bool = True,
        took_again_s: float | None = None,
        cuts: bool = True,
    ) -> None:
        self.now_s = 1000.0
        self.plan = Plan(
            self.now_s, lead_s=lead_s, frames_per_block=12, look_ahead=look_ahead, cuts=cuts
        )
        self.shown: list[Shown] = []
        self.orders: list[tuple[float, Order]] = []
        self._heard: list[list[np.ndarray]] = []  # by block and making, with its look-ahead
        self._num_begun = 0  # blocks
        self._is_first = True  # the next block is a server's first
        self._took_s, self._gives_up, self._took_again_s = took_s, gives_up, took_again_s
        self._under_way: list[int] = []  # orders that are being made
        self._old: set[int] = set()  # of them, those that are made again
        self._number = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._num_lost = 0  # servers
        self._back_s = 0.0  # when the next one is there
        self._free_s = 0.0  # when the server's last block is done; they come in order
        self._settle()

    def at(self, seconds: float, happens: Callable[[], object]) -> None:
        """Let something happen so many seconds after the start."""
        heapq.heappush(self._events, (1000.0 + seconds, next(self._number), happens))

    def feed(self, seconds: float, samples: np.ndarray) -> None:
        self.at(seconds, lambda: self.plan.feed(samples, self.now_s))

    def interrupt(self, seconds: float) -> None:
        self.at(seconds, self.plan.interrupt)

    def lose(self, seconds: float, away_s: float) -> None:
        """Let the server die, and another one be there so much later."""

        def strike() -> None:
            if self.plan._changed is not None:  # what was to be made again stays as it was
                self._heard[-1].pop()
            self.plan.begin_anew()
            self._num_lost += 1
            self._back_s = self._free_s = self.now_s + away_s
            self._under_way = []
            del self._heard[self.plan._num_received :]
            self._num_begun = self.plan._num_received
            self._is_first = True

        self.at(seconds, strike)

    def run(self, until: float) -> "Talk":
        """Go on to so many seconds after the start."""
        end_s = 1000.0 + until
        while True:
            start_s = max(self.plan.next_start_s(self.now_s), self._back_s)
            due_s = min(start_s, self.now_s + FRAME_S)
            if self.plan.t0_s is not None:
                due_s = min(due_s, self.plan.next_tick_s)
            event_s = self._events[0][0] if self._events else end_s
            self.now_s = max(self.now_s, min(due_s, event_s))
            if self.now_s >= end_s:
                return self
            while self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[2]()
            self._settle()

    def _settle(self) -> None:
        while self.now_s >= self._back_s and (order := self.plan.start(self.now_s)) is not None:
            number = len(self.orders)
            if self.is_again(order) and self._under_way:
                self._old.add(self._under_way[-1])
                self._free_s = self.now_s if self._gives_up else self._free_s
            took_s = self._took_s(number)
            if self._took_again_s is not None and self.is_again(order):
                took_s = self._took_again_s
            self._free_s = max(self.now_s + took_s, self._free_s)
            self.orders.append((self.now_s, order))
            self._under_way.append(number)
            if self.is_again(order):
                self._heard[-1].append(order.sound)
            elif order.interrupt is not None:
                assert order.interrupt == self._num_begun  # the next one
                self._begin(order.sound)
            else:
                before = np.empty(0, np.int16) if self._is_first else self._heard[-1][-1][BLOCK:]
                self._is_first = False
                self._begin(np.concatenate([before, order.sound]))
            receive = functools.partial(self._receive, self._num_lost, number)
            self.at(self._free_s - 1000.0, receive)
        while (shown := self.plan.show(self.now_s)) is not None:
            self.shown.append(shown)

    def _begin(self, sound: np.ndarray) -> None:
        self._heard.append([sound])
        self._num_begun += 1

    def _receive(self, server: int, number: int) -> None:
        if server != self._num_lost:
            return
        self._under_way.remove(number)
        is_old = number in self._old
        if not (is_old and self._gives_up):
            self.plan.received(12, self.now_s, is_old=is_old)

    @property
    def heard(self) -> np.ndarray:
        """The sound of everything that was shown, int16 [n]."""
        return np.concatenate([shown.sent.sound for shown in self.shown])

    def is_paired(self, shown: Shown) -> bool:
        """Whether a frame is shown with sound that it was made of, or muted."""
        block, frame = divmod(shown.frame, 12)
        sounds = [heard[640 * frame : 640 * (frame + 1)] for heard in self._heard[block]]
        return not shown.sent.sound.any() or any(
            np.array_equal(shown.sent.sound, sound) for sound in sounds
        )

    @property
    def stream(self) -> np.ndarray:
        """The sound of the stream as the server has it in the end, int16 [n]."""
        return np.concatenate([made[-1][:BLOCK] for made in self._heard])

    def is_again(self, order: Order) -> bool:
        """Whether a server would make the newest block that was begun again."""
        return order.interrupt is not None and order.interrupt == self._num_begun - 1


def speech(seconds: float, first: int = 1) -> np.ndarray:
    """int16 samples that can be told from silence and from each other."""
    return (np.arange(round(seconds * 16_000)) % 30_000 + first).astype(np.int16)
