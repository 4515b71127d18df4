"""`python -m synth_async.endpoint.simulator`: serve, and print one JSON line with the base URL on stdout."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys

import orjson
import pydantic

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.server import allow_many_connections, run_until


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT, SIGTERM or, where asked, the end of standard input. Exit code 2: the options are wrong."""
    options = _parser().parse_args(arguments)
    try:
        simulation = _simulation(options)
    except pydantic.ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"simulation.{where}: {problem['msg']}\n")
        return 2
    # Requests leave hardly any cycles behind, so the collector has little to find.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        asyncio.run(_main(simulation, options))
    except OSError as error:
        sys.stderr.write(f"port {options.port}: {error.strerror}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m synth_async.endpoint.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--simulation", default="{}", help="the settings as JSON, keys as under `simulation` in a config"
    )
    parser.add_argument("--any-model", action="store_true", help="answer whatever model is named")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    for name in ("rpm", "tpm", "burst", "latency", "latency-sigma", "weak-share", "duplicate-share"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--seed", type=int)
    return parser


def _simulation(options: argparse.Namespace) -> Simulation:
    given = {
        "rpm": options.rpm,
        "tpm": options.tpm,
        "burst_s": options.burst,
        "latency_s": options.latency,
        "latency_sigma": options.latency_sigma,
        "weak_share": options.weak_share,
        "duplicate_share": options.duplicate_share,
        "seed": options.seed,
    }
    whole = Simulation.model_validate_json(options.simulation).model_dump()
    return Simulation.model_validate({**whole, **{key: value for key, value in given.items() if value is not None}})


async def _main(simulation: Simulation, options: argparse.Namespace) -> None:
    allow_many_connections()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _stop_at_the_end, sys.stdin.fileno(), stop)
    await run_until(stop, simulation, port=options.port, any_model=options.any_model, on_ready=_announce)


def _stop_at_the_end(descriptor: int, stop: asyncio.Event) -> None:
    if not os.read(descriptor, 4096):
        asyncio.get_running_loop().remove_reader(descriptor)
        stop.set()


def _announce(base_url: str) -> None:
    sys.stdout.write(orjson.dumps({"base_url": base_url}).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
