from __future__ import annotations

from streaming_queue.core.crawl import LONGEST_S, PAUSE_S, Crawl


def test_whoever_does_not_crawl_is_left_in_peace() -> None:
    crawl = Crawl()
    assert crawl.takes("a", 100)
    assert crawl.asked("a") is None
    assert not crawl.end("a")


def test_one_question_at_a_time_and_a_rest_for_all_who_crawl() -> None:
    crawl = Crawl()
    assert crawl.begin("a")
    assert not crawl.begin("b")
    assert not crawl.begin("a")
    assert crawl.takes("a", 0)
    assert not crawl.takes("a", 1)
    assert crawl.asked("a") == 2 * PAUSE_S
    assert not crawl.takes("b", 0)
    assert crawl.takes("c", 7)
    crawl.rested()
    assert crawl.takes("b", 0)


def test_two_that_were_given_a_question_in_one_moment_make_one_rest() -> None:
    crawl = Crawl()
    crawl.begin("a")
    crawl.begin("b")
    assert [crawl.asked("a"), crawl.asked("b")] == [2 * PAUSE_S, None]


def test_an_answer_ends_it() -> None:
    crawl = Crawl()
    crawl.begin("a")
    crawl.asked("a")
    assert crawl.end("a")
    assert crawl.takes("a", 5)
    assert crawl.begin("a"), "it is the first again"
    assert not crawl.takes("a", 0), "the rest is not over for that"


def test_a_large_pool_rests_two_seconds_at_the_most() -> None:
    crawl = Crawl()
    for number in range(1000):
        crawl.begin(f"w{number}")
    assert crawl.asked("w0") == LONGEST_S
