"""Tells why a student is worse than its teacher, and what to change first. See conf/explain.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("explain")
