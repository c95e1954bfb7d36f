"""Says which students are small enough, before any is trained. See conf/size_student.yaml."""

from nemo_distill.commands.jobs import start_job

if __name__ == "__main__":
    start_job("size")
