"""From a domain and a config file to a fine-tuning dataset, unattended, at the speed the endpoint's rate limits allow.

The command line is `synth-async`; `synth_async.pipeline` is the run behind it. This module loads nothing, so that
`synth-async --help` answers at once.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
