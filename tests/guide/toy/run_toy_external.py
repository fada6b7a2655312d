# script/streaming_queue/runner/run_toy_external.py, the guide's 3.4 in situation B: agents that run elsewhere
from __future__ import annotations
import asyncio, time
from typing import Any, Dict, List, Optional
from .runner_base import RunnerBase
from ..core.network_base import NetworkBase
from ..protocol_backend.toy.comm import ToyCommBackend
from ..protocol_backend.toy.coordinator import ToyCoordinatorExecutor
from ..protocol_backend.toy.worker import ToyWorkerExecutor

class ToyRunner(RunnerBase):
    def __init__(self, config_path: str = "config.yaml"):
        super().__init__(config_path)
        self._backend: ToyCommBackend | None = None

    async def create_network(self) -> NetworkBase:
        self._backend = ToyCommBackend()
        return NetworkBase(comm_backend=self._backend)

    async def setup_agents(self) -> List[str]:
        assert self._backend is not None
        await self.network.register_agent("Coordinator-1", "http://127.0.0.1:9998")

        worker_ids = []
        for i in range(int(self.config["qa"]["worker"]["count"])):
            wid = f"Worker-{i+1}"
            await self.network.register_agent(wid, f"http://127.0.0.1:{10001+i}")
            worker_ids.append(wid)

        self.network.setup_star_topology("Coordinator-1")
        return worker_ids

    async def send_command_to_coordinator(self, command: str) -> Optional[Dict[str, Any]]:
        resp = await self.network.route_message("Runner", "Coordinator-1", {"text": command})
        return {"result": (resp or {}).get("text") or "OK"}

async def _main():
    runner = ToyRunner()
    await runner.run()

if __name__ == "__main__":
    asyncio.run(_main())
