"""The lines of a submitted job as they come."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Self

from orchestrator.cluster.client import Cluster

_PAUSE_S = 1.0
_WAKE_S = 0.2


class Tail:
    """What a job says, from the beginning until it ends; an empty string where it has nothing to say for a moment.

    An iterator that an interrupt does not end. A connection that breaks is made again, and what was said is not
    repeated.
    """

    def __init__(self, cluster: Cluster, id: str) -> None:
        self._cluster, self._id = cluster, id
        self._chunks: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        cluster.client  # noqa: B018  (Ray is imported by the main thread)
        threading.Thread(target=self._work, name="tail", daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            chunk = self._chunks.get(timeout=_WAKE_S)
        except queue.Empty:
            return ""
        if chunk is None:
            self._chunks.put(None)  # so that it is over for whoever asks again
            raise StopIteration
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def _work(self) -> None:
        try:
            asyncio.run(self._follow())
            self._chunks.put(None)
        except BaseException as error:
            self._chunks.put(error)

    async def _follow(self) -> None:
        seen = 0
        while True:
            passed = 0
            try:
                async for text in self._cluster.client.tail_job_logs(self._id):
                    new = text[max(0, seen - passed) :]
                    passed += len(text)
                    seen = max(seen, passed)
                    if new:
                        self._chunks.put(new)
            except Exception:  # the connection broke
                await asyncio.sleep(_PAUSE_S)
                passed = -1
            if self._cluster.find_id(self._id).over and passed >= 0:
                return
            await asyncio.sleep(_WAKE_S)
