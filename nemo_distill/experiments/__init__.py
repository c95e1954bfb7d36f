"""Jobs made of jobs: comparisons and sweeps."""
