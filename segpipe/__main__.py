"""Entry point of `python -m segpipe`, the same as the command `segpipe`."""

import sys

from segpipe.cli.main import run_process

if __name__ == "__main__":
    sys.exit(run_process(program=("python", "-m", "segpipe")))
