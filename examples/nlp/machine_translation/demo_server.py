"""Serves a page to try models on. See conf/demo_server.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("serve")
