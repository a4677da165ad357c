"""What the folded calls of each run used up of quota counters: settles the leases of the dead."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.store.connection import Connection, Database


def add_tallies(connection: Connection, run: str, used: Mapping[str, int]) -> None:
    """Count what more calls of a run used; in the transaction that books these calls."""
    connection.executemany(
        "INSERT INTO tallies VALUES (?, ?, ?) ON CONFLICT (run, counter) "
        "DO UPDATE SET used = tallies.used + excluded.used",
        [(run, counter, amount) for counter, amount in used.items()],
    )


class Tallies:
    """The reading side: all that a run used, from its start on."""

    _database: Database

    def tallies(self, run: str) -> dict[str, int]:
        """What the folded calls of a run used, by counter: what `Access.recover` wants to know."""
        return dict(
            self._database.rows("SELECT counter, used FROM tallies WHERE run = ? ORDER BY 1", run)
        )

    def drop_tallies(self, run: str) -> None:
        """Forget a run that is settled."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM tallies WHERE run = ?", (run,))
