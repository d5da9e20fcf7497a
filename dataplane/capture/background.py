"""Work that goes on beside the forwarding: one thread behind it that writes, one before it that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """A thread that does ``work`` with one item after the other, in order.

    What it raises is raised by the next ``put``, or by ``close``; items after that are passed over.
    """

    def __init__(self, work: Callable[[Item], None], passed_over: Callable[[Item], None]) -> None:
        self._work = work
        self._passed_over = passed_over
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="dataplane-writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        self._check()
        self._items.put(item)

    def close(self) -> None:
        """Wait until everything is done."""
        self.stop()
        self._check()

    def stop(self) -> None:
        """As ``close``, whatever went wrong."""
        self._items.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            if self._error is not None:
                self._passed_over(item)
                continue
            try:
                self._work(item)
            except BaseException as error:
                self._error = error
                self._passed_over(item)


class Ahead(Generic[Item]):
    """What an iterator gives, made by a thread that is up to ``most`` items ahead. Close it where it was not used up."""

    def __init__(self, source: Iterator[Item], most: int) -> None:
        self._source = source
        self._items: Queue[Item | None] = Queue(most)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._run, name="dataplane-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while (item := self._items.get()) is not None:
            yield item
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop reading."""
        self._stopped = True
        while self._thread.is_alive():
            while not self._items.empty():
                self._items.get()
            self._thread.join(0.01)

    def _run(self) -> None:
        try:
            for item in self._source:
                if self._stopped:
                    break
                self._items.put(item)
        except BaseException as error:
            self._error = error
        self._items.put(None)
