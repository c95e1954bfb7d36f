"""The processor's cores that this process may use, of which a container may have a quota."""

import os

from joblib import cpu_count

THREADS = "OMP_NUM_THREADS"
ARE_THREADS_GIVEN = THREADS in os.environ  # by the user, since `limit_threads` comes later


def limit_threads() -> None:
    """Keeps PyTorch and CTranslate2 to a container's quota. They would start a thread for each core of the machine."""
    if (cores := cpu_count()) < len(os.sched_getaffinity(0)):
        os.environ.setdefault(THREADS, str(cores))
