"""Train the classifier and score it end to end: `segpipe train-cls`. Not a medical device."""

import sys

from segpipe.cli.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("train-cls"))
