"""The processes of one configuration: started together, watched, started again, drained."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from stillhouse.gateway.control import FAILED, FAILURE, READY, Handed, drain_order, packed

START_SECONDS = 60.0
"""How long a process may take to be ready."""

STEADY_SECONDS = 10.0
"""A process that lived so long was well: its death begins a new count."""

MOST_DEATHS = 5
"""So many deaths in a row of one place are a loop, and no accident."""

WAITS = (0.0, 0.1, 0.4, 1.0, 5.0)
"""Seconds before each start after a death in a row."""

KILLED_AFTER_SECONDS = 10.0
"""How much longer than its drain a process may take."""

Say = Callable[[str], None]
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Job:
    """What a process runs: module and place of a function, how many of them, with what in hand.

    `listener` is the socket that workers accept on; a folder has none. `forever` says that a loop
    of deaths is borne: what the process does can wait.
    """

    kind: str
    module: str
    place: str
    handed: Handed
    listener: socket.socket | None = None
    forever: bool = False


class Process:
    """One running process and the line to it.

    `ready` becomes False where it ends before it is ready; `life` ends with it, and says how.
    """

    life: asyncio.Task[str]

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = f"{job.kind}-{next(_numbers)}"
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._why = ""

    async def start(self) -> None:
        """Start it; it is handed what it is to know."""
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        descriptors = [theirs.fileno()]
        if self.job.listener is not None:
            descriptors.append(self.job.listener.fileno())
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self.job.module, self.job.place, self.name),
                *map(str, descriptors),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(START_SECONDS, self._too_late)
        self.life = loop.create_task(self._live())

    async def _live(self) -> str:
        talk = asyncio.get_running_loop().create_task(self._talk())
        code = await self._process.wait()
        await asyncio.wait({talk}, timeout=1.0)  # its last words may still be on the line
        talk.cancel()
        self._late.cancel()
        self._line.close()
        if not self.ready.done():
            self.ready.set_result(False)
        return self._why or _ending(code)

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        heard = b""
        with suppress(OSError):
            await loop.sock_sendall(self._line, packed(self.job.handed))
            while more := await loop.sock_recv(self._line, 4096):
                *lines, heard = (heard + more).split(b"\n")
                for line in lines:
                    if line.startswith(FAILED):
                        self._why = line.removeprefix(FAILED).decode(errors="replace")
                    elif line == READY.strip() and not self.ready.done():
                        self.ready.set_result(True)

    def _too_late(self) -> None:
        if not self.ready.done():
            self._why = f"it was not ready after {START_SECONDS:g} s"
            self.kill()

    async def drain(self, linger_seconds: float) -> None:
        """Let it end in good order; it is killed where that takes far too long."""
        with suppress(OSError):
            self._line.send(drain_order(linger_seconds))
        allowed = self.job.handed.terms.drain_seconds + KILLED_AFTER_SECONDS
        await asyncio.wait({self.life}, timeout=allowed)
        self.kill()
        await self.life

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()


class Crew:
    """So many processes with the same job; a place whose process dies is filled again.

    `lost` has a sentence once one place dies over and over.
    """

    def __init__(self, job: Job, size: int, say: Say) -> None:
        self.job = job
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.processes: dict[int, Process] = {}
        self._size = size
        self._say = say
        self._watches: list[asyncio.Task[None]] = []
        self._ending = False

    async def launch(self) -> None:
        """Start all, and watch over them."""
        await asyncio.gather(*(self._fill(place) for place in range(self._size)))
        loop = asyncio.get_running_loop()
        self._watches = [loop.create_task(self._watch(place)) for place in range(self._size)]

    async def start(self) -> str:
        """Start all, wait until they are ready; why not, or nothing."""
        await self.launch()
        for process in list(self.processes.values()):
            if not await process.ready:
                return await process.life
        return ""

    async def _fill(self, place: int) -> None:
        process = Process(self.job)
        await process.start()
        self.processes[place] = process

    async def _watch(self, place: int) -> None:
        """Outlive the processes of a place, one after the other."""
        loop = asyncio.get_running_loop()
        deaths = 0
        if not (await self.processes[place].ready or self.job.forever):
            return  # it never came up: whoever starts the crew hears why
        while not self._ending:
            process = self.processes[place]
            ready, began = await process.ready, loop.time()
            why = await process.life
            if self._ending:
                return
            deaths = deaths + 1 if not ready or loop.time() - began < STEADY_SECONDS else 1
            if deaths >= MOST_DEATHS and not self.job.forever:
                self._lose(f"{self.job.kind}s die over and over; the last one: {why}")
                return
            self._say(f"{process.name} ended ({why}); another one is started")
            await asyncio.sleep(WAITS[min(deaths, len(WAITS)) - 1])
            if not self._ending:
                await self._fill(place)

    def _lose(self, sentence: str) -> None:
        if not self.lost.done():
            self.lost.set_result(sentence)

    async def drain(self, linger_seconds: float) -> None:
        """Let all end in good order."""
        self._ending = True
        await asyncio.gather(*(p.drain(linger_seconds) for p in self.processes.values()))
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    @property
    def alive(self) -> bool:
        """Whether one of its processes still lives, or will."""
        return not self._ending or any(not p.life.done() for p in self.processes.values())

    def kill(self) -> None:
        """End all now."""
        self._ending = True
        for process in self.processes.values():
            process.kill()


def _ending(code: int) -> str:
    """How a process ended, by its exit code.

    >>> _ending(-9), _ending(1)
    ('killed by SIGKILL', 'exit code 1')
    """
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    if code == FAILURE:
        return "it could not start; see above"
    return f"exit code {code}"
