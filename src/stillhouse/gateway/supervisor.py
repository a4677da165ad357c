"""One process that answers nothing and sees to those that do: started, watched, renewed, ended.

The supervisor binds a socket for each place of a worker, all at one address, and keeps them open
for as long as it lives: the kernel deals callers out evenly, and one that waits to be let in
outlasts the worker it was dealt to. (On one socket for all, the first worker that wakes takes
nearly a whole burst of callers; sockets that workers bind themselves lose their queue when a worker
goes.) A reload starts the new workers on the sockets of the old, and lets those drain once the new
ones are ready.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stillhouse.core.errors import ConfigError, StillhouseError
from stillhouse.gateway.control import Handed
from stillhouse.gateway.crew import Crew, Job, Say

RELOAD_LINGER_SECONDS = 5.0
"""How long the idle callers of a worker that is replaced may still come back to it."""

STOP_LINGER_SECONDS = 1.0
BALANCED = sys.platform == "linux"
"""Whether the kernel balances callers among sockets at one address; elsewhere all share one."""

SEND_BYTES = 256 * 2**10
"""What the kernel takes for a caller that does not read; its own choice is up to megabytes."""

BUSY_SECONDS = 5.0
"""How long to wait for an address that a predecessor is about to leave."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run: places of functions (see `worker` and `folder`), and what they are handed.

    An empty `folder` means that there is none. `beside` are the kinds and places of further
    processes of its sort: one of each. A worker that gives no sign for `hung_seconds` is killed and
    replaced.
    """

    app: str
    handed: Handed
    workers: int = 1
    folder: str = ""
    hung_seconds: float = 30.0
    beside: tuple[tuple[str, str], ...] = ()


class Supervisor:
    """Keeps a plan running until it is told to end.

    `reread` makes a new plan, or raises a StillhouseError, which leaves the old one in force. `up`
    is called once, when callers are answered.
    """

    def __init__(
        self,
        plan: Plan,
        listener: socket.socket,
        reread: Callable[[], Plan],
        say: Say,
        up: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._listeners = [listener]
        self._reread = reread
        self._say = say
        self._up = up
        self._orders: asyncio.Queue[str] = asyncio.Queue()
        self._workers: Crew
        self._folder: Crew | None = None
        self._beside: list[Crew] = []
        self._crews: list[Crew] = []
        self._stories: set[asyncio.Task[None]] = set()
        self._told = False

    async def run(self) -> None:
        """Run until told to end; ConfigError where nothing could be started or kept running."""
        raise_open_files()
        self._heed_signals()
        self._workers = self._crew(self._plan)
        try:
            if why := await self._workers.start():
                raise ConfigError(f"no worker could be started: {why}")
            await self._fold(self._plan)
            self._up()
            await self._until_told()
        finally:
            await self._end()

    def _crew(self, plan: Plan) -> Crew:
        module = "stillhouse.gateway.worker"
        if BALANCED:
            first = self._listeners[0]
            more = range(len(self._listeners), plan.workers)
            self._listeners += [bound(first.family, first.getsockname()) for _ in more]
        job = Job(
            "worker", module, plan.app, plan.handed, tuple(self._listeners), plan.hung_seconds
        )
        return self._kept(Crew(job, plan.workers, self._say))

    def _kept(self, crew: Crew) -> Crew:
        """Remember a crew, to end it when there is no time to be polite."""
        self._crews = [*(known for known in self._crews if known.alive), crew]
        return crew

    async def _fold(self, plan: Plan) -> None:
        """Start what is beside the workers; it may fail and try again for as long as it takes."""
        self._folder = await self._alone("folder", plan.folder, plan) if plan.folder else None
        self._beside = [await self._alone(kind, place, plan) for kind, place in plan.beside]

    async def _alone(self, kind: str, place: str, plan: Plan) -> Crew:
        job = Job(kind, "stillhouse.gateway.folder", place, plan.handed)
        crew = self._kept(Crew(job, 1, self._say))
        await crew.launch()
        return crew

    async def _refold(self, plan: Plan) -> None:
        """Exchange what is beside the workers: the old ones end before the new ones begin."""
        await self._unfold()
        await self._fold(plan)

    async def _unfold(self) -> None:
        """Let what is beside the workers end; the folder last, which folds what others left."""
        await asyncio.gather(*(crew.drain(0.0) for crew in self._beside))
        if self._folder is not None:
            await self._folder.drain(0.0)

    async def _until_told(self) -> None:
        while True:
            order = asyncio.ensure_future(self._orders.get())
            await asyncio.wait({order, self._workers.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not order.done():
                order.cancel()
                raise ConfigError(self._workers.lost.result())
            if order.result() == "end":
                return
            await self._reload()

    async def _reload(self) -> None:
        """Put a new plan in the old one's place, or say why the old one stays."""
        try:
            plan = self._reread()
        except StillhouseError as wrong:
            self._say(f"not reloaded, the old configuration stays in force:\n{wrong}")
            return
        new = self._crew(plan)
        if why := await new.start():
            self._say(f"not reloaded, the old workers stay: no new one could be started: {why}")
            await new.drain(0.0)
            return
        old, self._workers, self._plan = self._workers, new, plan
        for story in (old.drain(RELOAD_LINGER_SECONDS), self._refold(plan)):
            task = asyncio.ensure_future(story)
            self._stories.add(task)
            task.add_done_callback(self._stories.discard)
        self._say("reloaded; the old workers end once their calls have")

    async def _end(self) -> None:
        """Let workers end, then what is beside them."""
        await self._workers.drain(STOP_LINGER_SECONDS)
        await asyncio.gather(*self._stories)
        await self._unfold()
        for listener in self._listeners[1:]:
            listener.close()

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        terminal = has_terminal()

        def hung_up() -> None:
            # A closed terminal sends the same signal as `kill -HUP`.
            if terminal and not has_terminal():
                self._told_to_end()
            else:
                self._orders.put_nowait("reload")

        for ends in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(ends, self._told_to_end)
        loop.add_signal_handler(signal.SIGHUP, hung_up)

    def _told_to_end(self) -> None:
        if self._told:
            self._say("ending now")
            for crew in self._crews:
                crew.kill()
        else:
            seconds = self._plan.handed.terms.drain_seconds
            self._say(f"ending; calls under way have {seconds:g} s (once more ends them now)")
            self._orders.put_nowait("end")
        self._told = True


def listen(host: str, port: int, busy_seconds: float = BUSY_SECONDS) -> socket.socket:
    """A listening socket; ConfigError where the address is taken or not this machine's.

    An address in use is waited for: the workers of a supervisor that was killed are about to go.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"the host {host!r} is no address of this machine ({error.strerror}); use 127.0.0.1, "
            "or 0.0.0.0 for all of its addresses"
        ) from error
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    try:
        _wait_until_free(family, address, busy_seconds)
        return bound(family, address)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({os.strerror(error.errno or 0)}); end what "
            "listens there, or give another --port"
        ) from error


def bound(family: int, address: Any) -> socket.socket:
    """One more socket at an address, on which the kernel deals out its share of the callers."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if BALANCED:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        listener.bind(address)
        listener.listen(4096)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _wait_until_free(family: int, address: Any, busy_seconds: float) -> None:
    """Wait while somebody else listens there: who shares an address would not notice."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
                return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def raise_open_files() -> None:
    """Let every worker have as many connections as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def has_terminal() -> bool:
    """Whether this process has a terminal that could hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
