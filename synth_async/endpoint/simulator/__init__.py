"""The embedded endpoint: an OpenAI-compatible server on loopback whose model writes by rule, not by thought.

It runs in its own process, so that its CPU and memory never pass for the client's. What it says is simulated and
says so: its one model is called `simulator`. Import from the modules: `server` (`serve`), `process`
(`simulator_process`, `start_simulator`).

    chat      request body -> ChatBody, or the 400 that OpenAI would send
    tokens    what usage counts
    limits    requests and tokens per minute
    faults    what goes wrong with which request
    prompts, verdict_prompt    what kind of answer the messages ask for
    lexicon*, phrases          the words
    seeds, dialogue, weakness, scoring, schemas    the texts, drawn with `draws`
    batches   files and batches, and what becomes of each
    answers   ChatBody -> Answer, a function of the seed and the request body
    ledger    what was asked, answered and charged
    server, batch_http, process, __main__    HTTP, the child process, the command line
    in_process                   chat without HTTP, for clocks that jump
"""
