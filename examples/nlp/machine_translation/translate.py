"""Translates a file or standard input, line by line. See conf/translate.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("translate")
