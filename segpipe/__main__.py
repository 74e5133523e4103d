"""Entry point of `python -m segpipe`, the same as the command `segpipe`."""

import sys

from segpipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main(program=("python", "-m", "segpipe")))
