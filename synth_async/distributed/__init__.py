"""A run on many processes or nodes, by Ray: one driver decides, workers ask.

    wire        what driver and workers say to each other: questions, replies, failures
    partition   which worker asks for a key
    worker      asks what it is handed, and journals each answer before it hands it on
    fleet       the driver's side: blocks of questions out, replies in; a worker that is lost
    endpoint    an endpoint whose exchanges others carry out
    cluster     Ray itself: the only room that imports it

The driver is the ordinary run. It holds the folder's lock, the plan, the limits, the budget, the index of what has been
accepted, and makes every decision in one order. So limits, pauses and what is learnt of an endpoint are the cluster's,
a permit travels with its request instead of being leased, and a near-duplicate is found whichever worker's answer it
is. What the workers take off it is the exchange with the endpoint, which is the larger part of a run's CPU.

Answers are journaled where they arrive: in segments of the worker's own, in the run folder, where a later run finds
them whichever way it runs. Where a worker's node does not have the folder, the driver journals answers as they come.
"""
