"""`python -m nemo_distill` is the command `nemo-distill`."""

from nemo_distill.commands.jobs import main

if __name__ == "__main__":
    main()
