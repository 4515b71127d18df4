"""One room per stage, pure decisions: topics, generation, filters, judging, dedup and coverage.

Nothing here awaits, sends a request or touches the disk: a stage takes records and returns records, a `Drop` with its
reason among them. The pipeline does the waiting.
"""
