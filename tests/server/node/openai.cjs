// openai-node against a server: `node openai.cjs URL MODEL` prints what it got as one JSON object.
const { OpenAI } = require("openai");
const { z } = require("zod");
const { zodResponseFormat } = require("openai/helpers/zod");

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const common = { model, temperature: 0 };
const messages = [{ role: "user", content: "Hello" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const Person = z.object({ name: z.enum(["Ada", "Bo"]), is_old: z.boolean() });

async function main() {
  const found = {};
  const whole = await client.chat.completions.create({ ...common, messages, max_tokens: 12 });
  found.whole = whole.choices[0].message.content;
  found.streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...common, messages, max_tokens: 12, stream: true })) {
    found.streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  const forced = { ...common, messages, tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 300 };
  const runner = client.chat.completions.stream(forced);
  found.call = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0].function;
  const format = zodResponseFormat(Person, "person");
  const parsed = await client.chat.completions.parse({ ...common, messages, response_format: format });
  found.parsed = parsed.choices[0].message.parsed;
  const vectors = await client.embeddings.create({ model, input: ["a", "b"] });
  found.dimensions = vectors.data.map((item) => item.embedding.length);
  const response = await client.responses.create({ ...common, input: "Hello", max_output_tokens: 400 });
  found.response = response.output_text;
  const events = client.responses.stream({ ...common, input: "Hello", max_output_tokens: 400 });
  found.response_streamed = (await events.finalResponse()).output_text;
  try {
    await client.chat.completions.create({ ...common, messages, n: 0 });
  } catch (error) {
    found.error = [error.status, error.param, error.code];
  }
  console.log(JSON.stringify(found));
}

main();
