"""What a job costs beside other workers: the same broker, cores, payload and rounds for everybody.

    python -m benchmarks.peers [--rounds 5] [--jobs 10000] [--only NAME] [--part PART] [--driver NAME] [--no-save]

`roster` says who is compared and how each is run; `programs` has what runs in the environment of each (`environments`).
`throughput` and `latency` are the two kinds of rounds, `growth` and `rest` are about our own worker. What is measured
stands in `figures` and `history`, which know no process and no server.
"""
