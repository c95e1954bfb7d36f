"""Distils a student from a teacher's .nemo. See conf/aayn_base_distill.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("distill")
