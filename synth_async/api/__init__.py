"""The Python interface. Its names are those of the package itself: `synth_async.run`, `generate`, `Deduplicator` ...

* `running`: a run from a path, a mapping or a `Config`, with the user's own functions and topics
* `winding_down`: what a cancellation does to it
* `journal`: the journal of a run folder as typed records
* `deduplicator`: near-duplicates among any texts
"""
