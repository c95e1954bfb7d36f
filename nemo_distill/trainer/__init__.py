"""Lightning callbacks for safe checkpoints, exact resuming, finite numbers and progress in logs."""
