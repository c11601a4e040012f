"""`glint models`: what can be loaded by name, and getting, checking and converting weights."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(
    no_args_is_help=False, help="List, fetch, verify and convert models and encoder weights."
)


@models.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """List, fetch, verify and convert models and encoder weights."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List packaged models, image encoders and sentence encoders, tab-separated: kind, name, what it is."""
    from glint.model.folder import PACKAGED, packaged_models
    from glint.model.text_models import KNOWN
    from glint.model.vision.registry import ENCODERS, encoder_class

    for name in packaged_models():
        typer.echo(f"model\t{name}\t{PACKAGED / name}")
    for name in ENCODERS:
        kind = encoder_class(name)
        summary = (kind.__doc__ or "").strip().splitlines()[0]
        typer.echo(f"encoder\t{name}\t{summary}" + (f" [{kind.licence}]" if kind.licence else ""))
    for name, traits in KNOWN.items():
        typer.echo(f"text\t{name}\t{traits.pooling} of up to {traits.max_tokens} tokens [{traits.licence}]")


@models.command()
def fetch(
    source: Annotated[str, typer.Argument(help="Hub id, owner/name or owner/name@revision.")],
    offline: Annotated[bool, typer.Option("--offline", help="Only look on this machine.")] = False,
) -> None:
    """Fetch safetensors and settings of a hub repository; print its folder and the revision to pin."""
    from glint.model.weights import fetch as fetch_folder

    folder = fetch_folder(source, offline=offline)
    repository = source.partition("@")[0]
    typer.echo(f"folder\t{folder}")
    typer.echo(f"pinned\t{repository}@{folder.name}")


@models.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Model folder, encoder folder, hub folder or official .pth.")],
) -> None:
    """Compare files with their recorded SHA-256; print one line a file."""
    from glint.model.checksums import verify as compare
    from glint.model.folder import PACKAGED

    packaged = PACKAGED / path
    for name, source in compare(packaged if not path.exists() and packaged.is_dir() else path).items():
        typer.echo(f"ok\t{name}\t{source}")


@models.command()
def convert(
    source: Annotated[str, typer.Argument(help="Hub id, hub folder, or .pth, .pt, .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    encoder: Annotated[str, typer.Option(help="What it is: a name that `glint models` lists.")],
) -> None:
    """Convert published weights to an encoder folder of GLINT: safetensors, settings, licence, sums."""
    from glint.config.schema import VisionConfig
    from glint.errors import UsageError
    from glint.model.checksums import write_sums
    from glint.model.vision.registry import build_vision, save_encoder

    if out.exists():
        raise UsageError("there is something already", where=str(out), fix="name another folder")
    built = build_vision(VisionConfig(name=encoder, init=source))  # pyright: ignore[reportCallIssue]
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    save_encoder(built, encoder, part)
    write_sums(part)
    part.rename(out)
    count = sum(p.numel() for p in built.parameters())
    typer.echo(
        f"{out}\t{encoder}\t{count:,} parameters" + (f"\t{built.arch.licence}" if built.arch.licence else "")
    )
