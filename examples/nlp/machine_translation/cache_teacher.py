"""Runs a teacher over the training pairs once, for trainings that need it no more. See conf/cache_teacher.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("cache")
