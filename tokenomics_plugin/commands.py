"""The commands themselves, in click: the library does the work, nothing is computed here.

Each command imports its own extra when it runs, so that one is not needed to use the other.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from tokenomics_plugin.errors import MissingExtraError, TokenomicsError

__all__ = ["main"]

_EXTRAS = {"collect": "collector", "import": "collector", "report": "report", "dataset": "report"}
_DB_OPTION = click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("tokenomics.duckdb"),
    show_default=True,
    help="The store, one DuckDB file.",
)
_PAGES = ("finance", "engineering", "developer")
_PRICES_OPTION = click.option(
    "--prices",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Price book (TOML) that wins over list prices: negotiated ones, or a local machine's.",
)

_READERS_OPTION = click.option(
    "--read-only-tool", "readers", multiple=True, help="Pattern of tools that only read, such as 'get_*'."
)
_WRITERS_OPTION = click.option("--write-tool", "writers", multiple=True, help="Pattern of tools that change something.")


class _Usd(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.3, and in no earlier one
    """An amount of dollars, exact."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read it."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is no amount of dollars, such as 4.50", param, ctx)
        if not (amount.is_finite() and amount >= 0):
            self.fail(f"{value!r} must be a finite amount of at least 0", param, ctx)
        return amount


_USD = _Usd()
_VALUE_OPTION = click.option("--value", type=_USD, help="USD that a success is worth which does not say its own.")


class _Group(click.Group):
    """Turns our own errors into one line on stderr; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except TokenomicsError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(ctx.invoked_subcommand or "")
            if extra is None or (error.name or "").startswith("tokenomics"):
                raise
            raise click.ClickException(str(MissingExtraError(error.name or "a module", extra=extra))) from error


class _Watched(io.RawIOBase):
    """A file that tells of the bytes that were read of it."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], object]) -> None:
        self._file = file
        self._on_read = on_read

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and tell."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._on_read(len(data))
        return len(data)


