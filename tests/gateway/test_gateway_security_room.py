"""No caller fills memory or takes others' time; no address leads inside; no data is code."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stillhouse
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import ConfigError
from stillhouse.core.quotas import Hold, Need, Quota, Scope, Unit, Window
from stillhouse.core.traffic import Completion, Tags
from stillhouse.dialects.render import render_body
from stillhouse.flows.desk import LeasingDesk
from stillhouse.flows.reserving import MOST_REMEMBERED, SWEEP_US
from stillhouse.gateway.keys import follow, make_key
from stillhouse.providers.dialling import is_private, place_of
from stillhouse.settings.addresses import fault_of_url
from stillhouse.store.access import Access

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said

BODY = b'{"model":"m","messages":[]}'
SOURCE = Path(stillhouse.__file__).parent


def answer(heard: Heard) -> Said:
    body = render_body(
        Wire.CHAT, Completion("Up."), answer_id="1", model="m", usage=None, created_s=1
    )
    return 200, {"content-type": "application/json"}, [body]


def test_calls_are_answered_while_others_try_one_key_after_another(harbour: Harbour) -> None:
    url, vendor = harbour.vendor(answer)
    served = harbour.serve(
        f'[upstreams.up]\nbase_url = "{url}"\nallow_private = true\nmodels = ["*"]\n'
    )
    port = int(served.url.rpartition(":")[2])

    def statuses(tokens: Iterable[str]) -> list[int]:
        caller, found = HTTPConnection("127.0.0.1", port, timeout=20), []
        try:
            for token in tokens:
                fields = {"authorization": f"Bearer {token}"}
                caller.request("POST", "/v1/chat/completions", BODY, fields)
                with caller.getresponse() as said:
                    said.read()
                    found.append(said.status)
        finally:
            caller.close()
        return found

    with ThreadPoolExecutor(9) as callers:
        guesses = [f"sh-{number:012x}-{number:043d}" for number in range(2000)]
        guessing = [callers.submit(statuses, guesses[start::8]) for start in range(8)]
        calling = callers.submit(statuses, [served.token] * 20)
        assert calling.result() == [200] * 20
        assert [one for guess in guessing for one in guess.result()] == [401] * 2000
    assert len(vendor.heard) == 20


def test_names_without_number_leave_no_trace_of_those_not_in_use(tmp_path: Path) -> None:
    now = [SWEEP_US]
    quota = Quota(Scope.CUSTOMER, "*", Unit.COST, Window.TOTAL, 9)

    async def story() -> list[int]:
        with Access(tmp_path / "some.access") as access:
            async with LeasingDesk(access, "worker-1", lambda: now[0]) as desk:

                async def spend(customer: str) -> None:
                    held = await desk.hold("k", Tags(customer=customer), "m", Need(1, 0))
                    assert isinstance(held, Hold)
                    desk.settle(held, 1, 0)

                desk.replace((quota,), {})
                for number in range(MOST_REMEMBERED):
                    desk.settle(desk.unreserved("k", Tags(customer=f"c{number}"), "m"), 0, 0)
                for number in range(200):
                    await spend(f"d{number}")
                sizes = [len(desk._leases)]
                for number in range(80):  # what idles goes back, and in ten minutes it is forgotten
                    now[0] += SWEEP_US
                    await spend(f"e{number}")
                return [*sizes, len(desk._leases), len(desk._busy)]

    after_a_crowd, leases, busy = asyncio.run(story())
    assert after_a_crowd <= 201
    assert busy <= leases <= 80


def test_what_a_worker_holds_is_found_without_reading_all_that_it_ever_held(
    tmp_path: Path,
) -> None:
    with Access(tmp_path / "some.access") as access:
        access.keys_version()
    with sqlite3.connect(tmp_path / "some.access") as kept:
        plan = kept.execute(
            "EXPLAIN QUERY PLAN SELECT counter FROM access_leases WHERE worker = ? AND amount > 0",
            ("w",),
        ).fetchall()
    kept.close()
    assert "access_leases_held" in str(plan)


def test_a_key_that_cannot_be_put_in_force_hides_no_revocation() -> None:
    good, _ = make_key("good", 0)
    bad, _ = make_key("bad", 0)
    put: list[str] = []

    class Rows:
        version = 1

        def keys_version(self) -> int:
            return self.version

        def keys(self) -> tuple[object, ...]:
            return (bad,) if self.version == 1 else (good,)

    rows = Rows()

    def changed(keys: tuple[object, ...]) -> None:
        put.append(keys[0].name)  # type: ignore[attr-defined]
        if keys == (bad,):
            raise ConfigError("its quota cannot hold")

    async def story() -> None:
        following = asyncio.create_task(follow(rows, changed, pause=0.001))  # type: ignore[arg-type]
        while len(put) < 3:
            await asyncio.sleep(0.001)
        rows.version = 2
        while put[-1] != "good":
            await asyncio.sleep(0.001)
        following.cancel()

    asyncio.run(story())
    assert set(put[:-1]) == {"bad"}


INSIDE = """
0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.2.1 192.168.0.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::a9fe:a9fe ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:7f00:1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 100::1 2001:db8::1 2002:7f00:1::
2001:0:0:0:0:0:80ff:fffe 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""
OUTSIDE = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2a00:1450:4001::8"]


