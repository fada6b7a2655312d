from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[4] / "src"
FOLDER = "streaming_queue/protocol_backend/grpc"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command in `agent.proto` writes."""
    text = (SOURCE / FOLDER / "agent.proto").read_text()
    command = re.search(r"^//   python (-m grpc_tools\.protoc .*?\.proto)$", text, re.DOTALL | re.MULTILINE)
    assert command is not None
    arguments = command[1].replace("\\\n//", "").split()
    written = tmp_path_factory.mktemp("stubs")
    arguments = [item.replace("_out=src", f"_out={written}") for item in arguments]
    subprocess.run([sys.executable, *arguments], cwd=SOURCE.parent, check=True, capture_output=True)
    return written / FOLDER


@pytest.mark.parametrize("name", ["agent_pb2.py", "agent_pb2.pyi", "agent_pb2_grpc.py"])
def test_the_stubs_are_those_of_the_proto(generated: Path, name: str) -> None:
    assert _without_versions(SOURCE / FOLDER / name) == _without_versions(generated / name)


def _without_versions(path: Path) -> str:
    """Another version of the compiler writes its own number."""
    text = re.sub(r"(Protobuf Python Version: |GRPC_GENERATED_VERSION = )\S+", r"\1", path.read_text())
    return re.sub(r"(Domain\.PUBLIC,)(\s+\d+,){3}", r"\1", text)
