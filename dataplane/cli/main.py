"""Entry point of the command ``dataplane``: finds the verb, runs it, turns every error into one line.

Exit codes: 0 fine, 1 a finding or mismatch, 2 usage, bad input or a fault of ours,
130 interrupted, 141 when the reader of standard output went away (128 plus the signal's number, as shells count).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from dataplane.cli.options import load_plugins
from dataplane.cli.verbs import VERBS
from dataplane.errors import InputError

USAGE_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


def usage() -> str:
    width = max(map(len, VERBS)) + 2
    lines = ["usage: dataplane VERB [OPTION...]", ""]
    lines += ["Carries raw frames through a Kubernetes cluster's network, byte for byte as Linux would.", ""]
    lines += [f"  {verb:<{width}}{sentence}" for verb, sentence in VERBS.items()]
    lines += ["", "dataplane VERB --help tells more of a verb, dataplane --version the version."]
    return "\n".join(lines)


def unknown_verb(verb: str) -> InputError:
    import difflib  # only a typo pays for it

    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {near[0]}?" if near else "dataplane --help lists the verbs"
    return InputError(f"unknown verb {verb!r}: {hint}")


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that ``arguments`` name and return its exit code."""
    if not arguments:
        raise InputError("no verb given: dataplane --help lists them")
    verb = arguments[0]
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb == "--version":
        from dataplane.version import __version__

        print(f"dataplane {__version__}")
        return 0
    if verb not in VERBS:
        raise unknown_verb(verb)
    module = importlib.import_module(f"dataplane.cli.{verb}")
    parser = Parser(prog=f"dataplane {verb}", description=module.HELP)
    module.configure(parser)
    # Intermixed: names may follow options, as with kubectl (get pods -n NAMESPACE NAME).
    options = parser.parse_intermixed_args(arguments[1:])
    load_plugins(options)
    return int(module.run(options))


def silence_stdout() -> None:
    """Nobody reads standard output any more: let the interpreter's last flush go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """One line on standard error, whatever line breaks ``message`` holds."""
    print(f"dataplane: {' '.join(message.split())}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process') and return its exit code; raises nothing but ``SystemExit``."""
    try:
        status = dispatch(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # a broken pipe shows here, not in the interpreter's shutdown
        return status
    except InputError as error:
        complain(str(error))
        return USAGE_ERROR
    except BrokenPipeError:
        silence_stdout()
        return BROKEN_PIPE
    except OSError as error:
        complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("DATAPLANE_TRACEBACK"):
            raise
        complain(f"internal error: {type(error).__name__}: {error} (DATAPLANE_TRACEBACK=1 shows where)")
        return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
