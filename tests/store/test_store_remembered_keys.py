from __future__ import annotations

import stat
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.quotas import Quota, Scope, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.store.access import Access
from stillhouse.store.remembered_keys import FILE, RememberedKeys

CAP = Quota(Scope.KEY, "*", Unit.COST, Window.DAY, 10**12)
KEY = VirtualKey(
    "k1", "Rosa", b"salt\x00\xff", b"digest", Tags(team="red"), ("gpt-*",), (CAP,), True, 1, 2, None
)


class Away:
    def keys_version(self) -> int:
        raise StoreError("the database is away")

    def keys(self) -> tuple[VirtualKey, ...]:
        raise StoreError("the database is away")


def test_the_keys_that_were_read_last_are_known_while_the_database_is_away(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Access(tmp_path / "s.db.access") as access:
        access.add_key(KEY)
        version, keys = RememberedKeys(access, journal).known()
        assert (version, keys) == (1, (KEY,))
        access.revoke_key("k1", 7)
        assert RememberedKeys(access, journal).keys()[0].revoked_us == 7
    version, keys = RememberedKeys(Away(), journal).known()
    assert version is None, "so that what the database says is taken as soon as it is back"
    assert [key.revoked_us for key in keys] == [7]
    assert stat.S_IMODE((journal / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("found", [None, b"", b"[{]"])
def test_nothing_is_assumed_where_no_keys_were_ever_read(
    found: bytes | None, tmp_path: Path
) -> None:
    if found is not None:
        (tmp_path / FILE).write_bytes(found)
    with pytest.raises(StoreError, match="the database is away"):
        RememberedKeys(Away(), tmp_path).known()
