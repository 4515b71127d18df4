"""Measured throughput against rate limits: of the client alone or of a whole run, simulated or against a real endpoint.

    latency      a histogram of bounded memory
    measures     seconds of traffic -> utilisation, ramp
    recorder     listens to the exchanges of one endpoint
    plan         what is measured, and what it would send
    traffic      drives the client or the run
    servers      the embedded endpoint of a measurement, and the log of a simulated one
    results      what was found, as frozen records
    text, chart  as a table, as SVG or HTML

The words are those of the field's benchmarks (NVIDIA genai-perf, vLLM): request throughput, token throughput, latency
by percentile.
"""
