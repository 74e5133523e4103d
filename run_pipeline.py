"""Find, crop and classify the lesion in one photograph, or in a folder of them: `segpipe predict`. Not a medical device."""

import sys

from segpipe.cli.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("predict"))
