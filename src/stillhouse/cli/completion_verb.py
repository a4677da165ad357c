"""`stillhouse completion`: the words that a shell can complete."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

INSTALLING = {
    "bash": 'add to ~/.bashrc:  eval "$(stillhouse completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(stillhouse completion zsh)"',
    "fish": "stillhouse completion fish > ~/.config/fish/completions/stillhouse.fish",
}
"""The line that makes each shell use its script."""


@click.command("completion")
@click.argument("shell", type=click.Choice(list(INSTALLING)))
@click.pass_context
def verb(ctx: click.Context, shell: str) -> None:
    """Print the script that completes verbs and options in a shell.

    Its last line says how to install it.

    \b
    Examples:
      eval "$(stillhouse completion bash)"
      stillhouse completion fish > ~/.config/fish/completions/stillhouse.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None, f"click completes {shell}"
    script = completion(ctx.find_root().command, {}, "stillhouse", "_STILLHOUSE_COMPLETE")
    click.echo(script.source().rstrip())
    # At the end, because zsh looks for its own mark in the first line.
    click.echo(f"# To install: {INSTALLING[shell]}")
