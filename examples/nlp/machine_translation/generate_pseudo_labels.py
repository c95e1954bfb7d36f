"""Translates text with a teacher and writes the pairs that are worth learning from. See its config in conf/."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("label")
