"""The torture suite: real servers and real worker processes that are hurt, and what must be true all the same.

    python -m torture list
    python -m torture run T04 --seed 7 --jobs 10000 --report t04.json
    python -m torture run T04 --short --sabotage transient-status
    python -m torture table t04.json

A scenario plays with workers, servers and faults (`play`), the evidence of the run is collected (`collecting`) and
judged by pure functions (`invariants`). Each scenario names sabotages of the worker that must break an invariant, so
that it is known to bite. Nothing of it is in the worker: crash points and sabotages are put around its functions from
outside, in the processes of the workers (`crash_points`, `sabotages`).
"""
