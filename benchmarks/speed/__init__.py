"""What a call costs in the client, measured side by side with other clients against a server of canned answers.

    scripts/bench                     set-up, all clients, all scenarios, docs/performance.md
    scripts/bench --short             two minutes' check against targets.toml, for CI

    answers.py    the canned bytes, and what a right client reads in them
    server.py     serves them, in a process of its own
    clients/      one file a client, all with the same face (clients/__init__.py)
    worker.py     one client in one process, doing as it is told (tasks.py)
    catalogue.py  which clients and scenarios there are
    cold.py       starts a program for one answer; looks at what is installed
    run.py        lets the clients take turns, and keeps what they measured (figures.py) in results.json
    gate.py       compares a short run with targets.toml (targets.py)
    report.py     results.json to docs/performance.md; plots.py draws

Only ratios within one run mean something. They are taken between figures of the same round, and then their median, so
that a machine that is busy for a while does not decide. CPU time is user and system time of the client's process, all
threads; waiting costs none.
"""
