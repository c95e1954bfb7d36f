"""Writes a model in a format that is served without NeMo. See conf/export.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("export")
