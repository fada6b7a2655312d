"""The rule that gives ids to questions, for every engine, without a look-up per question."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from streaming_queue.errors import QueueError, QueueFullError
from streaming_queue.messages import MAX_QUESTION_BYTES, PutReport, Question, is_too_long
from streaming_queue.queue.base import candidate_ids

Lookup = Callable[[Sequence[str]], Mapping[str, str]]
"""Returns the taken ids among the given ids, each with the text of its question."""

FAMILIES = 256
MOST_AHEAD = 256


@dataclass(slots=True)
class Naming:
    """A named batch: `new` (id, question) in order, the number of `known` ones, `renamed` (stated id, given id)."""

    new: list[tuple[str, Question]] = field(default_factory=list)
    known: int = 0
    renamed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def report(self) -> PutReport:
        """The report of a `put` that stored the new questions."""
        return PutReport(len(self.new), self.known, tuple(self.renamed))


class _Family:
    """The candidates of one stem: taken ones by the digest of their text, and free ones that were looked up."""

    __slots__ = ("_ahead", "_candidates", "_step", "by_text")

    def __init__(self, question: Question) -> None:
        self._candidates: Iterator[str] = iter(candidate_ids(question))
        self._ahead: deque[tuple[str, str | None]] = deque()
        self._step = 2
        self.by_text: set[bytes] = set()

    def walk(self, lookup: Lookup) -> str:
        """Pass the taken candidates. Return the first free one, and keep it."""
        while True:
            while self._ahead:
                candidate, text = self._ahead[0]
                if text is None:
                    return candidate
                self.by_text.add(_digest(text))
                self._ahead.popleft()
            ids = list(islice(self._candidates, self._step))
            self._step = min(self._step * 2, MOST_AHEAD)
            taken = lookup(ids)
            self._ahead.extend((candidate, taken.get(candidate)) for candidate in ids)

    def take(self, text: str) -> None:
        """Give the first free candidate to a question with this text."""
        self._ahead.popleft()
        self.by_text.add(_digest(text))


class Namer:
    """Names batches as `WorkQueue.put` promises. `lookup` reads the store; `max_open` limits its open questions.

    The namer remembers a bounded number of stems that had a collision, so that ten thousand questions with the same
    id do not each walk all candidates. Call `forget` after a deletion, and after a batch that was named but not stored.
    """

    def __init__(self, lookup: Lookup, max_open: int | None) -> None:
        self._lookup = lookup
        self._max_open = max_open
        self._families: OrderedDict[str, _Family] = OrderedDict()

    def forget(self) -> None:
        """Forget the remembered stems."""
        self._families.clear()

    def name(self, questions: Sequence[Question], held: int) -> Naming:
        """Give each new question an id. The store holds `held` open questions.

        Raises:
            QueueError: a text is not valid Unicode, or a question is too long.
            QueueFullError: the new questions exceed the limit.
        """
        for question in questions:
            _check(question)
        stems = [next(iter(candidate_ids(question))) for question in questions]
        naming = Naming()
        taken = dict(self._lookup(list(dict.fromkeys(stems))))
        fresh: dict[str, str] = {}

        def lookup(ids: Sequence[str]) -> Mapping[str, str]:
            return {**self._lookup(ids), **{id_: fresh[id_] for id_ in ids if id_ in fresh}}

        for stem, question in zip(stems, questions, strict=True):
            holder = taken.get(stem)
            if holder is None:
                given = stem
            elif question.id is not None and holder == question.text:
                naming.known += 1
                continue
            else:
                family = self._family(stem, question)
                given = family.walk(lookup)
                if question.id is not None:
                    if _digest(question.text) in family.by_text:
                        naming.known += 1
                        continue
                    naming.renamed.append((question.id, given))
                family.take(question.text)
            naming.new.append((given, question))
            taken[given] = fresh[given] = question.text
            parent, mark, _ = given.rpartition("#")
            if mark and parent != stem:
                self._families.pop(parent, None)
        if naming.new and self._max_open is not None and held + len(naming.new) > self._max_open:
            self.forget()
            raise QueueFullError(
                f"the queue holds {held} open questions and takes at most {self._max_open}; "
                f"{len(naming.new)} more do not fit"
            )
        return naming

    def _family(self, stem: str, question: Question) -> _Family:
        family = self._families.get(stem)
        if family is None:
            family = self._families[stem] = _Family(question)
            if len(self._families) > FAMILIES:
                self._families.popitem(last=False)
        else:
            self._families.move_to_end(stem)
        return family


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _check(question: Question) -> None:
    for what, text in (("text", question.text), ("id", question.id), ("reference", question.reference)):
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise QueueError(
                    f"question {question.id!r}: its {what} is not valid Unicode at position {error.start}; "
                    "repair or skip it, nothing of its batch was stored"
                ) from None
    if is_too_long(question.text):
        raise QueueError(
            f"question {question.id!r} is over {MAX_QUESTION_BYTES:,} bytes as JSON, which not every protocol carries; "
            "shorten or skip it, nothing of its batch was stored"
        )
