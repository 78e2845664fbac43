"""Whole workers in virtual time: what no real network and disk can be made to do twice, decided by one number.

    python -m torture run T24 --seed 1 --jobs 10000
    python -m torture run T24 --seed 17 --jobs 1          one seed again, with its trace if it fails

A seed is a program (`plan`): hosts, jobs with fates (`fates`), a script of faults and traps. The world (`world`) plays
it with real workers on the embedded broker (`lives`, `jobs`), on connections (`cable`) and disks (`disks`) that fail as
they are told, under Trio's mock clock with its scheduler seeded (`determinism`). What happened is a list of events
(`trace`); what must be true of it are pure functions (`history`, `checks`). Bugs are planted (`planted`) to see that
they would be found.
"""
