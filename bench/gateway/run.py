"""What a request costs on its way through: CPU, latency and memory, beside nginx and two peers.

    python bench/gateway/run.py [--seconds 2] [--rounds 5] [--many 200000] [--peers FOLDER]

Needs `cc`, `nginx` and `wrk` (Debian: gcc, nginx-light, wrk) and two cores. The gateway under test
has core 0; the model upstream (upstream.c) and the load (wrk) share core 1. CPU is on-CPU time of
all of a stack's processes and threads as the kernel counts it (schedstat). Because machines drift,
each slice stands between two slices of nginx `proxy_pass` on the same core, and the ratio to their
mean is what to quote. Stillhouse runs with journal, virtual key, budgets, rate limits, metrics and
full recording on; its folder process, which moves the journal into the database behind the calls,
is held to core 1 and counted apart.

`--peers FOLDER` also runs LiteLLM and Portkey where `FOLDER/litellm/bin/litellm` (pip install
'litellm[proxy]' into a virtual environment) and `FOLDER/portkey/node_modules` (npm install
@portkey-ai/gateway) are: without database and logging, a lighter duty than ours.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
GATEWAY_CORE, LOAD_CORE = "0", "1"
UPSTREAM_PORT = 9101
EVENTS = 43

PROMPT = "Which of our plans fits a team of nine people that ships twice a week? " * 11
BODY = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": PROMPT},
    ],
    "temperature": 0.2,
    "max_tokens": 256,
}

NGINX = """
worker_processes 1; daemon off; master_process off; pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

CONFIG = """
[server]
port = {port}

[journal]
folder = "{folder}/journal"

[books]
database = "{folder}/books.db"

[upstreams.model]
base_url = "http://127.0.0.1:{upstream}/v1"
wires = ["chat"]
key_env = "BENCH_KEY"
host = "openai"
models = ["gpt-*"]
allow_private = true
max_concurrency = 1024

[[budgets]]
usd = "1000000"
per = "month"

[[budgets]]
team = "bench"
usd = "100000"
per = "day"

[[budgets]]
model = "*"
requests = 100000000
per = "minute"
"""

SHOOT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = [[{body}]]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("WRK %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass
class Stack:
    """A gateway under test: where it listens, which processes are its own."""

    name: str
    port: int
    pids: Callable[[], list[int]]
    path: str = "/v1/chat/completions"
    key: str = "sk-bench"
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, object] = field(default_factory=lambda: dict(BODY))


def on_cpu_us(pids: list[int]) -> float:
    """On-CPU microseconds of processes with all their threads, as the kernel counts them."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (OSError, IndexError):
                continue
    return total / 1000


def rss_mb(pids: list[int]) -> float:
    """Resident memory of the largest of a stack's processes, in MB."""
    sizes = [0.0]
    for pid in pids:
        try:
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        if found:
            sizes.append(int(found[1]) / 1024)
    return max(sizes)


