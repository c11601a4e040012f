"""`glint bench`: speed and memory on this machine, as shares of what it can do."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")

bench = typer.Typer(no_args_is_help=True, help="Measure speed and memory on this machine.")


@bench.callback()
def _bench() -> None:
    """Measure speed and memory on this machine."""


@bench.command()
def encoders(
    names: Annotated[list[str] | None, typer.Argument(help="Encoders; none: all.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Input such as 512x512 or 128x256x256 (Z first); may be repeated."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1)] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls; the median counts.")] = 3,
    device: Annotated[str, typer.Option(help="cpu or cuda; auto takes cuda where it is.")] = "auto",
    dtype: Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON, too.")] = None,
) -> None:
    """Time a forward pass and a training step of image encoders with random weights; print a Markdown table."""
    import torch

    from glint.bench.encoders import HEAD, default_shapes, run
    from glint.bench.machine import machine_name, matmul_peak

    where, number = torch.device(_device(device)), _number(dtype)
    chosen, shapes = _known(names), [_shape(text) for text in size or ()]
    peak = matmul_peak(where, number)
    typer.echo(
        f"{machine_name(where)}, {dtype}, batch {batch}, matrix-product peak {peak / 1e12:.3f} TFLOP/s\n"
    )
    rows = (
        row
        for name in chosen
        for shape in shapes or default_shapes(name)
        for row in run(name, shape, where, number, batch, repeats)
    )
    facts = {"machine": machine_name(where), "dtype": dtype, "batch": batch, "peak_flops": peak}
    _table(facts, HEAD, rows, lambda row: row.cells(peak), out)


@bench.command()
def gate(
    forms: Annotated[
        list[str] | None, typer.Argument(help="Forms; none: all that run on the device.")
    ] = None,
    sentences: Annotated[int, typer.Option(min=1)] = 256,
    images: Annotated[int, typer.Option(min=1)] = 8,
    patches: Annotated[int, typer.Option(min=1)] = 1024,
    width: Annotated[int, typer.Option(min=1, help="Alignment width D.")] = 128,
    gate_width: Annotated[int, typer.Option(min=1, help="Gate width G.")] = 128,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Share of open tiles.")] = 0.05,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls; the median counts.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda; auto takes cuda where it is.")] = "auto",
    dtype: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON, too.")] = None,
) -> None:
    """Time the gated pooling of all pairs, forward and with backward, in all its forms; print a Markdown table."""
    import torch

    from glint.bench import gate as work
    from glint.bench.machine import machine_name, matmul_peak
    from glint.errors import UsageError

    where, number = torch.device(_device(device)), _number(dtype)
    known = list(work.forms(where))
    unknown = [name for name in forms or () if name not in known]
    if unknown:
        raise UsageError(f"there is no form '{unknown[0]}' on {where.type}", expected=", ".join(known))
    if gate_width < round(1 / share):
        raise UsageError(
            f"{share} of open tiles need a gate width of {round(1 / share)}", where="--gate-width"
        )
    size = work.Size(sentences, images, patches, width, gate_width)
    peak = matmul_peak(where, number)
    is_open = work.open_share(work.inputs(size, where, number, share))
    typer.echo(f"{machine_name(where)}, {dtype}, {size}, matrix-product peak {peak / 1e12:.3f} TFLOP/s")
    typer.echo(f"tiles that the sparse form does not skip: {is_open:.1%}\n")
    facts = {"machine": machine_name(where), "dtype": dtype, "size": asdict(size), "peak_flops": peak}
    rows = work.run(size, where, number, forms or known, share, repeats)
    _table(facts, work.HEAD, rows, lambda row: row.cells(peak), out)


@bench.command()
def volume(
    model: Annotated[str, typer.Option(help="Model folder or packaged model; none: random weights.")] = "",
    size: Annotated[
        list[str] | None,
        typer.Option(help="Voxels of a scan such as 133x512x512 (Z first); the first is the base."),
    ] = None,
    queries: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of queries.")] = None,
    overlap: Annotated[list[float] | None, typer.Option(help="Overlaps of windows.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls; the median counts.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda; auto takes cuda where it is.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON, too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .png.")] = None,
) -> None:
    """Time answering on a CT against its size, the number of queries and the overlap; print a Markdown table."""
    import torch

    from glint.bench import volume as work
    from glint.bench.machine import machine_name
    from glint.io.files import check_output
    from glint.model.folder import load_model

    if plot is not None:
        check_output(plot, ".png")
    where = torch.device(_device(device))
    shapes = [_shape(text) for text in size or ("133x512x512", "64x256x256", "266x512x512")]
    if any(len(shape) != 3 for shape in shapes):
        raise typer.BadParameter("such as 133x512x512", param_hint="--size")
    sweep = work.Sweep(
        [(shape[0], shape[1], shape[2]) for shape in shapes],
        queries or (1, 10, 100),
        overlap or (0.5, 0.0, 0.25),
    )
    loaded = (load_model(model) if model else work.random_model()).to(where)
    typer.echo(f"{machine_name(where)}, {model or 'random weights'}\n")
    facts = {"machine": machine_name(where), "model": model or "random weights"}
    rows = _table(facts, work.HEAD, work.run(loaded, sweep, where, repeats), lambda row: row.cells(), out)
    ratio = work.query_ratio(rows)
    if ratio is not None:
        typer.echo(f"\n{ratio[0]} queries take {ratio[1]:.2f} times as long as {rows[0].queries}")
    if plot is not None:
        work.plot(rows, plot)


def _table(
    facts: dict[str, Any],
    head: Sequence[str],
    rows: Iterable[Row],
    cells: "Callable[[Row], Sequence[str]]",
    out: Path | None,
) -> list[Row]:
    """Print rows as they are measured; write them with the facts as JSON when asked; return them."""
    from glint.atomic import write_text

    typer.echo("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    measured: list[Row] = []
    for row in rows:
        measured.append(row)
        typer.echo("| " + " | ".join(cells(row)) + " |")
    if out is not None:
        write_text(out, json.dumps(facts | {"rows": [asdict(row) for row in measured]}, indent=1) + "\n")
    return measured


def _number(name: str) -> "torch.dtype":
    import torch

    number = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(name)
    if number is None:
        raise typer.BadParameter("fp32 or bf16", param_hint="--dtype")
    return number


def _device(name: str) -> str:
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _known(names: list[str] | None) -> list[str]:
    from glint.bench.encoders import SIZES
    from glint.errors import UsageError

    unknown = [name for name in names or () if name not in SIZES]
    if unknown:
        raise UsageError(f"there is no encoder '{unknown[0]}' to measure", expected=", ".join(SIZES))
    return list(names or SIZES)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter("such as 512x512 or 128x256x256", param_hint="--size")
    return tuple(map(int, parts))
