"""What a person sees: the progress of a run, its metrics, and the HTML report.

Everything here listens or reads. The run neither waits for it nor depends on it.
"""
