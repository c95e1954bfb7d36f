"""Scores, compares and times models on test sets. See conf/evaluate.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("evaluate")
