"""The command line: verbs, exit codes, signals.

stdout holds data only (paths, tables, JSON); talk and progress go to stderr. What a verb needs is imported when it
runs, so that `--help` and a config mistake answer at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synth_async import __version__
from synth_async.cli.console import begin_start_up, complain, exit_on_error, talk_json
from synth_async.errors import ExitCode

__all__ = ["app", "main"]

app = typer.Typer(
    name="synth-async",
    help="Synthetic fine-tuning data at the full speed of an OpenAI-compatible endpoint.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The config file (YAML).")]
FolderPath = Annotated[Path, typer.Argument(metavar="DIR", help="The run folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a config key, such as judge.min_score=4.5."),
]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Processes that read lines; default: one a core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonLogs = Annotated[
    bool,
    typer.Option(
        "--json-logs", help="Talk on stderr in JSON Lines: time, event (note, progress, end, error), message, ..."
    ),
]


class Verify(StrEnum):
    """The choices of `dedup --verify`, as in the config."""

    INDEL = "indel"
    ARTICLE = "article"
    JACCARD = "jaccard"
    NONE = "none"


class Engine(StrEnum):
    """The choices of `run --engine`."""

    LOCAL = "local"
    RAY = "ray"


class ExportFormat(StrEnum):
    """The choices of `export --format` and `validate-dataset --format`, as in `synth_async.dataset.formats`."""

    OPENAI = "openai"
    TRL_SFT = "trl-sft"
    TRL_PROMPT_COMPLETION = "trl-prompt-completion"
    TRL_DPO = "trl-dpo"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"
    AXOLOTL = "axolotl"
    TOGETHER = "together"
    MISTRAL = "mistral"
    PARQUET = "parquet"
    JSONL = "jsonl"


class Fields(StrEnum):
    """The choices of `dedup --fields`, as in the config."""

    USER = "user"
    ASSISTANT = "assistant"
    BOTH = "both"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"synth-async {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Synthetic fine-tuning data at the full speed of an OpenAI-compatible endpoint."""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="Where to write it.")] = Path("synth-async.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a commented starter config."""
    from synth_async.cli.tools import write_starter

    exit_on_error(lambda: write_starter(path, force=force))


@app.command()
def preview(
    config: ConfigPath,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=10_000, help="Examples to generate.")] = 5,
    overrides: Overrides = None,
    json_logs: JsonLogs = False,
    as_json: AsJson = False,
) -> None:
    """Show the prompts, a few examples, their verdicts.

    The examples are generated in a folder that is thrown away: the requests are paid for, nothing is kept. With 100
    and more it ends with a forecast of the whole run.
    """
    from synth_async.cli.prepared import prepared

    def action() -> None:
        if json_logs:
            talk_json()
        ready = prepared(config, overrides or [])
        from synth_async.cli.pilot import preview_run

        preview_run(ready, number=number, as_json=as_json)

    exit_on_error(action)


@app.command()
def run(
    config: ConfigPath,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder; default: runs/<name>.")] = None,
    overrides: Overrides = None,
    target: Annotated[
        int | None, typer.Option("--target", metavar="N", min=1, help="Accepted examples wanted.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Decide again from what was answered before; send nothing.")
    ] = False,
    fork: Annotated[
        Path | None,
        typer.Option(metavar="NEWDIR", help="Begin a new folder with what still matches the config; then go on there."),
    ] = None,
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Go on although the generation config has changed.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again for what the endpoint refused for good.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="What carries the run: this process, or workers on Ray (extra ray).")
    ] = Engine.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, max=1000, help="Worker processes on Ray; default: 2.")] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A Ray cluster that runs; default: one is started here.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json_logs: JsonLogs = False,
    as_json: AsJson = False,
) -> None:
    """Start a run, or go on with it.

    The same command resumes. Prints the path of the dataset.
    """
    from synth_async.cli.prepared import prepared

    def action() -> None:
        if json_logs:
            talk_json()
        from synth_async.cli.engine import ray_request

        ray = ray_request(workers, address, wanted=engine is Engine.RAY)
        ready = prepared(config, [*(overrides or []), *([f"target={target}"] if target else [])], offline=offline)
        from synth_async.cli.running import RunRequest, start_run

        start_run(ready, RunRequest(out, fork, offline, accept_change, retry_failed, quiet, as_json, ray))

    exit_on_error(action)


