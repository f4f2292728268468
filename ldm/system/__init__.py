"""The machine: whole files, locks, processes, signals, terminals, threads."""
