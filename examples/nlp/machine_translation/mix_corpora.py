"""Mixes real and pseudo-labelled text in given proportions. See conf/mix_corpora.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("mix")
