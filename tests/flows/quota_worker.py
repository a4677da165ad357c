"""One worker of a test: many callers spend a shared budget until it refuses them.

Arguments: place of the quotas, name of the worker, callers, cap, journal, and after how much use it
kills itself (0: never). A line of the journal is what one call used, written before it is settled.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from stillhouse.core.quotas import Denied, Need, Quota, Scope, Unit, Window
from stillhouse.core.traffic import Tags
from stillhouse.flows.desk import LeasingDesk
from stillhouse.store.access import Access

MOST = 1000
"""What one call may use at most."""


async def spend(
    place: str, worker: str, callers: int, cap: int, journal: Path, killed_at: int
) -> None:
    chance = random.Random(worker)
    desk_quotas = (
        Quota(Scope.EVERYBODY, "", Unit.COST, Window.TOTAL, cap),
        Quota(Scope.EVERYBODY, "", Unit.CONCURRENT, Window.NOW, 48),
        Quota(Scope.TEAM, "*", Unit.REQUESTS, Window.TOTAL, 10**6),
    )
    with Access(place) as access, journal.open("w", buffering=1) as lines:
        desk = LeasingDesk(access, worker, lambda: time.time_ns() // 1000)
        desk.replace(desk_quotas, {})

        total = 0

        async def caller(number: int) -> None:
            nonlocal total
            refused = 0
            while refused < 3:
                need, tags = Need(MOST, 1), Tags(team="red")
                held = desk.try_hold("k", tags, "m", need) or await desk.hold("k", tags, "m", need)
                if isinstance(held, Denied):
                    full = held.quota is not None and held.quota.unit is Unit.COST
                    refused += full
                    await asyncio.sleep(0.02)
                    continue
                await asyncio.sleep(chance.random() / 100)
                used = chance.randint(0, MOST) if number % 2 else MOST
                lines.write(f"{used}\n")
                total += used
                if 0 < killed_at <= total:
                    os.kill(os.getpid(), signal.SIGKILL)
                desk.settle(held, used, 1)

        async with desk:
            await asyncio.gather(*map(caller, range(callers)))


if __name__ == "__main__":
    where, name, many, most, kept, end = sys.argv[1:]
    asyncio.run(spend(where, name, int(many), int(most), Path(kept), int(end)))
