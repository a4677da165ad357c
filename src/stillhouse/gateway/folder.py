"""The folder process: moves journals into the books beside the workers, whatever befalls either.

Started by the supervisor as `python -m stillhouse.gateway.folder PLACE NAME LINE`: the place of a
function `(payload, ended)`, where `ended(seconds)` waits up to so long for the order to end. The
function folds, waits, and folds once more when `ended` says True.
"""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial

from stillhouse.core.errors import StillhouseError
from stillhouse.gateway.control import FAILURE, READY, failure, named, receive, told_to_end


def main(place: str, line_fd: int) -> int:
    """Fold until told to end; the exit code."""
    for ours in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ours, signal.SIG_IGN)
    line = socket.socket(fileno=line_fd)
    try:
        handed = receive(line)
        fold = named(place)
        line.send(READY)
        fold(handed.payload, partial(told_to_end, line))
    except (EOFError, BrokenPipeError):
        return 0
    except StillhouseError as failed:
        line.send(failure(failed))
        return FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[3])))
