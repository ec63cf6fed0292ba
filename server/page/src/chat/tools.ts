/* Tools between the API's JSON and the rows of a form. */
export interface Parameter {
  name: string;
  type: string;
  description: string;
  isRequired: boolean;
}

export interface Tool {
  name: string;
  description: string;
  /* Rows, or null where the schema says more than rows can hold: that is edited as JSON. */
  parameters: Parameter[] | null;
  schema: object;
}

export const TYPES = ["string", "number", "integer", "boolean"];
const SIMPLE = new Set(["type", "description"]);

export const WEATHER: Tool = {
  name: "get_weather", description: "Get the weather of a place.", schema: {},
  parameters: [{ name: "location", type: "string", description: "A city", isRequired: true }],
};

function rows(schema: any): Parameter[] | null {
  const properties = Object.entries<any>(schema?.properties ?? {});
  const isFlat = Object.keys(schema ?? {}).every((key) => ["type", "properties", "required"].includes(key));
  const isSimple = properties.every(([, value]) => TYPES.includes(value?.type) && Object.keys(value).every((key) => SIMPLE.has(key)));
  if (!isFlat || !isSimple) return null;
  return properties.map(([name, value]) => ({
    name, type: value.type, description: value.description ?? "", isRequired: (schema.required ?? []).includes(name),
  }));
}

/* The tools of a JSON text, or null if it holds anything else. */
export function readTools(text: string): Tool[] | null {
  if (!text.trim()) return [];
  try {
    const list = JSON.parse(text);
    return list.map(({ type, function: { name, description = "", parameters } }: any) => {
      if (type !== "function" || typeof name !== "string") throw new Error();
      return { name, description, parameters: rows(parameters), schema: parameters ?? {} };
    });
  } catch {
    return null;
  }
}

function schemaOf(tool: Tool): object {
  if (tool.parameters === null) return tool.schema;
  const named = tool.parameters.filter((row) => row.name);
  const properties = named.map((row) => [row.name, { type: row.type, ...(row.description ? { description: row.description } : {}) }]);
  return { type: "object", properties: Object.fromEntries(properties), required: named.filter((row) => row.isRequired).map((row) => row.name) };
}

export function writeTools(tools: Tool[]): string {
  if (!tools.length) return "";
  const list = tools.map((tool) => ({
    type: "function", function: { name: tool.name, ...(tool.description ? { description: tool.description } : {}), parameters: schemaOf(tool) },
  }));
  return JSON.stringify(list, null, 2);
}
