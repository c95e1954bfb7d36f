"""Writes a model's card. See conf/model_card.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("card")
