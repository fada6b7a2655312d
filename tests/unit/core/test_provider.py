from __future__ import annotations

from streaming_queue.config import Config, resume_config
from streaming_queue.core.provider import resolve_provider


def settled(settings):
    config = Config.of(settings)
    written = config.public()
    return resolve_provider(config, written), written


def test_the_one_that_answers_is_named_and_chosen_again():
    provider, written = settled({})
    assert (provider["name"], provider["mock"]) == ("mock", True)
    assert written["core"]["type"] == "mock"
    assert settled({"workers": [{}, {"protocol": "http"}]})[0] == provider


def test_whoever_answers_elsewhere_is_not_known_here():
    assert settled({"qa": {"worker": {"endpoints": ["http://a"]}}})[0] is None
    provider, written = settled({"workers": [{"endpoints": ["http://a"], "core": {"name": "m"}}, {}]})
    assert provider is None
    assert written["core"]["type"] == "mock"
    assert written["workers"][0]["core"] == {"name": "m"}


def test_several_are_chosen_again_each_by_its_group():
    provider, written = settled({"workers": [{}, {"core": {"port": 8000, "name": "m"}}]})
    assert provider is None
    assert written["core"]["type"] == "mock"
    again = resume_config(written, "run", environ={"OPENAI_API_KEY": "k"})
    first, second = again.roster.values()
    assert (first.core.type, second.core.type, second.core.openai_api_key) == ("mock", "openai", None)
