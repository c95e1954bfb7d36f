"""One file a job: what its configuration must satisfy, and the job itself."""
