// The SDK for JavaScript asks an agent: `a2a_js_client.cjs URL TEXT...` prints, for each wire and text, what the SDK's
// own reading of the stream comes to, and for a task also what the host has kept of it.
const { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory, RestTransportFactory } = require("@a2a-js/sdk/client");
const { InMemoryTaskStore, ResultManager, ServerCallContext } = require("@a2a-js/sdk/server");
const { Role } = require("@a2a-js/sdk");

const legacy = { legacyCompat: { enabled: true } };
const WIRES = [
  ["JSONRPC", "1.0", new JsonRpcTransportFactory()],
  ["HTTP+JSON", "1.0", new RestTransportFactory()],
  ["JSONRPC", "0.3", new JsonRpcTransportFactory(legacy)],
  ["HTTP+JSON", "0.3", new RestTransportFactory(legacy)],
];

const textsOf = (parts) => parts.map((part) => part.content.value);
const answerIn = (task) => task.artifacts.flatMap((artifact) => textsOf(artifact.parts));

async function shown(client, text) {
  const message = {
    messageId: crypto.randomUUID(), role: Role.ROLE_USER, parts: [{ content: { $case: "text", value: text } }],
    contextId: "", taskId: "", extensions: [], referenceTaskIds: [],
  };
  const results = new ResultManager(new InMemoryTaskStore(), new ServerCallContext());
  results.setContext(message);
  for await (const { payload } of client.sendMessageStream({ message, tenant: "" }))
    await results.processEvent({ kind: payload.$case, data: payload.value });
  const result = results.getFinalResult();
  if (!result.id) return [textsOf(result.parts)];
  return [answerIn(result), answerIn(await client.getTask({ id: result.id, tenant: "" }))];
}

async function main(url, ...texts) {
  const told = {};
  for (const [binding, version, transport] of WIRES) {
    const card = await new DefaultAgentCardResolver().resolve(url);
    card.supportedInterfaces = card.supportedInterfaces.filter(
      (one) => one.protocolBinding === binding && one.protocolVersion === version,
    );
    const client = await new ClientFactory({ transports: [transport] }).createFromAgentCard(card);
    const wire = (told[`${binding} ${client.protocolVersion}`] = {});
    for (const text of texts) wire[text] = await shown(client, text);
  }
  console.log(JSON.stringify(told));
}

main(...process.argv.slice(2));
