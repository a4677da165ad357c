from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from email.message import Message
from pathlib import Path

import pytest

from stillhouse.core.errors import ConfigError
from stillhouse.gateway.crew import share_of
from stillhouse.gateway.supervisor import listen

SITE = """
import asyncio, os, signal, sys
from contextlib import suppress
from pathlib import Path

from stillhouse.core.errors import ConfigError
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.control import Handed
from stillhouse.gateway.supervisor import Plan, Supervisor, listen

TERMS = Terms(
    max_connections=50,
    max_header_bytes=4096,
    header_seconds=2.0,
    write_seconds=0.3,
    drain_seconds=20,
)


def app(payload, name):
    word = payload.decode()
    if word == "refuses":
        raise ConfigError("the sentence of the app")
    if word.startswith("killed"):
        for number in range(int(word.split()[1])):
            with suppress(FileExistsError):
                Path(f"death-{number}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            if word == "dies":
                asyncio.get_running_loop().call_later(0.05, os._exit, 7)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("app closed", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        facts = [(b"x-pid", str(os.getpid()).encode()), (b"x-word", payload)]
        await send({"type": "http.response.start", "status": 200, "headers": facts})
        if scope["path"] == "/stream":
            for number in range(8):
                piece = {"type": "http.response.body", "body": b"%d" % number, "more_body": True}
                await send(piece)
                await asyncio.sleep(0.1)
        gone = asyncio.ensure_future(hang_up(receive))
        while scope["path"] == "/endless" and not gone.done():
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            await asyncio.sleep(0)
        gone.cancel()
        await send({"type": "http.response.body", "body": b"."})

    return app


async def hang_up(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def fold(payload, ended):
    print("folding", payload.decode(), flush=True)
    while not ended(0.05):
        pass
    print("folded once more", flush=True)


def look(payload, ended):
    print("looking", payload.decode(), flush=True)
    while not ended(0.05):
        pass
    print("looked for the last time", flush=True)


def plan():
    word = Path("word").read_text()
    if word == "wrong":
        raise ConfigError("the sentence of the configuration")
    hung = 2.0 if word == "hangs" else 60.0
    handed = Handed(TERMS, word.encode())
    beside = (("looker", "site_under_test:look"),)
    return Plan("site_under_test:app", handed, 2, "site_under_test:fold", hung, beside)


def say(sentence):
    print("said:", sentence, flush=True)


if __name__ == "__main__":
    listener = listen("127.0.0.1", int(sys.argv[1]))
    port = listener.getsockname()[1]
    up = lambda: print("up", port, flush=True)
    try:
        asyncio.run(Supervisor(plan(), listener, plan, say, up).run())
    except ConfigError as failed:
        sys.exit(str(failed))
"""


