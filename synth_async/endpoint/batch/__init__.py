"""The Batch API behind the same `ask` as an online endpoint: half the price, an answer within a day.

    lines     one request as a line of an input file, one line of a result file as an answer or a failure
    states    what a server says of a batch, in the dialects of several vendors
    gather    which of the requests that wait go into the next file
    client    files and batches over the openai package
    record    a batch as the journal knows it, and what it is written with
    search    the batch of a creation that brought no reply
    courier   one batch from its file to its last answer
    service   `BatchEndpoint`: who waits for which line

A batch is journaled before anything is sent for it, so that a kill at any moment leaves enough to find it again.
Answers are matched by `custom_id` alone.
"""
