"""Find, crop and classify skin lesions in images: `segpipe predict`. Not a medical device."""

import sys

from segpipe.cli.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("predict"))
