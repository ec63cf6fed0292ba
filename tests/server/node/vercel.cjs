// Vercel's AI SDK against a server: `node vercel.cjs URL MODEL` prints what it got as one JSON object.
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { createOpenAI } = require("@ai-sdk/openai");
const { generateObject, generateText, streamText, embedMany, stepCountIs, tool } = require("ai");
const { z } = require("zod");

const [baseURL, modelId] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "verbatim", baseURL, apiKey: "none", includeUsage: true, supportsStructuredOutputs: true,
});
const model = provider(modelId);
const common = { model, temperature: 0, maxRetries: 0 };
const tools = { get_weather: tool({ description: "The weather", inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }) }) };
const told = { get_weather: tool({ ...tools.get_weather, execute: async () => "Sunny." }) };

async function main() {
  const found = {};
  found.whole = (await generateText({ ...common, prompt: "Hello", maxOutputTokens: 12 })).text;
  const stream = streamText({ ...common, prompt: "Hello", maxOutputTokens: 12 });
  found.streamed = "";
  for await (const text of stream.textStream) found.streamed += text;
  found.usage = (await stream.usage).outputTokens;
  const forced = { ...common, prompt: "Weather?", tools, toolChoice: "required", maxOutputTokens: 300 };
  found.call = (await generateText(forced)).toolCalls[0];
  found.call_streamed = (await streamText(forced).toolCalls)[0];
  const schema = z.object({ name: z.enum(["Ada", "Bo"]), is_old: z.boolean() });
  found.parsed = (await generateObject({ ...common, prompt: "Who?", schema, maxOutputTokens: 300 })).object;
  const { embeddings } = await embedMany({ model: provider.textEmbeddingModel(modelId), values: ["a", "b"] });
  found.dimensions = embeddings.map((vector) => vector.length);
  const responses = { model: createOpenAI({ baseURL, apiKey: "none" }).responses(modelId), temperature: 0, maxRetries: 0 };
  const first = await generateText({ ...responses, prompt: "Hello" });
  const history = [{ role: "user", content: "Hello" }, ...first.response.messages, { role: "user", content: "And now?" }];
  const second = await generateText({ ...responses, messages: history, maxOutputTokens: 60 });
  found.responses = [first.text, second.text];
  found.items = second.request.body.input.map((item) => item.type ?? item.role);
  found.told = (await generateText({ ...responses, prompt: "Weather in Paris?", tools: told, stopWhen: stepCountIs(2) })).text;
  try {
    await generateText({ ...common, prompt: "Hello", temperature: 101 });
  } catch (error) {
    found.error = [error.statusCode, error.message];
  }
  console.log(JSON.stringify(found));
}

main();