@contextmanager
def _progress(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """A bar on stderr while a file is read, where a person watches."""
    if not sys.stderr.isatty():
        yield file
        return
    with click.progressbar(length=path.stat().st_size, label=path.name, file=sys.stderr) as bar:
        yield cast(BinaryIO, _Watched(file, bar.update))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tokenomics-plugin", prog_name="tokenomics")
def main() -> None:
    """Collect what agents spend, and report it against what they achieve."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


@main.command()
@_DB_OPTION
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=4318, show_default=True, help="OTLP/HTTP; 0: any.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=4317, show_default=True, help="OTLP/gRPC; 0: any.")
@click.option(
    "--token",
    envvar="TOKENOMICS_COLLECTOR_TOKEN",
    show_envvar=True,
    help="Bearer token that exporters must send; required on any address but loopback.",
)
@_PRICES_OPTION
def collect(db: Path, host: str, http_port: int, grpc_port: int, token: str | None, prices: Path | None) -> None:
    """Receive OTLP over HTTP and gRPC into the store, until interrupted.

    A browser sees the report of it, with lists to search and traces to look into, at the HTTP port.
    """
    from tokenomics_plugin.collector import Addresses, CollectorConfig, run

    def announce(addresses: Addresses) -> None:
        click.echo(f"listening http={addresses.http} grpc={addresses.grpc} db={db}")
        sys.stdout.flush()

    config = CollectorConfig(db=db, host=host, http_port=http_port, grpc_port=grpc_port, token=token, prices=prices)
    run(config, on_ready=announce)


@main.command("import")
@_DB_OPTION
@click.option(
    "--format",
    "form",
    type=click.Choice(["otlp", "openinference", "chat"]),
    default="otlp",
    show_default=True,
    help="otlp: OTLP JSON lines, stored as they are. openinference: the same with the attributes of OpenInference, "
    "OpenLLMetry, LangSmith or OpenLIT. chat: one run a line, with messages in OpenAI form.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_files(db: Path, form: str, files: tuple[Path, ...]) -> None:
    """Read FILES, plain or gzipped, into the store.

    Lines that cannot be read are named with their number and the rest goes in; the exit status is then 1.
    Importing a file again adds nothing. Texts of foreign formats become keyed hashes; set
    TOKENOMICS_FINGERPRINT_SECRET for hashes that compare with those of other imports.
    """
    from tokenomics_plugin.importing import FORMATS
    from tokenomics_plugin.store import TraceStore

    failed = False
    with TraceStore(db) as store:
        for path in files:
            with path.open("rb") as lines, _progress(lines, path) as watched:
                result = FORMATS[form](store, watched)
            for line in result.bad_lines:
                click.echo(f"{path}:{line.number}: {line.reason}", err=True)
            click.echo(f"{path}: {result.summary()}")
            for note, count in result.notes.most_common():
                click.echo(f"  {count} {note}")
            failed = failed or result.bad_line_count > 0
    sys.exit(1 if failed else 0)


@main.command()
@_DB_OPTION
@click.option("--format", "form", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), default="-", help="File to write; - is stdout.")
@click.option("--page", type=click.Choice(["all", *_PAGES]), default="all", show_default=True, help="For which reader.")
@_PRICES_OPTION
@_VALUE_OPTION
@click.option("--human-cost", type=_USD, help="USD that a person costs for a task, to compare with.")
@_READERS_OPTION
@_WRITERS_OPTION
@click.option(
    "--compare",
    "before",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Say what changed since this store, on the tasks that both have, and nothing else.",
)
def report(
    db: Path,
    form: str,
    output: str,
    page: str,
    prices: Path | None,
    value: Decimal | None,
    human_cost: Decimal | None,
    readers: tuple[str, ...],
    writers: tuple[str, ...],
    before: Path | None,
) -> None:
    """Score what was spent against what was achieved.

    Three pages: finance, engineering, developer. What tools do to the world is not in a trace: declare it, or each
    tool counts as one that may write, and a read that is repeated after it as a needed one.
    """
    from tokenomics_plugin.pages import PageOptions, make_comparison, make_report, write_report
    from tokenomics_plugin.pricing import PriceBook
    from tokenomics_plugin.trajectory import SideEffects

    book = PriceBook.of_file(prices)
    if before is not None:
        write_report(make_comparison(before, db, book), form, output)
        return
    options = PageOptions(value=value, human_cost=human_cost)
    side_effects = SideEffects(read=frozenset(readers), write=frozenset(writers))
    made = make_report(db, book, options=options, side_effects=side_effects)
    write_report(made if page == "all" else made.only(page), form, output)


@main.group()
def dataset() -> None:
    """Turn what agents did well into data to fine-tune a model on."""


@dataset.command("export")
@_DB_OPTION
@_PRICES_OPTION
@_VALUE_OPTION
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the tasks that goes to the other file.",
)
@click.option("--max-tasks", type=click.IntRange(min=1), help="Stop after so many tasks.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Stop when the conversations have more tokens.")
@_READERS_OPTION
@_WRITERS_OPTION
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
def export(
    db: Path,
    prices: Path | None,
    value: Decimal | None,
    held_out: float,
    max_tasks: int | None,
    max_tokens: int | None,
    readers: tuple[str, ...],
    writers: tuple[str, ...],
    output: Path,
) -> None:
    """Write the conversations that are worth learning to OUTPUT, as JSON lines of messages and tools.

    Those of tasks that succeeded and brought more than they cost, the most net value per token first. A fifth of the
    tasks goes to a second file, NAME.held-out.jsonl, to judge a fine-tuned model by; a task never changes sides.
    Repeated reads of tools that are declared as read-only are left out. The texts must have been captured:
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY where the agent runs.
    """
    from tokenomics_plugin.dataset import DatasetOptions, export_dataset
    from tokenomics_plugin.pricing import PriceBook
    from tokenomics_plugin.trajectory import SideEffects

    exported = export_dataset(
        db,
        output,
        PriceBook.of_file(prices),
        options=DatasetOptions(held_out=held_out, max_tasks=max_tasks, max_tokens=max_tokens, value=value),
        side_effects=SideEffects(read=frozenset(readers), write=frozenset(writers)),
        on_traces=_told_on_terminals,
    )
    click.echo(exported.summary())


def _told_on_terminals(done: int, total: int) -> None:
    """One line on stderr that is written over, where a person watches."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total} traces read", nl=done == total, err=True)
