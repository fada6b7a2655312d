"""`python -m streaming_queue.cli`."""

from streaming_queue.cli import main

main()
