"""The ``fastconv`` command; its groups of commands are in files of their own, `_cli_*.py`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import click
from rich.table import Table

from fastconv import (
    _cli_explain,
    _cli_info,
    _cli_model,
    _cli_report,
    _cli_tune,
    _cli_wisdom,
    _machine,
    _planner,
    _timer,
    _tuner,
)
from fastconv._cli_common import (
    USAGE,
    Shown,
    as_dict,
    budget_option,
    db_option,
    files,
    json_option,
    new_table,
    out,
    print_json,
    print_refused,
    read,
    time_text,
    words,
)  # fmt: skip
from fastconv._planner import Candidate
from fastconv._problem import Problem

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 when something could not be done, 2 on bad input."""
    try:
        result = app.main(
            None if argv is None else list(argv), prog_name="fastconv", standalone_mode=False
        )
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        return _refuse(error.format_message())
    except OSError as error:
        what = error.strerror or str(error)
        return _refuse(f"{error.filename}: {what}" if error.filename else what)
    except (ValueError, TypeError, ImportError, MemoryError, OverflowError) as error:
        return _refuse(str(error) or type(error).__name__)
    return result if isinstance(result, int) else 0


def _refuse(message: str) -> int:
    print("fastconv:", " ".join(message.split()), file=sys.stderr)
    return USAGE


@click.group(context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(package_name="fastconv")
@click.pass_context
def app(context: click.Context) -> None:
    """Convolutions by the fastest algorithm for each shape, remembered.

    PROBLEM is one line of text, the same everywhere in fastconv:

    \b
      "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1"
       conv2d         dimensions: conv1d to conv8d
       f32            dtype: f16 bf16 f32 f64 c64 c128 i8 to i64 u8 to u64 bool
       n1 c64         batch, channels             k64     filters
       h56 w56        size (d h w in 3-D)         r3 s3   kernel (t r s in 3-D)
       p1 u2 l2 e2    padding, stride, dilation, input dilation; p0:1,2 a side and axis
       g8             groups                      flip    convolution, not correlation
       reflect mirror nearest wrap constant=1     what lies beyond the ends, else zeros
       strict fast    accuracy, else balanced     threads2 prepared "N*C"

    FILE.toml lists calls in [[conv]], [[signal]], [[image]], [[match]] and [[power]] tables;
    FILE.toml:NAME is one of them.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@app.command(short_help="Do real work, checked against SciPy and timed beside it.")
@click.option(
    "--out", "folder", type=click.Path(file_okay=False, path_type=pathlib.Path), metavar="DIR",
    default=pathlib.Path("fastconv-demo"), show_default=True,
    help="Folder to write the pictures to.",
)  # fmt: skip
@db_option
@json_option
def demo(folder: pathlib.Path, as_json: bool) -> int:
    """Filter a photograph, reverberate a minute of sound, run two networks, add a thousand dice.

    Every result is checked against SciPy and timed beside it.
    """
    from fastconv import _demo

    return _demo.main(folder, as_json=as_json)


@app.command(short_help="Time every candidate and show a table.")
@click.argument("problem", metavar="PROBLEM|FILE.toml:NAME", shell_complete=files)
@budget_option
@db_option
@json_option
def bench(problem: str, budget: float, as_json: bool) -> None:
    """Time every candidate, interleaved, and show them all; nothing is remembered."""
    machine = _machine.this_machine()
    targets = read(problem)
    results = []
    with Shown(len(targets)) as shown:
        for i, target in enumerate(targets):
            report = shown.part(i, target.name or str(target.problem))
            found = _planner.candidates(target.problem)
            results.append((target, _tuner.bench(found, machine, budget, report)))
    if as_json:
        print_json(
            [
                {
                    "name": target.name,
                    "problem": str(target.problem),
                    "flops": target.problem.flops,
                    "candidates": [
                        {**as_dict(c), **({} if t is None else dataclasses.asdict(t))}
                        for c, t in timed
                    ],
                }
                for target, timed in results
            ]
        )
        return
    console = out()
    for target, timed in results:
        console.print(f"{target.name}  {target.problem}".strip(), soft_wrap=True)
        console.print(_bench_table(target.problem, timed))
        print_refused(console, [c for c, _ in timed if c.refused is not None])


def _bench_table(
    problem: Problem, found: Sequence[tuple[Candidate, _timer.Timing | None]]
) -> Table:
    """Lower quartile of each candidate, and how far the upper one is from it."""
    table = new_table("method", "config", "time:", "spread:", "vs best:", "GFLOP/s:")
    best = next((t.seconds for _, t in found if t is not None), 1.0)
    for c, t in found:
        if t is not None:
            spread = f"{100 * (t.upper / max(t.seconds, 1e-9) - 1):.0f} %"
            table.add_row(
                c.method, words(c.config), time_text(t.seconds), spread,
                f"{t.seconds / max(best, 1e-9):.2f}x",
                f"{problem.flops / max(t.seconds, 1e-9) * 1e-9:.3g}",
            )  # fmt: skip
        elif c.refused is None:
            estimate = f"({time_text(c.seconds)})"
            table.add_row(c.method, words(c.config), estimate, "", "not timed", "")
    return table


for _command in (
    _cli_info.info, _cli_tune.tune, _cli_tune.record, _cli_explain.explain, _cli_explain.verify,
    _cli_report.report, _cli_explain.compare, _cli_wisdom.wisdom, _cli_wisdom.export,
    _cli_wisdom.import_, _cli_wisdom.merge, _cli_wisdom.pin, _cli_wisdom.unpin, _cli_wisdom.forget,
    _cli_wisdom.gc, _cli_info.doctor, _cli_model.calibrate, _cli_model.train,
):  # fmt: skip
    app.add_command(_command)
