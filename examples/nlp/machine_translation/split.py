"""Holds validation and test pairs out of parallel text. See conf/split.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("split")
