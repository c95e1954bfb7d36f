"""The jobs, one file each: the check of the configuration, and the job itself."""
