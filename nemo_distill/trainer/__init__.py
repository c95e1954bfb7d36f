"""Lightning's Trainer made safe: whole checkpoints, exact resuming, finite numbers, progress in logs."""
