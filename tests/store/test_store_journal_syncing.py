from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.store.journal_syncing import Syncer


def test_a_disk_that_does_not_confirm_fails_those_who_wait(tmp_path: Path) -> None:
    reads, writes = os.pipe()  # a pipe cannot be synced

    async def run() -> None:
        syncer = Syncer(tmp_path, writes, 0.0)
        waits = [syncer.wait() for _ in range(3)]
        for wait in waits:
            assert wait is not None
            with pytest.raises(StoreError, match="did not confirm"):
                await wait
        with pytest.raises(OSError, match="Invalid argument"):
            syncer.close()

    asyncio.run(run())
    os.close(reads)
