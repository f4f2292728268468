"""The operating system: atomic files, locks, processes, signals, terminals, threads."""
