from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stillhouse.gateway import crew
from stillhouse.gateway.control import Handed
from stillhouse.gateway.terms import Terms


class Slow:
    """A process that takes its time to start; the first one dies at once."""

    made: list[Slow]

    def __init__(self, job: crew.Job, listeners: object = ()) -> None:
        self.name = f"slow-{len(self.made)}"
        self.killed = True
        self.drained = False
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.life: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def start(self) -> None:
        await asyncio.sleep(0.05 if len(self.made) > 1 else 0)
        self.ready.set_result(True)
        if len(self.made) == 1:
            self.life.set_result("killed by SIGKILL")

    async def drain(self, linger_seconds: float) -> None:
        self.drained = True
        if not self.life.done():
            self.life.set_result("exit code 0")


@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_a_process_that_is_being_started_is_drained_with_the_others(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    async def run() -> None:
        monkeypatch.setattr(crew, "WAITS", (0.0,))
        monkeypatch.setattr(Slow, "made", [], raising=False)
        place: Any = Slow
        monkeypatch.setattr(crew, "Process", place)
        job = crew.Job("slow", "m", "p", Handed(Terms(), b""))
        team = crew.Crew(job, 1, lambda sentence: None)
        await team.launch()
        await asyncio.sleep(seconds)
        await team.drain(0.0)
        assert len(Slow.made) == 2
        assert Slow.made[1].drained
        assert not team.alive

    asyncio.run(run())