class Site:
    """A supervisor with two workers, run as people run it."""

    def __init__(self, folder: Path, word: str, port: int = 0) -> None:
        (folder / "site_under_test.py").write_text(SITE, "utf-8")
        self._word = folder / "word"
        self._word.write_text(word, "utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "site_under_test.py", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = port

    def wait_for(self, words: str) -> str:
        """Read what it prints up to a line with these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return line
        raise AssertionError(f"ended without {words!r}: {self.end()[1]}")

    def wait_until_up(self) -> Site:
        """Wait until callers are answered."""
        self.port = int(self.wait_for("up ").split()[1])
        return self

    def caller(self) -> http.client.HTTPConnection:
        """A caller that keeps its connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    @contextmanager
    def opened(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is under way, over a connection of its own."""
        with closing(self.caller()) as caller:
            caller.request("GET", path)
            with caller.getresponse() as answer:
                yield answer

    def get(self) -> Message:
        """The header fields of one answer."""
        with self.opened("/") as answer:
            answer.read()
            return answer.headers

    def signal(self, which: signal.Signals, word: str = "") -> None:
        """Send a signal, after the configuration was changed to this word."""
        if word:
            self._word.write_text(word, "utf-8")
        self.process.send_signal(which)

    def end(self) -> tuple[str, str]:
        """What it said until it ended; not `communicate`, which skips what was read ahead."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process.stdout, self.process.stderr:
            said = self.process.stdout.read(), self.process.stderr.read()
        self.process.wait(timeout=60)
        return said


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(word: str = "one", port: int = 0) -> Site:
        sites.append(Site(tmp_path, word, port))
        return sites[-1]

    yield start
    for started in sites:
        started.process.kill()
        if started.process.stdout is not None and not started.process.stdout.closed:
            started.end()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    started = Site(tmp_path_factory.mktemp("site"), "one").wait_until_up()
    yield started
    started.process.kill()
    started.end()


def test_a_reload_under_load_drops_no_request_and_cuts_no_stream(
    site: Callable[..., Site],
) -> None:
    up = site().wait_until_up()
    lost: list[str] = []
    streams: list[bytes] = []
    begun = threading.Barrier(9, timeout=30)

    def call() -> None:
        begun.wait()
        new = 0
        with closing(up.caller()) as caller:
            while new < 50 and not lost:
                try:
                    new += _asked(caller)["x-word"] == "two"
                except (OSError, http.client.HTTPException) as error:
                    lost.append(repr(error))

    def watch() -> None:
        with up.opened("/stream") as answer:
            begun.wait()
            streams.append(answer.read())

    threads = [threading.Thread(target=call) for _ in range(6)]
    threads += [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    up.signal(signal.SIGHUP, "two")
    for thread in threads:
        thread.join()
    assert lost == []
    assert streams == [b"01234567."] * 2
    up.signal(signal.SIGTERM)
    out, _ = up.end()
    assert out.count("app closed") == 4
    assert out.count("folded once more") == 2
    assert out.index("folding one") < out.index("folding two")
    assert out.count("looked for the last time") == 2
    assert out.index("looked for the last time") < out.index("looking two")


def test_a_caller_that_was_idle_at_a_reload_loses_nothing(site: Callable[..., Site]) -> None:
    up = site().wait_until_up()
    with closing(up.caller()) as caller:
        _asked(caller)
        up.signal(signal.SIGHUP, "two")
        up.wait_for("said: reloaded")
        answer = _asked(caller)  # over the connection to a worker that is about to leave
        while answer["connection"] != "close":
            answer = _asked(caller)
    assert (answer["x-word"], answer["connection"]) == ("one", "close")
    while up.get()["x-word"] != "two":  # the other one of the old workers is about to leave
        pass


def test_a_broken_configuration_leaves_the_old_one_in_force_and_says_why(
    site: Callable[..., Site],
) -> None:
    up = site().wait_until_up()
    up.signal(signal.SIGHUP, "wrong")
    up.wait_for("not reloaded")
    up.wait_for("the sentence of the configuration")
    up.signal(signal.SIGHUP, "refuses")
    assert "the sentence of the app" in up.wait_for("not reloaded")
    assert up.get()["x-word"] == "one"


def test_a_killed_worker_is_replaced(site: Callable[..., Site]) -> None:
    up = site().wait_until_up()
    killed = int(up.get()["x-pid"])
    os.kill(killed, signal.SIGKILL)
    assert "killed by SIGKILL" in up.wait_for("said: worker-")
    seen = {int(up.get()["x-pid"]) for _ in range(10)}
    assert seen
    assert killed not in seen


def test_a_worker_that_hangs_is_replaced(site: Callable[..., Site]) -> None:
    up = site("hangs").wait_until_up()
    hung = int(up.get()["x-pid"])
    os.kill(hung, signal.SIGSTOP)
    assert "it gave no sign for 2 s" in up.wait_for("said: worker-")
    assert hung not in {int(up.get()["x-pid"]) for _ in range(10)}


def test_a_stop_lets_a_stream_end_and_then_folds_once_more(site: Callable[..., Site]) -> None:
    up = site().wait_until_up()
    with up.opened("/stream") as answer:
        up.signal(signal.SIGTERM)
        assert answer.read() == b"01234567."
    out, err = up.end()
    assert up.process.returncode == 0, err
    assert out.rindex("app closed") < out.index("looked for the last time")
    assert out.index("looked for the last time") < out.index("folded once more")


def test_a_second_signal_ends_it_now(site: Callable[..., Site]) -> None:
    up = site().wait_until_up()
    with up.opened("/endless") as answer:
        reader = threading.Thread(target=_read_until_cut, args=(answer,))
        reader.start()
        up.signal(signal.SIGINT)
        up.wait_for("said: ending;")
        up.signal(signal.SIGINT)
        out, _ = up.end()
        reader.join(timeout=30)
    assert "ending now" in out
    assert up.process.returncode == 0


def test_workers_follow_a_killed_supervisor_and_leave_its_address(
    site: Callable[..., Site],
) -> None:
    up = site().wait_until_up()
    with up.opened("/stream") as answer:
        up.signal(signal.SIGKILL)
        assert answer.read() == b"01234567."
    again = site("two", up.port).wait_until_up()
    assert again.get()["x-word"] == "two"


def test_an_app_that_cannot_start_ends_it_with_the_apps_sentence(
    site: Callable[..., Site],
) -> None:
    down = site("refuses")
    _, err = down.end()
    assert err.strip() == "no worker could be started: the sentence of the app"
    assert down.process.returncode == 1


def test_workers_that_are_killed_while_they_start_are_started_again(
    site: Callable[..., Site],
) -> None:
    up = site("killed 3").wait_until_up()
    assert up.get()["x-word"] == "killed 3"
    up.signal(signal.SIGTERM)
    out, err = up.end()
    assert (err, up.process.returncode) == ("", 0)
    assert "app closed" in out


def test_workers_that_are_killed_whenever_they_start_end_it_with_a_sentence(
    site: Callable[..., Site],
) -> None:
    down = site("killed 99")
    out, err = down.end()
    assert err.startswith("no worker could be started: killed by SIGKILL 5 times in a row; see")
    assert "ended (killed by SIGKILL); another one is started" in out
    assert down.process.returncode == 1


def test_a_reload_whose_workers_are_killed_at_first_is_done(site: Callable[..., Site]) -> None:
    up = site().wait_until_up()
    up.signal(signal.SIGHUP, "killed 2")
    up.wait_for("reloaded")
    while (word := up.get()["x-word"]) == "one":  # the old ones may take some who come now
        pass
    assert word == "killed 2"


def test_a_loop_of_deaths_ends_with_a_sentence(site: Callable[..., Site]) -> None:
    down = site("dies")
    out, err = down.end()
    assert err.strip() == "workers die over and over; the last one: exit code 7"
    assert "said: worker-" in out


def test_an_address_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"cannot be listened on \(Address already in use\)"):
            listen("127.0.0.1", port, busy_seconds=0.0)


def test_a_host_that_is_not_this_machines_is_said() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:4100 cannot be listened on"):
        listen("192.0.2.1", 4100)


def test_a_caller_who_does_not_read_is_let_go(standing: Site) -> None:
    with socket.create_connection(("127.0.0.1", standing.port)) as caller:
        caller.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        _wait_until_reset(caller)


def test_a_caller_beyond_the_most_takes_the_place_of_one_that_rests(standing: Site) -> None:
    with ExitStack() as callers:
        every = [
            callers.enter_context(socket.create_connection(("127.0.0.1", standing.port)))
            for _ in range(101)
        ]
        told, _, _ = select.select(every, [], [], 9)
        assert told[0].recv(4096) == b""
        assert told[0] is not every[-1]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + bytes(5000).replace(b"\0", b"a") + b"\r\n\r\n",
        b"GET /" + bytes(5000).replace(b"\0", b"a") + b" HTTP/1.1\r\n",
    ],
)
def test_a_head_that_is_too_large_is_refused(standing: Site, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=30) as caller:
        for start in range(0, len(head), 900):
            caller.sendall(head[start : start + 900])
        assert caller.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_a_large_head_in_one_piece_is_refused_and_a_large_body_is_not(standing: Site) -> None:
    large = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 1000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", standing.port), timeout=30) as caller:
        caller.sendall(large)
        assert caller.recv(4096).startswith(b"HTTP/1.1 431 ")
    body = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n" + bytes(60_000)
    with socket.create_connection(("127.0.0.1", standing.port), timeout=30) as caller:
        caller.sendall(body)
        assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(standing: Site, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=30) as caller:
        caller.sendall(said)
        assert caller.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_what_is_no_http_is_refused_in_the_callers_format(standing: Site) -> None:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=30) as caller:
        caller.sendall(b"hello there\r\n\r\n")
        head, _, body = caller.recv(4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def _asked(caller: http.client.HTTPConnection) -> Message:
    """The header fields of an answer over a connection that is kept."""
    caller.request("GET", "/")
    with caller.getresponse() as answer:
        answer.read()
        assert answer.status == 200
        return answer.headers


def _read_until_cut(answer: http.client.HTTPResponse) -> None:
    try:
        while answer.read(1 << 16):
            pass
    except (OSError, http.client.HTTPException):
        return


def _wait_until_reset(caller: socket.socket) -> None:
    """Wait, reading nothing, until the other side has dropped the connection."""
    caller.settimeout(0.05)
    for _ in range(600):
        try:
            caller.sendall(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return
        threading.Event().wait(0.05)
    raise AssertionError("a caller that reads nothing is still connected")


def test_every_worker_gets_its_share_of_callers(standing: Site) -> None:
    seen = [standing.get()["x-pid"] for _ in range(64)]
    shares = {worker: seen.count(worker) for worker in seen}
    assert len(shares) == 2
    assert min(shares.values()) > 8  # a fair coin misses this once in a thousand million runs


@pytest.mark.parametrize(("sockets", "size"), [(1, 3), (2, 2), (4, 2), (5, 2), (2, 5)])
def test_no_listening_socket_is_left_without_a_worker(sockets: int, size: int) -> None:
    with ExitStack() as opened:
        every = [opened.enter_context(socket.socket()) for _ in range(sockets)]
        taken = [share_of(every, place, size) for place in range(size)]
        assert {one for share in taken for one in share} == set(every)
        assert min(map(len, taken)) > 0
