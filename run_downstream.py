"""Train and test a downstream task: `python run_downstream.py -u speechclip_plus -d ic`."""

import sys

from s3prl_speechclip.cli.downstream import main

if __name__ == "__main__":
    sys.exit(main())
