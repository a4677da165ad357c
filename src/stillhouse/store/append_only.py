"""The past stays as it was: triggers that refuse to change or delete a row."""

from __future__ import annotations


def frozen(*tables: str) -> str:
    """Triggers that keep the past of tables as it was.

    >>> frozen("charges").count("CREATE TRIGGER charges_no_")
    2
    """
    return "".join(
        f"""
CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN
    SELECT RAISE(ABORT, '{table} is append-only; a correction is a new row');
END;
"""
        for table in tables
        for verb in ("UPDATE", "DELETE")
    )
