"""Trains a teacher, or takes one, labels text, trains students, and prints how they compare. See conf/demo.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("compare")
