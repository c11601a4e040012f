"""The `glint` command: its subcommands, and the one place where errors become messages and exit statuses."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import glint
from glint.cli.archive import watch
from glint.cli.bench import bench
from glint.cli.check import check
from glint.cli.demo import demo
from glint.cli.evaluate import evaluate
from glint.cli.models import models
from glint.cli.phantom import phantom, phantom_ct
from glint.cli.predict import classify, ground, segment
from glint.cli.train import pretrain, train
from glint.errors import GlintError

INTERRUPTED = 130

app = typer.Typer(
    name="glint",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Ask a chest X-ray in free text: score, point, box, mask. Research software, not a medical device.",
)
for _command in (
    check,
    classify,
    ground,
    segment,
    demo,
    phantom,
    phantom_ct,
    pretrain,
    train,
    evaluate,
    watch,
):
    app.command()(_command)
app.add_typer(models, name="models")
app.add_typer(bench, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glint {glint.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options of the program; `debug` is read by `main` before anything runs."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, or the status of the error (docs/errors.md)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    sys.exit(run([word for word in given if word != "--debug"], debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run the command and return its exit status; an error is told once, on stderr.

    Args:
        arguments: The words after `glint`.
        debug: Show tracebacks and the warnings of libraries.
    """
    if not debug:
        _quiet_libraries()
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except GlintError as error:
        return _tell(error, error.message(), error.exit_status, debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: `glint ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the top of the program: nothing may end in a bare traceback
        message = (
            f"{GlintError.code}: this is a bug of GLINT: {type(error).__name__}\n"
            "  fix:      run the command again with --debug and report what it says (leave out patient data)"
        )
        return _tell(error, message, GlintError.exit_status, debug)
    return 0


def _tell(error: BaseException, message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    sys.stderr.write(message + "\n")
    return status


def _quiet_libraries() -> None:
    """Keep stderr for our own words: libraries announce what they load, and bars mix with ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.showwarning = _one_line


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line, without file and source."""
    sys.stderr.write(f"warning: {message}\n")
