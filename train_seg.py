"""Train the segmenter and score it on the test split: `segpipe train-seg`. Not a medical device."""

import sys

from segpipe.cli.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("train-seg"))
