"""Everything that touches the disk: the journal, the run folder and JSON Lines files.

The journal is the truth: every paid answer is in it before anything looks at it. All other files of a run can be
deleted and rebuilt from it for free; each module says what survives a kill, a power loss and a full disk.
"""
