from __future__ import annotations

from synth_async.cli import main

if __name__ == "__main__":
    main()
