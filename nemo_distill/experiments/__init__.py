"""Jobs that run other jobs: comparisons and sweeps."""
