// The current request as code examples in curl and Python.

import { el } from "./dom.js";

/** Fill `root` with the examples. Returns a function that updates them for a request {name, url, values, keyed}. */
export function buildCalls(root) {
  const shown = [["curl", curl], ["Python", python]].map(([language, write]) => {
    const code = el("code");
    const copied = el("span", { class: "unseen", role: "status" });
    const button = el("button", { type: "button", class: "button small", "aria-label": `Copy the ${language} call` }, "Copy");
    button.addEventListener("click", () => copy(code, button, copied));
    const block = el("pre", { tabindex: "0", "aria-label": language }, code);
    root.append(el("div", { class: "call" }, el("div", { class: "call-head" }, el("h3", {}, language), button, copied), block));
    return (request) => (code.textContent = write(request));
  });
  return (request) => shown.forEach((show) => show(request));
}

const endpoint = () => new URL("v1/enhance", location.href).href;

function curl({ name, url, values, keyed }) {
  const fields = Object.entries(values).map(([key, value]) => `-F ${key}=${value}`);
  const picture = url ? `-F ${quoted(`image_url=${url}`)}` : `-F ${quoted(`image=@"${name}"`)}`;
  const key = keyed ? ["-H \"Authorization: Bearer $GPEN_API_KEY\""] : [];
  return ["curl --fail-with-body", picture, ...fields, ...key, endpoint(), `-o ${quoted(resultName(name, values))}`].join(" \\\n  ");
}

function python({ name, url, values, keyed }) {
  const fields = url ? { image_url: url, ...values } : values;
  const pairs = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}: ${literal(value)}`);
  return [
    ...(keyed ? ["import os"] : []),
    "from pathlib import Path",
    "",
    "import httpx",
    "",
    "answer = httpx.post(",
    `    ${JSON.stringify(endpoint())},`,
    ...(url ? [] : [`    files={"image": Path(${JSON.stringify(name)}).read_bytes()},`]),
    ...(pairs.length ? [`    data={${pairs.join(", ")}},`] : []),
    ...(keyed ? ['    headers={"Authorization": f"Bearer {os.environ[\'GPEN_API_KEY\']}"},'] : []),
    "    timeout=120,",
    ")",
    "answer.raise_for_status()",
    `Path(${JSON.stringify(resultName(name, values))}).write_bytes(answer.content)`,
  ].join("\n");
}

const EXTENSIONS = { jpeg: "jpg", jpg: "jpg", jfif: "jpg", webp: "webp" };

/** The requested format, else the photo's own if the gateway can write it, else png. */
function resultName(name, values) {
  return `result.${EXTENSIONS[values.format ?? name.split(".").pop().toLowerCase()] ?? "png"}`;
}

const literal = (value) => (value === true ? "True" : value === false ? "False" : JSON.stringify(value));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

async function copy(code, button, copied) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = copied.textContent = "Copied";
  } catch {
    // Only secure pages may write to the clipboard: select the text for copying by hand.
    getSelection().selectAllChildren(code);
    button.textContent = copied.textContent = "Selected";
  }
  setTimeout(() => {
    button.textContent = "Copy";
    copied.textContent = "";
  }, 2000);
}
