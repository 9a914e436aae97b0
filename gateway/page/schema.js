// Reads the parameters of POST /v1/enhance from the gateway's OpenAPI document.

const PATH = "/v1/enhance";

/**
 * Returns `parameters`, `imageUrl` (whether the gateway accepts `image_url`) and `keyed` (whether it requires
 * an API key).
 */
export async function readSchema() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  const operation = (await answer.json()).paths[PATH].post;
  const { image, image_url, ...rest } = operation.requestBody.content["multipart/form-data"].schema.properties;
  return {
    parameters: Object.entries(rest).map(([name, schema]) => toParameter(name, schema)),
    imageUrl: image_url !== undefined,
    keyed: (operation.security ?? []).length > 0,
  };
}

/** Convert a JSON schema to the description of a control. */
function toParameter(name, schema) {
  const ways = schema.anyOf ?? [schema];
  const choices = ways.flatMap((way) => way.enum ?? (way.const === undefined ? [] : [way.const]));
  const number = ways.find((way) => way.type === "number" || way.type === "integer");
  return {
    name,
    description: schema.description ?? "",
    default: schema.default,
    kind: ways.some((way) => way.type === "boolean") ? "switch" : number ? "number" : choices.length ? "choice" : "text",
    choices,
    minimum: number?.minimum,
    maximum: number?.maximum,
    step: number?.type === "integer" ? 1 : "any",
  };
}
