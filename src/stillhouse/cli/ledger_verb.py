"""`stillhouse ledger`: what was spent, by model, task, team and day; and whether it adds up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console

from stillhouse import wiring
from stillhouse.cli.terminal import as_json, console, print_json, progress, table
from stillhouse.core.money import Paid
from stillhouse.flows.books import USUAL_CUTS, Spend, spend_by
from stillhouse.flows.verify import Audit, Difference, verify
from stillhouse.ledger.report import SpendRow
from stillhouse.pages.numerals import ABSENT, MINUS, count, plural, share

FEW = 8
"""Rows of each table in the overview; the other groups are joined in one."""

_HEADS = (
    "Requests",
    "Computed",
    "Reported",
    "Difference",
    "Per 1,000",
    "Unpriced",
    "Evidence",
)
_NOBODY = {"task": "(no task)", "day": "(no time)"}


MOST_SHOWN = 50
"""Differences that are printed one by one; JSON has all of them."""


@click.group("ledger", invoke_without_command=True)
@click.option(
    "--by",
    type=click.Choice([*USUAL_CUTS, "customer", "feature", "key", "upstream", "fate"]),
    help="One grouping with all its rows, in place of the overview.",
)
@as_json
@click.pass_context
def verb(ctx: click.Context, by: str | None, as_json: bool) -> None:
    """Show what was spent, by model, task, team and day.

    Computed is usage times the price of its instant; Reported is what the provider says it
    charged; Difference is computed less reported, over the requests that have both. A request
    whose model has no known price is unpriced: it is counted, and never taken for free.

    \b
    Examples:
      stillhouse ledger
      stillhouse ledger --by customer
      stillhouse --db books.db ledger --by day --json
      stillhouse ledger verify
    """
    if ctx.invoked_subcommand is None:
        _show_spend(ctx.obj, by, as_json)


@verb.command("verify")
@as_json
@click.pass_obj
def verify_verb(database: str, as_json: bool) -> None:
    """Redo every charge from the facts that the books keep, and say where it differs.

    Counts are redone from the provider's own usage object where that is kept, charges from the
    counts and the facts of their price, to the last place. The exit code is 1 where something
    differs.

    \b
    Examples:
      stillhouse ledger verify
      stillhouse --db books.db ledger verify --json
    """
    audit = Audit()
    found: list[Difference] = []
    with wiring.existing_store(database) as store, progress("the books") as bar:
        n_attempts, place = store.n_attempts(), store.place
        for difference in verify(store, audit):
            if as_json or len(found) < MOST_SHOWN:
                found.append(difference)
            bar(min(1.0, audit.attempts / max(1, n_attempts)), f"{audit.attempts:,} attempts")
    if as_json:
        print_json(
            {
                "database": place,
                "attempts": audit.attempts,
                "charges": audit.charges,
                "usage_objects": audit.from_usage_bodies,
                "not_derivable": audit.not_derivable,
                "n_differences": audit.differences,
                "differences": [difference._asdict() for difference in found],
            }
        )
    else:
        _show_audit(audit, found)
    if audit.differences:
        sys.exit(1)


def _show_audit(audit: Audit, found: list[Difference]) -> None:
    for difference in found:
        click.echo(f"{printable(difference.attempt_id)} {difference.what}")
        for side, text in (("stored", difference.stored), ("derived", difference.derived)):
            if text:
                click.echo(f"  {side:8} {printable(text)}")
    if audit.differences > len(found):
        click.echo(f"... and {audit.differences - len(found):,} more; --json lists them all")
    checked = (
        f"{plural(audit.attempts, 'attempt')} with {plural(audit.charges, 'charge')} redone, "
        f"{audit.from_usage_bodies:,} from the provider's own usage object"
    )
    if audit.not_derivable:
        checked += f"; {audit.not_derivable:,} were allocated or billed, and cannot be redone"
    verdict = plural(audit.differences, "difference") if audit.differences else "the books hold"
    click.echo(f"{checked}: {verdict}")


def _show_spend(database: str, by: str | None, as_json: bool) -> None:
    most = None if by or as_json else FEW
    with wiring.existing_store(database) as store:
        cuts = [spend_by(store, cut, most) for cut in ([by] if by else USUAL_CUTS)]
        name = store.place
    if as_json:
        print_json(
            {
                "database": name,
                "total": spend_figures(cuts[0].total),
                "by": {
                    cut.by: [{cut.by: row.key, **spend_figures(row)} for row in cut.rows]
                    for cut in cuts
                },
            }
        )
    elif not cuts[0].total.n_requests:
        click.echo("The books are empty; bring a log in: stillhouse import FILE")
    else:
        out = console()
        for place, cut in enumerate(cuts):
            _show(out, cut, with_total=place == 0)


def spend_figures(row: SpendRow) -> dict[str, Any]:
    """The figures of a group for JSON; what is not known is null."""
    return {
        "requests": row.n_requests,
        "computed_usd": _number(row.computed),
        "reported_usd": _number(row.reported),
        "difference_usd": _number(row.difference),
        "per_1000_requests_usd": _number(row.per_1000_requests),
        "unpriced_request_share": row.unpriced_request_share,
        "unpriced_token_share": row.unpriced_token_share,
        "tokens": dict(row.tokens),
        "evidence": row.evidence.value,
    }


def printable(text: str) -> str:
    """Text of a log on one line, without what a terminal would obey.

    >>> printable("red\\n\\x1b[31malert")
    'red �[31malert'
    """
    return "".join(sign if sign.isprintable() else "�" for sign in " ".join(text.split()))


def decimals(largest: Paid | None) -> int:
    """Decimals for a column with this largest amount: cents, below one unit four figures.

    >>> decimals(Paid.of("0.0796028296")), decimals(Paid.of(5))
    (5, 2)
    """
    return max(2, 3 - largest.decimal.adjusted()) if largest and largest < Paid.of(1) else 2


def dollars(amount: Paid | None, decimals: int) -> str:
    """Write an amount with the decimals of its column; what is not zero never looks like it.

    >>> [dollars(Paid.of(amount), 4) for amount in ("1234.5", "-0.07", "0.00001", "0")]
    ['$1,234.5000', '−$0.0700', 'under $0.0001', '$0']
    """
    if amount is None:
        return ABSENT
    exact = abs(amount.decimal)
    sign = MINUS if amount.pico < 0 else ""
    if not exact:
        return "$0"
    if round(exact, decimals) == 0:
        return f"{sign}under ${10**-decimals:.{decimals}f}"
    return f"{sign}${exact:,.{decimals}f}"


def _number(amount: Paid | None) -> float | None:
    return None if amount is None else float(amount)


def _show(out: Console, cut: Spend, with_total: bool) -> None:
    """Print one grouping, or say in a line that nobody named its groups."""
    if not (with_total or any(row.key for row in cut.rows)):
        out.print(_unnamed(cut.by), markup=False)
        return
    title = f"Spend by {cut.by}"
    rows = list(_cells(cut, with_total))
    out.print(table(title, [cut.by.capitalize(), *_HEADS], rows), markup=False)
    if cut.by == "model" and (unpriced := [r.key for r in cut.rows if r.unpriced_request_share]):
        names = ", ".join(printable(name) or "(not said)" for name in unpriced)
        out.print(
            f"No price is known for requests to {names}; a file of dated prices, `stillhouse "
            "import --prices FILE` into a new database, prices them.",
            markup=False,
        )
    out.print()


def _unnamed(by: str) -> str:
    if by == "task":
        return "No request belongs to a task yet: `stillhouse tasks` finds them.\n"
    if by == "day":
        return "No request has a time.\n"
    if by in ("key", "upstream", "fate"):
        return f"No request has a {by}: only calls through the endpoint do.\n"
    return f"No request names its {by}: logs do in their metadata, tables in a column {by!r}.\n"


def _cells(cut: Spend, with_total: bool) -> Iterator[list[str]]:
    spent, each = decimals(cut.total.computed), decimals(cut.total.per_1000_requests)
    nobody = _NOBODY.get(cut.by, "(not said)")
    named = [(printable(row.key) or nobody, row) for row in cut.rows]
    if cut.rest is not None:
        rest = "earlier day" if cut.by == "day" else "other"
        named.insert(0 if cut.by == "day" else len(named), (plural(cut.n_rest, rest), cut.rest))
    if with_total:
        named.append(("Total", cut.total))
    for name, row in named:
        yield [
            name,
            count(row.n_requests),
            "unpriced" if row.computed is None else dollars(row.computed, spent),
            dollars(row.reported, spent),
            dollars(row.difference, spent),
            dollars(row.per_1000_requests, each),
            share(row.unpriced_request_share),
            row.evidence.value,
        ]