def children(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += children(int(child))
        except OSError:
            continue
    return found


def shoot(stack: Stack, folder: Path, seconds: float, connections: int, stream: bool) -> int:
    """Load a stack with wrk; how many requests it answered. Any failure ends the bench."""
    body = stack.body | ({"stream": True} if stream else {})
    script = folder / "shoot.lua"
    text = SHOOT.format(path=stack.path, key=stack.key, body=json.dumps(body))
    text += "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in stack.headers.items())
    script.write_text(text)
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s"]
    command += ["--timeout", "30s", "-s", str(script), f"http://127.0.0.1:{stack.port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"WRK (\d+) (\d+) (\d+)", said)
    if not found or int(found[3]) or not int(found[1]):
        raise SystemExit(f"{stack.name} failed under load:\n{said}")
    return int(found[1])


def warm_up(stack: Stack, folder: Path, connections: int) -> None:
    """Load a stack until it answers: some take many seconds over their first requests."""
    for _ in range(20):
        try:
            shoot(stack, folder, 3, connections, stream=False)
        except SystemExit:
            continue
        return
    raise SystemExit(f"{stack.name} answers nothing")


def slice_of(
    stack: Stack, folder: Path, seconds: float, connections: int, stream: bool
) -> tuple[float, float]:
    """CPU microseconds per request, and requests per second, of one slice."""
    pids = stack.pids()
    before, began = on_cpu_us(pids), time.perf_counter()
    count = shoot(stack, folder, seconds, connections, stream)
    spent = time.perf_counter() - began
    return (on_cpu_us(pids) - before) / count, count / spent


def paired(
    stack: Stack, nginx: Stack, folder: Path, args: argparse.Namespace, stream: bool
) -> dict[str, float]:
    """Slices of a stack between slices of nginx."""
    connections = args.streams if stream else args.connections
    cpu, ratio, rate = [], [], []
    before, _ = slice_of(nginx, folder, args.seconds, connections, stream)
    for _ in range(args.rounds):
        spent, speed = slice_of(stack, folder, args.seconds, connections, stream)
        after, _ = slice_of(nginx, folder, args.seconds, connections, stream)
        cpu.append(spent)
        rate.append(speed)
        ratio.append(spent / ((before + after) / 2))
        before = after
    return {
        "cpu_us": statistics.median(cpu),
        "x_nginx": statistics.median(ratio),
        "x_nginx_low": min(ratio),
        "x_nginx_high": max(ratio),
        "per_second": statistics.median(rate),
    }


def latency_ms(stack: Stack, requests: int) -> list[float]:
    """Wall milliseconds of calls, one after the other on one connection."""
    body = json.dumps(stack.body)
    headers = {"content-type": "application/json", "authorization": f"Bearer {stack.key}"}
    talk = http.client.HTTPConnection("127.0.0.1", stack.port)
    found = []
    for _ in range(requests):
        began = time.perf_counter()
        talk.request("POST", stack.path, body, headers | stack.headers)
        answer = talk.getresponse()
        answer.read()
        found.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise SystemExit(f"{stack.name} answered {answer.status}")
    talk.close()
    return found


def added_ms(stack: Stack, direct: Stack, requests: int = 400) -> tuple[float, float]:
    """Milliseconds that a stack adds to p50 and p99, both measured in turns."""
    near, far = [], []
    latency_ms(stack, 50)
    for _ in range(5):
        near += latency_ms(direct, requests // 5)
        far += latency_ms(stack, requests // 5)

    def at(values: list[float], share: float) -> float:
        return sorted(values)[int(len(values) * share)]

    return at(far, 0.5) - at(near, 0.5), at(far, 0.99) - at(near, 0.99)


def wait_for(port: int, path: str = "/", seconds: float = 90) -> None:
    """Wait until a port answers HTTP."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        talk = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            talk.request("GET", path)
            talk.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            talk.close()
    raise SystemExit(f"nothing answers at port {port}")


@contextmanager
def running(
    command: list[str], core: str, log: Path, env: dict[str, str] | None = None
) -> Iterator[int]:
    """A process held to one core, ended at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_nginx(stack: ExitStack, folder: Path) -> Stack:
    """The reference."""
    port = 9102
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=UPSTREAM_PORT))
    command = ["nginx", "-c", str(config), "-p", str(folder)]
    pid = stack.enter_context(running(command, GATEWAY_CORE, folder / "nginx.log"))
    wait_for(port)
    return Stack("nginx proxy_pass", port, lambda: children(pid))


def start_stillhouse(stack: ExitStack, folder: Path) -> tuple[Stack, Callable[[], list[int]]]:
    """This gateway, and its folder process."""
    port = 9103
    config = folder / "stillhouse.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, upstream=UPSTREAM_PORT))
    program = [sys.executable, "-m", "stillhouse", "--db", str(folder / "books.db")]
    limits = ["--team", "bench", "--budget", "100000/month", "--rpm", "100000000"]
    made = subprocess.run(
        [*program, "keys", "create", "bench", *limits, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    key = re.search(r"sh-\S+", made.stdout)
    if key is None:
        raise SystemExit(f"no key was made: {made.stdout}{made.stderr}")
    command = [*program, "serve", "--config", str(config)]
    log = folder / "stillhouse.log"
    pid = stack.enter_context(running(command, GATEWAY_CORE, log, {"BENCH_KEY": "sk-x"}))
    wait_for(port, "/readyz")

    def is_folder(one: int) -> bool:
        return b"fold" in Path(f"/proc/{one}/cmdline").read_bytes()

    def all_but_folder() -> list[int]:
        return [one for one in children(pid) if not is_folder(one)]

    def folding() -> list[int]:
        return [one for one in children(pid) if is_folder(one)]

    for one in folding():
        subprocess.run(["taskset", "-apc", LOAD_CORE, str(one)], check=False, capture_output=True)
    return Stack("stillhouse", port, all_but_folder, key=key[0]), folding


def start_litellm(stack: ExitStack, folder: Path, peers: Path) -> Stack | None:
    """LiteLLM's proxy: no database, no logging, its master key only."""
    program = peers / "litellm" / "bin" / "litellm"
    if not program.exists():
        return None
    port = 9104
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: gpt-4o-mini\n  litellm_params:\n"
        "    model: openai/gpt-4o-mini\n"
        f"    api_base: http://127.0.0.1:{UPSTREAM_PORT}/v1\n    api_key: sk-x\n"
        "general_settings:\n  master_key: sk-bench\n"
    )
    env = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    command = [str(program), "--config", str(config), "--port", str(port)]
    pid = stack.enter_context(running(command, GATEWAY_CORE, folder / "litellm.log", env))
    wait_for(port, "/health/liveliness", 180)
    return Stack("LiteLLM", port, lambda: children(pid))


def start_portkey(stack: ExitStack, folder: Path, peers: Path) -> Stack | None:
    """Portkey's gateway: no logging, no keys of its own."""
    program = peers / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    if not program.exists():
        return None
    port = 9105
    command = ["node", str(program), "--headless", f"--port={port}"]
    pid = stack.enter_context(running(command, GATEWAY_CORE, folder / "portkey.log"))
    wait_for(port)
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{UPSTREAM_PORT}/v1",
    }
    return Stack("Portkey", port, lambda: children(pid), headers=headers)


def flat(stack: Stack, folding: Callable[[], list[int]], folder: Path, many: int) -> None:
    """Memory over many requests."""
    print(f"\nMemory over {many:,} requests: ", end="", flush=True)
    done, sizes = 0, [rss_mb(stack.pids())]
    while done < many:
        done += shoot(stack, folder, 5, 32, stream=False)
        sizes.append(rss_mb(stack.pids()))
    print(" ".join(f"{size:.0f}" for size in sizes), f"MB; folder {rss_mb(folding()):.0f} MB")


def main() -> None:
    """Run everything and print the table."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--seconds", type=int, default=2)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--connections", type=int, default=32)
    words.add_argument("--streams", type=int, default=64)
    words.add_argument("--many", type=int, default=200_000)
    words.add_argument("--peers", type=Path, default=None)
    words.add_argument("--only", choices=("whole", "streams"), help="measure this alone")
    args = words.parse_args()
    for program in ("cc", "nginx", "wrk", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing; Debian has it in gcc, nginx-light, wrk")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        mock = folder / "upstream"
        subprocess.run(["cc", "-O2", "-o", mock, HERE / "upstream.c"], check=True)
        mock_command = [str(mock), str(UPSTREAM_PORT)]
        stack.enter_context(running(mock_command, LOAD_CORE, folder / "upstream.log"))
        wait_for(UPSTREAM_PORT, "/")
        direct = Stack("direct", UPSTREAM_PORT, list)
        nginx = start_nginx(stack, folder)
        ours, folding = start_stillhouse(stack, folder)
        print(f"{'stack':<18}{'CPU us':>9}{'x nginx':>20}{'req/s':>9}", end="")
        print(f"{'stream us':>11}{'x nginx':>20}{'+p50 ms':>9}{'+p99 ms':>9}{'RSS MB':>8}")
        measure(nginx, nginx, direct, folder, args)
        before, sent = on_cpu_us(folding()), time.monotonic()
        measure(ours, nginx, direct, folder, args)
        print(
            f"  folder process: {(on_cpu_us(folding()) - before) / 1e6:.1f} s of CPU in "
            f"{time.monotonic() - sent:.0f} s"
        )
        if args.many:
            flat(ours, folding, folder, args.many)
        if args.peers:
            for start in (start_litellm, start_portkey):
                with ExitStack() as own:
                    peer = start(own, folder, args.peers)
                    if peer is not None:
                        args.seconds, args.rounds = max(args.seconds, 5), min(args.rounds, 3)
                        args.connections, args.streams = 16, 16
                        measure(peer, nginx, direct, folder, args)


def measure(
    stack: Stack, nginx: Stack, direct: Stack, folder: Path, args: argparse.Namespace
) -> None:
    """Measure one stack and print its row."""
    warm_up(stack, folder, args.connections)
    nothing = dict.fromkeys(("cpu_us", "x_nginx", "x_nginx_low", "x_nginx_high"), float("nan"))
    whole = streamed = nothing | {"per_second": float("nan")}
    if args.only != "streams":
        whole = paired(stack, nginx, folder, args, stream=False)
    try:
        if args.only != "whole":
            streamed = paired(stack, nginx, folder, args, stream=True)
    except SystemExit as failed:
        print(failed, file=sys.stderr)
    p50, p99 = added_ms(stack, direct)

    def ratio(found: dict[str, float]) -> str:
        return f"{found['x_nginx']:.1f} ({found['x_nginx_low']:.1f}-{found['x_nginx_high']:.1f})"

    print(f"{stack.name:<18}{whole['cpu_us']:>9.0f}{ratio(whole):>20}", end="")
    print(f"{whole['per_second']:>9.0f}{streamed['cpu_us']:>11.0f}{ratio(streamed):>20}", end="")
    print(f"{p50:>9.2f}{p99:>9.2f}{rss_mb(stack.pids()):>8.0f}", flush=True)


if __name__ == "__main__":
    main()