@app.command()
def cancel(folder: FolderPath, as_json: AsJson = False) -> None:
    """End the batches that a run left open.

    What they have done by then is kept, and paid; the same `run` command takes it in.
    """
    from synth_async.cli.batches import cancel_run

    exit_on_error(lambda: cancel_run(folder, as_json=as_json))


@app.command()
def export_requests(
    config: ConfigPath,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the batch files go.")],
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder; default: runs/<name>.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write what a run would ask as batch files.

    In OpenAI's format, for those who run them themselves (`vllm run-batch`). Prints the paths.
    """
    from synth_async.cli.prepared import prepared

    def action() -> None:
        ready = prepared(config, overrides or [])
        from synth_async.cli.batches import export_requests as export

        export(ready, target, out, as_json=as_json)

    exit_on_error(action)


@app.command()
def import_responses(
    folder: FolderPath,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What `run-batch` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Bring answers to requests that were exported.

    Matched by custom_id, in any order; what failed or is missing is asked for again. Then go on with `run`, or export
    what comes next.
    """
    from synth_async.cli.batches import import_answers

    exit_on_error(lambda: import_answers(folder, files, as_json=as_json))


@app.command()
def status(folder: FolderPath, as_json: AsJson = False) -> None:
    """Say where a run stands; works while it runs."""
    from synth_async.cli.looking import show_status

    exit_on_error(lambda: show_status(folder, as_json=as_json))


@app.command()
def report(folder: FolderPath, as_json: AsJson = False) -> None:
    """Print the report of a run, and write it as report.html.

    The funnel, scores, lengths, facets, topics, the reasons of the drops with samples, tokens, cost; the page has the
    speed over time, duplicate clusters and examples besides.
    """
    from synth_async.cli.looking import show_report

    exit_on_error(lambda: show_report(folder, as_json=as_json))


@app.command()
def validate(
    config: ConfigPath,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder; default: runs/<name>.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check a config, and forecast its run.

    All mistakes at once; then the requests, tokens, time and cost to expect: by what its run folder has measured, where
    one is there, or else by assumptions. Sends nothing.
    """
    from synth_async.cli.forecasting import validate_config

    exit_on_error(lambda: validate_config(config, out, overrides or [], as_json=as_json))


@app.command()
def dedup(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Chat JSONL, plain or .gz; - is standard input.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where kept lines go; - is standard output.")],
    *,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Similarity above which a line is dropped.")
    ] = 0.80,
    verify: Annotated[Verify, typer.Option(help="What decides about a candidate.")] = Verify.INDEL,
    fields: Annotated[Fields, typer.Option(help="What is compared.")] = Fields.BOTH,
    field: Annotated[str | None, typer.Option(help="Compare this one field of each line instead.")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="Keep nothing like a line of it; repeatable.")] = None,
    clusters: Annotated[
        Path | None, typer.Option("--report", help="Write what was dropped, by what it repeats.")
    ] = None,
    semantic: Annotated[
        Path | None, typer.Option("--semantic-report", help="Write pairs alike in meaning; drops nothing.")
    ] = None,
    semantic_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Cosine above which a pair is in that report.")
    ] = 0.90,
    workers: Workers = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken line.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop exact and near-duplicates from a file.

    Any chat JSONL; kept lines stay byte for byte, the first of its kind stays. Prints the path of the output.
    """
    from synth_async.cli.tools import deduplicate

    choices = {
        "threshold": threshold,
        "verify": verify.value,
        "fields": fields.value,
        "field": field,
        "against": against or [],
        "semantic_report": semantic,
        "semantic_threshold": semantic_threshold,
        "strict": strict,
    }
    exit_on_error(
        lambda: deduplicate(source, target, report=clusters, workers=workers, as_json=as_json, choices=choices)
    )


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="RUN|FILE...", help="Run folders, or chat JSONL files.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR|FILE", help="A new run folder; a file where it ends in .jsonl or .gz.")
    ],
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Similarity above which a line is dropped.")
    ] = 0.80,
    fields: Annotated[Fields, typer.Option(help="What is compared.")] = Fields.BOTH,
    field: Annotated[str | None, typer.Option(help="Compare this one field of each line instead.")] = None,
    clusters: Annotated[
        Path | None, typer.Option("--report", help="Write the drops, by what they repeat; a folder has it anyway.")
    ] = None,
    workers: Workers = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken line.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge runs or files into one dataset.

    Without exact and near-duplicates across them; the order of the lines depends on what they say alone, so the order
    of the sources changes nothing. Needs the extra `merge`. Prints the path of the dataset.
    """
    from synth_async.cli.tools import merge_sources

    choices = {"threshold": threshold, "fields": fields.value, "field": field, "report": clusters, "strict": strict}
    exit_on_error(lambda: merge_sources(sources, out, workers=workers, as_json=as_json, choices=choices))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A run folder, or a file of chats.")],
    *,
    target: Annotated[ExportFormat, typer.Option("--format", help="Whose format.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="A file, or a folder; default: export-FORMAT beside the source."),
    ] = None,
    keep_metadata: Annotated[bool, typer.Option("--keep-metadata", help="Keep id and metadata in each line.")] = False,
    licence: Annotated[str, typer.Option("--license", help="What the dataset card states.")] = "unknown",
    seed: Annotated[int, typer.Option(help="Seed of split, mix and suite.")] = 0,
    held_out: Annotated[
        float, typer.Option("--held-out", metavar="SHARE", help="Share of the topics kept out of training.")
    ] = 0.0,
    suite: Annotated[int, typer.Option(min=0, help="Held-out examples for the regression suite.")] = 50,
    mix: Annotated[Path | None, typer.Option(metavar="FILE", help="Real examples to mix in.")] = None,
    real_share: Annotated[float, typer.Option("--real-share", help="Share of real examples in the mix.")] = 0.4,
    decontaminate: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Leave out what repeats this evaluation file.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Similarity above which two examples repeat each other.")
    ] = 0.80,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="PATH", help="Count tokens: tokenizer.json, a model's folder, or `deepseek`.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Count the examples longer than this.")] = None,
    pack: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=1, help="Pack into blocks of so many tokens as well.")
    ] = None,
    split_long: Annotated[
        bool, typer.Option("--split-long", help="Packing: split what is longer than a block, do not leave it out.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset in a trainer's format.

    With a held-out split, mixing with real data, decontamination, packing and a dataset card. Prints the path.
    """
    from synth_async.cli.exporting import export_dataset

    choices = {
        "format": target.value,
        "out": out,
        "keep_metadata": keep_metadata,
        "license": licence,
        "seed": seed,
        "held_out": held_out,
        "suite": suite,
        "mix": mix,
        "real_share": real_share,
        "decontaminate": tuple(decontaminate or ()),
        "threshold": threshold,
        "tokenizer": tokenizer,
        "max_tokens": max_tokens,
        "pack": pack,
        "split_long": split_long,
    }
    exit_on_error(lambda: export_dataset(source, choices, as_json=as_json))


