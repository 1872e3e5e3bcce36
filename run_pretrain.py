"""Pretrain a SpeechCLIP model: `python run_pretrain.py -u speechclip_hybrid`."""

import sys

from s3prl_speechclip.cli.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
