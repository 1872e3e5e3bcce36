"""Measure a trained model: `python run_benchmark.py retrieval -u speechclip_hybrid`."""

import sys

from s3prl_speechclip.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
