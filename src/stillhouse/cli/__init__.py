"""The command line: `stillhouse VERB`. Each verb has a file of its own."""

from __future__ import annotations

import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from stillhouse import __version__
from stillhouse.core.errors import StillhouseError

VERBS = {
    "serve": ("serve_verb", "One endpoint in front of every model."),
    "check": ("check_verb", "What would be served, and what is wrong with the configuration."),
    "keys": ("keys_verb", "Virtual keys: who may call, for what, and how much."),
    "budgets": ("budgets_verb", "What is capped, used, reserved and left."),
    "import": ("import_verb", "Bring logs of LLM calls into the books."),
    "ledger": ("ledger_verb", "What was spent, by model, task, team and day."),
    "tasks": ("tasks_verb", "The narrow tasks that repeat in the traffic."),
    "distil": ("distil_verb", "A student with a certificate, or a refusal with its reason."),
    "replay": ("replay_verb", "Recorded traffic through the certified student."),
    "promote": ("steering_verbs:promote", "Let a certified student answer."),
    "pause": ("steering_verbs:pause", "Let the teacher answer for a while."),
    "resume": ("steering_verbs:resume", "Let a paused student answer again."),
    "rollback": ("steering_verbs:rollback", "Take a student out of service."),
    "retire": ("steering_verbs:retire", "End a version for good."),
    "certificates": (
        "certificates_verb",
        "What students were promised to do, and whether it holds.",
    ),
    "plan": ("plan_verb", "Does distilling pay, and what would change the answer."),
    "report": ("report_verb", "One page with pictures, to look at and to send."),
    "demo": ("demo_verb", "The whole loop on the bundled workload, offline."),
    "completion": ("completion_verb", "The script that completes verbs and options in a shell."),
}
"""Each verb's file, with its name there if that is not `verb`, and short help.

Kept here so that `--help` loads none of the files.
"""


class Verbs(click.Group):
    """Loads a verb's file when it is called: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of a first walk through them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        found = import_module(f"stillhouse.cli.{module}")
        command: click.Command = getattr(found, name or "verb")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their short help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in VERBS.items()])


class Place(click.types.StringParamType):
    """Where the books are: the path of a file, or an address, kept as it was typed."""

    name = "place"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Files, as the shell knows them."""
        return [CompletionItem(incomplete, type="file")]


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--db",
    type=Place(),
    default="stillhouse.db",
    show_default=True,
    envvar="STILLHOUSE_DB",
    help="The books: a SQLite file, or postgresql://...; made by `import` where there are none.",
)
@click.version_option(__version__, prog_name="stillhouse")
@click.pass_context
def cli(ctx: click.Context, db: str) -> None:
    """Keep the books on AI spend, and distil the repetitive part of it.

    \b
    A first walk:
      stillhouse import calls.jsonl     a log of LLM calls goes into the books
      stillhouse ledger                 what was spent, by model, task, team, day
      stillhouse tasks                  the narrow tasks that repeat
      stillhouse distil TASK            a student with a certificate, or a refusal
      stillhouse plan TASK              does it pay, and what would change the answer
    """
    ctx.obj = db


def main() -> None:
    """Run; a failure is one sentence on standard error and exit code 2."""
    try:
        cli.main(prog_name="stillhouse", standalone_mode=False)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(2)
    except StillhouseError as failed:
        said = "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in str(failed))
        click.echo(f"stillhouse: {said}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stillhouse: interrupted; what was finished is kept", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
