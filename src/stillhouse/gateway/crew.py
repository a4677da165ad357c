"""The processes of one configuration: started together, watched, started again, drained."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
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
    """What processes run: module and place of a function, with what in hand.

    `listeners` are the sockets that all of them accept on together; a folder has none, gives no
    sign of life in between (`hung_seconds` is None), and its loop of deaths is borne: what it does
    can wait.
    """

    kind: str
    module: str
    place: str
    handed: Handed
    listeners: tuple[socket.socket, ...] = ()
    hung_seconds: float | None = None

    @property
    def forever(self) -> bool:
        """Whether it is started again however often it dies."""
        return not self.listeners


class Process:
    """One running process and the line to it.

    `ready` becomes False where it ends before it is ready; `life` ends with it, and says how.
    `killed` is then whether somebody else ended it, as a machine out of memory does.
    """

    life: asyncio.Task[str]

    def __init__(self, job: Job, listeners: Sequence[socket.socket] = ()) -> None:
        self.job = job
        self._listeners = listeners
        self.name = f"{job.kind}-{next(_numbers)}"
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.killed = False
        self._why = ""
        self._draining = False

    async def start(self) -> None:
        """Start it; it is handed what it is to know."""
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        descriptors = [theirs.fileno(), *(one.fileno() for one in self._listeners)]
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self.job.module, self.job.place, self.name),
                *map(str, descriptors),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(START_SECONDS, self._silent, START_SECONDS)
        self.life = loop.create_task(self._live())

    async def _live(self) -> str:
        talk = asyncio.get_running_loop().create_task(self._talk())
        code = await self._process.wait()
        await asyncio.wait({talk}, timeout=1.0)  # its last words may still be on the line
        talk.cancel()
        self._late.cancel()
        self._line.close()
        self.killed = code < 0 and not self._why
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
                self._heard()

    def _heard(self) -> None:
        """It lives: the next sign has to come in time as well."""
        hung = self.job.hung_seconds
        if not self.ready.done():
            return
        self._late.cancel()
        if hung is not None and not self._draining:
            self._late = asyncio.get_running_loop().call_later(hung / 2, self._doubt, hung)

    def _doubt(self, seconds: float) -> None:
        """Half the time is over. Should all have slept together, its sign comes in the other."""
        self._late = asyncio.get_running_loop().call_later(seconds / 2, self._silent, seconds)

    def _silent(self, seconds: float) -> None:
        state = "gave no sign" if self.ready.done() else "was not ready"
        self._why = f"it {state} for {seconds:g} s"
        self.kill()

    async def drain(self, linger_seconds: float) -> None:
        """Let it end in good order; it is killed where that takes far too long."""
        self._draining = True
        self._late.cancel()
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
        self._came_up: list[asyncio.Future[str]] = []
        self._ending = False

    async def launch(self) -> None:
        """Start all, and watch over them."""
        await asyncio.gather(*(self._fill(place) for place in range(self._size)))
        loop = asyncio.get_running_loop()
        self._came_up = [loop.create_future() for _ in range(self._size)]
        self._watches = [loop.create_task(self._watch(place)) for place in range(self._size)]

    async def start(self) -> str:
        """Start all, wait until they are ready; why not, or nothing.

        One that ends by itself would do so again. One that is killed is started again.
        """
        await self.launch()
        for place in self._came_up:
            if why := await place:
                return why
        return ""

    async def _fill(self, place: int) -> None:
        process = Process(self.job, share_of(self.job.listeners, place, self._size))
        starting = asyncio.ensure_future(process.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # the crew ends, and nobody else knows of this one
            await starting
            await process.drain(0.0)
            raise
        self.processes[place] = process

    async def _watch(self, place: int) -> None:
        """Outlive the processes of a place, one after the other."""
        loop = asyncio.get_running_loop()
        came_up, deaths, why = self._came_up[place], 0, ""
        while not self._ending:
            process = self.processes[place]
            ready, began = await process.ready, loop.time()
            if ready and not came_up.done():
                came_up.set_result("")
            why = await process.life
            deaths = deaths + 1 if not ready or loop.time() - began < STEADY_SECONDS else 1
            loops = deaths >= MOST_DEATHS and not self.job.forever
            began_well = came_up.done() or self.job.forever
            if self._ending or not (began_well or process.killed):
                break
            if loops and not began_well:
                why += f" {deaths} times in a row; see that there is enough memory"
                break
            if loops:
                self._lose(f"{self.job.kind}s die over and over; the last one: {why}")
                return
            self._say(f"{process.name} ended ({why}); another one is started")
            await asyncio.sleep(WAITS[min(deaths, len(WAITS)) - 1])
            if not self._ending:
                await self._fill(place)
        if not came_up.done():  # whoever starts the crew hears why
            came_up.set_result(why)

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
        late = [p for p in self.processes.values() if not p.life.done()]  # started meanwhile
        await asyncio.gather(*(p.drain(linger_seconds) for p in late))

    @property
    def alive(self) -> bool:
        """Whether one of its processes still lives, or will."""
        return not self._ending or any(not p.life.done() for p in self.processes.values())

    def kill(self) -> None:
        """End all now."""
        self._ending = True
        for process in self.processes.values():
            process.kill()


def share_of(listeners: Sequence[socket.socket], place: int, size: int) -> Sequence[socket.socket]:
    """The sockets that one of so many processes accepts on: none is left out, few are shared."""
    if size >= len(listeners):
        return [listeners[place % len(listeners)]] if listeners else []
    return listeners[place::size]


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
