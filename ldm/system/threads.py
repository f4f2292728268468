"""The waiting policy of OpenMP threads, which programs set before torch is imported.

By default, a thread that has finished its part spins for several milliseconds. If another program uses the cores, the thread that it
waits for may not even be running, and a training step takes up to twenty times as long; sleeping at once costs up to a third on an
idle machine. The spin count is a compromise: on two cores limited to AVX2, a demo's step took 1.00 of the default's time, and beside
a busy loop 1.5 times that of a single thread (default: 2 to 11 times). `benchmarks/waiting.py` measures both.
"""

import os

WAITING = {"GOMP_SPINCOUNT": "5000"}


def set_thread_waiting() -> None:
    """Set the waiting policy of the OpenMP runtime that torch will load, unless the user has set one.

    No effect if torch is already loaded, or with an OpenMP other than GNU's.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(WAITING)
