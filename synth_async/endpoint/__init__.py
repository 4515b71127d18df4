"""Everything between us and a model: the client, rate limits, retries, the map of errors, and the embedded endpoint.

This is the only place where a wire format, a status code or a header is known. A 429 belongs to the limiter, a broken
connection to the retry policy; what leaves this room is a completion, or one of the errors in `synth_async.errors`.
"""
