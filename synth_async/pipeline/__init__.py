"""The pipeline: a run from its config to its folder, and the graph of workers in between."""
