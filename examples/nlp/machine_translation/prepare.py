"""Trains tokenizers and writes tarred data, before a training. See conf/prepare.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("prepare")
