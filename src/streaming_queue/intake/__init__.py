"""The source of questions: a file, a pipe or the bundled set, read as a stream."""

from streaming_queue.intake.identity import first_difference
from streaming_queue.intake.parser import Problem
from streaming_queue.intake.remarks import Remark
from streaming_queue.intake.source import Batch, Source, bundled_questions, is_pipe, open_source

__all__ = ["Batch", "Problem", "Remark", "Source", "bundled_questions", "first_difference", "is_pipe", "open_source"]
