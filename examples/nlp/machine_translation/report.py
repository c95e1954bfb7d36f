"""Gathers trainings and an evaluation into a page. See conf/report.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("report")