@app.command()
def validate_dataset(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines (also .gz), a JSON array, or Parquet.")],
    *,
    target: Annotated[ExportFormat, typer.Option("--format", help="Whose rules.")],
    show: Annotated[
        int | None, typer.Option(min=0, help="Breaches to print, of the first 1,000; default: 50, all with --json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a file against a trainer's rules.

    Prints every breach with its line; exit code 1 where there is one.
    """
    from synth_async.cli.exporting import check_dataset

    exit_on_error(lambda: check_dataset(file, target.value, show=show, as_json=as_json))


@app.command()
def judge(
    source: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Chats to score: JSONL of any shape, plain or .gz.")
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Whose judge and system prompt to use.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="SCORED", help="Where it goes; default: FILE.scored.jsonl.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="LABELLED", help="Rows with people's `scores`, `score` or `accepted`.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Without CONFIG: the judge's address, or simulator.")] = None,
    model: Annotated[str | None, typer.Option(help="Without CONFIG: the judge's model.")] = None,
    criteria: Annotated[str | None, typer.Option(help="Names of the rubric, such as helpfulness,accuracy.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score a file of chats with the judge.

    The same command resumes. --calibrate says how well the judge agrees with people, and suggests min_score.
    """
    from synth_async.cli.judging import JudgeWishes, judge_files

    wishes = JudgeWishes(source, config, out, calibrate, base_url, model, criteria, overrides or [], as_json)
    exit_on_error(lambda: judge_files(wishes))


@app.command()
def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8399,
    rpm: Annotated[float | None, typer.Option(help="Requests per minute to enforce.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens per minute to enforce.")] = None,
    latency: Annotated[float, typer.Option(min=0.0, help="Median latency in seconds.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of what it says and of its faults.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of `simulation`, such as faults.reset=0.01."),
    ] = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Answer to any model name.")] = False,
) -> None:
    """Serve the embedded endpoint on loopback.

    Until it is interrupted; prints its base URL.
    """
    from synth_async.cli.tools import simulate_endpoint

    changes = {"rpm": rpm, "tpm": tpm, "latency_s": latency, "seed": seed}
    exit_on_error(lambda: simulate_endpoint(port, changes, settings or [], any_model=any_model))


@app.command()
def bench(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="Measure its endpoints; without: the embedded one.")
    ] = None,
    *,
    client: Annotated[bool, typer.Option("--client", help="The client alone, and not a whole run.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="How long requests are sent; default: 30.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Stop when so many were sent.")] = None,
    rpm: Annotated[float | None, typer.Option(min=0.0, help="Embedded endpoint: requests per minute; 0: any.")] = None,
    tpm: Annotated[float | None, typer.Option(min=0.0, help="Embedded endpoint: tokens per minute; 0: any.")] = None,
    latency: Annotated[float | None, typer.Option(min=0.0, help="Embedded endpoint: median latency, seconds.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Embedded endpoint: max_tokens of a request.")] = None,
    in_flight: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Embedded endpoint: requests open at once.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a config key; without CONFIG, one of `simulation`."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to an endpoint elsewhere, which may cost money.")] = False,
    as_json: AsJson = False,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Throughput over time against the limit: .svg or .html.")
    ] = None,
) -> None:
    """Measure throughput against rate limits.

    Of a whole run in a folder that is thrown away, or of the client alone; against the embedded endpoint (3,000 RPM,
    600,000 TPM, 1 s of latency) or those of a config.
    """
    from synth_async.cli.benching import BenchWishes, run_bench

    embedded = {"rpm": rpm, "tpm": tpm, "latency": latency}
    wishes = BenchWishes(
        config, client, seconds, requests, embedded, max_tokens, in_flight, overrides or [], yes, as_json, chart
    )
    exit_on_error(lambda: run_bench(wishes))


def main() -> None:
    """Run the command line; leaves with an exit code."""
    begin_start_up()
    try:
        app(prog_name="synth-async")
    except BrokenPipeError:
        # The reader of our stdout has left, as `| head` does.
        raise SystemExit(0) from None
    except OSError as error:
        code = ExitCode.DISK if error.errno in (5, 28, 30) else ExitCode.UNEXPECTED
        complain(f"{error.filename or 'file'}: {error.strerror}", code)
        raise SystemExit(int(code)) from None
