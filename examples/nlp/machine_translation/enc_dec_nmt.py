"""Trains a translation model on its own: a teacher, or the baseline of a student. See conf/aayn_base.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("train")
