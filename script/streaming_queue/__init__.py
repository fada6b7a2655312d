"""The guide's address of this package: `python -m script.streaming_queue.runner.run_<proto>` from a checkout."""

import sys

import streaming_queue

sys.modules[__name__] = streaming_queue
