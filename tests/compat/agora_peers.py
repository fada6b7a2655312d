"""Agora's own package at both ends, run by the Python of its environment: a scripted model in place of a real one.

`receiver yes|no` serves agents that take to a document or not, and prints the port; `sender URL QUESTION...` asks each
question and prints what came of it. Every use of the model is a line in `model.txt`.
"""

# No annotations from the future: the package reads those of a task as the types that they are.
import json
import sys
from pathlib import Path
from typing import Any

import agora
from agora.common.core import Conversation
from agora.common.toolformers.base import Toolformer
from werkzeug.serving import make_server

RECEIVE = """
<IMPLEMENTATION>
import json

def reply(query):
    question = json.loads(query)
    return json.dumps({"answer": "routine: " + question["text"], "metadata": {"seen": question.get("context", {})}})
</IMPLEMENTATION>
"""
SEND = """
<IMPLEMENTATION>
import json

def send_query(task_data):
    reply = json.loads(send_to_server(json.dumps({"text": task_data["question"]})))
    return "routine: " + reply["answer"]
</IMPLEMENTATION>
"""


class Model(Toolformer):
    def __init__(self, takes_documents: str = "YES") -> None:
        self.takes_documents = takes_documents

    def new_conversation(self, prompt: str, tools: list[Any], category: str | None = None) -> Conversation:
        return Scripted(prompt, {tool.name: tool.func for tool in tools}, category or "", self.takes_documents)


class Scripted(Conversation):
    def __init__(self, prompt: str, tools: dict[str, Any], category: str, takes_documents: str) -> None:
        self.prompt = prompt
        self.tools = tools
        self.category = category
        self.takes_documents = takes_documents

    def __call__(self, message: str, print_output: bool = True) -> str:
        with Path("model.txt").open("a") as file:
            file.write(f"{self.category}\n")
        if self.category == "protocolChecking":
            return f"I thought about it: {self.takes_documents}"
        if self.category == "programming":
            return SEND if "send_query" in self.prompt else RECEIVE
        if self.category == "negotiation":
            _, found, document = message.partition("---\n")
            return f"<FINALPROTOCOL>{found}{document}</FINALPROTOCOL>" if found else "Let us agree on a protocol."
        return self.ask(message) if "send_query" in self.tools else self.answer(message)

    def ask(self, message: str) -> str:
        question = json.loads(message.rpartition("JSON data of the task:")[2])["question"]
        if "Protocol document:" not in message:
            answer = self.tools["send_query"](query=question)
        else:
            answer = json.loads(self.tools["send_query"](query=json.dumps({"text": question})))["answer"]
        self.tools["deliverStructuredOutput"](output=f"model: {answer}")
        return "Delivered."

    def answer(self, message: str) -> str:
        if message == "fail":
            raise RuntimeError("the model is away")
        if "The protocol is the following" not in self.prompt:
            return f"model: {message}"
        return json.dumps({"answer": f"model, by the document: {json.loads(message)['text']}"})


def serve(takes_documents: str) -> None:
    model = Model(takes_documents)
    receiver = agora.Receiver.make_default(model, storage_path="receiver.json", implementation_threshold=2)
    server = make_server("127.0.0.1", 0, agora.ReceiverServer(receiver).app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


def ask(url: str, questions: list[str]) -> None:
    sender = agora.Sender.make_default(
        Model(), storage_path="sender.json", protocol_threshold=99, negotiation_threshold=1, implementation_threshold=2
    )

    @sender.task()
    def ask(question: str) -> str:
        """Answer a question.

        Args:
            question: The question.

        Returns:
            The answer.
        """

    for question in questions:
        try:
            print(ask(question=question, target=url), flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "receiver":
        serve(arguments[0])
    else:
        ask(arguments[0], arguments[1:])
