"""Entry point of the console script: an interrupt while the rest is still being imported is no traceback either."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from synth_async import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("synth-async: interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