@pytest.mark.parametrize("address", INSIDE.split())
def test_an_address_inside_is_known_in_all_its_wrappings(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_outside_is_known_too(address: str) -> None:
    assert not is_private(address)


LED_ASTRAY = """
http://169.254.169.254/latest http://2852039166/ http://0xA9FEA9FE/ http://0251.0376.0251.0376/
http://[::ffff:169.254.169.254]/ http://[::ffff:a9fe:a9fe]/ http://metadata.google.internal/
http://METADATA.google.internal./ https://user@api.example/ https://user:pw@api.example/
https://api.example\\@evil.example/ https://api.example#@evil.example/ https://api.example/?x=1
https://api.example/\xfc file:///etc/passwd ftp://api.example gopher://api.example //api.example
https:///v1 https://api.example:99999 unix:/run/x.sock
"""


@pytest.mark.parametrize("url", [*LED_ASTRAY.split(), "https://api.example/v 1"])
def test_an_address_that_means_something_else_is_refused_even_where_private_ones_are_allowed(
    url: str,
) -> None:
    assert fault_of_url(url, allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost.",
            "x.localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "017700000001",
        ),
        *("0", "10.0.0.1", "[::1]", "[::]", "[::ffff:10.0.0.1]", "[fe80::1%25eth0]", "gpu-1"),
        *("vllm.svc", "db.internal", "printer.local", "\uff11\uff12\uff17.0.0.1"),
    ],
)
def test_a_private_place_has_to_be_meant(host: str) -> None:
    assert "private" in fault_of_url(f"https://{host}/v1", allow_private=False)
    assert fault_of_url(f"https://{host}/v1", allow_private=True) == ""


def test_no_line_of_a_request_can_be_written_from_an_address() -> None:
    for url in ("https://h.example/v\r\n1", "https://h.example/\tx", "https://h.example/\nhost: x"):
        place = place_of(Upstream("a", base_url=url))
        assert re.fullmatch(r"[!-~]*", place.target + place.authority) or fault_of_url(url, True)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCE.rglob("*.py"):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text("utf-8"))


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "xmlrpc", "telnetlib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "system", "popen", "getoutput", "unsafe_load"}


def test_no_data_becomes_code() -> None:
    found = []
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                found += [(name, one) for one in names if one.split(".")[0] in UNSAFE_MODULES]
            if isinstance(node, ast.Call):
                called = node.func
                plain = called.id if isinstance(called, ast.Name) else ""
                of = called.value if isinstance(called, ast.Attribute) else None
                if isinstance(of, ast.Name) and of.id in ("os", "subprocess", "yaml", "builtins"):
                    plain = called.attr if isinstance(called, ast.Attribute) else ""
                if plain in UNSAFE_CALLS:
                    found.append((name, plain))
                found += [(name, k.arg) for k in node.keywords if k.arg == "shell"]
                loads = [k.value for k in node.keywords if k.arg == "allow_pickle"]
                found += [
                    (name, "allow_pickle")
                    for value in loads
                    if not (isinstance(value, ast.Constant) and value.value is False)
                ]
    assert found == []


OWN_WORDS = {
    "store/access.py": {"holes", "silent"},
    "store/access_postgres.py": {"quoted"},
    "store/encodings.py": {"holes"},
    "store/interning.py": {"same", "table"},
    "store/postgres_server.py": {"found"},  # names that the server has quoted itself
    "store/reading.py": {"conditions", "table", "what"},
    "store/recording.py": {"table"},
    "store/spending.py": {"number", "tables"},
    "store/sqlite_file.py": {"application_id", "migrations", "name", "setting"},
    "testing/store_entries.py": {"table"},
}
"""What is put into statements beside constants: holes, and words out of tables of ours."""


def test_no_statement_is_put_together_from_what_others_say() -> None:
    found = []
    for name, module in modules():
        constants = {
            target.id
            for node in module.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        known = constants | OWN_WORDS.get(name, set())
        for node in ast.walk(module):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in ("execute", "executemany", "rows", "many") or not node.args:
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.FormattedValue):
                    words = {n.id for n in ast.walk(part.value) if isinstance(n, ast.Name)}
                    others = {word for word in words - known if not word.isupper()} - {"len"}
                    found += [(name, node.lineno, word) for word in sorted(others)]
    assert found == []


WATCHED = """
import sys
seen = []
def watch(event, details):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.system")):
        seen.append((event, str(details)[:80]))
sys.addaudithook(watch)
import stillhouse.wiring.endpoint, stillhouse.wiring.folding, stillhouse.gateway.worker
sys.exit(str(seen) if seen else 0)
"""


def test_nothing_is_fetched_and_nobody_called_by_loading_the_endpoint() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
