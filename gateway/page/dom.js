// DOM helpers.

/** Create an element. Attributes named `on…` are listeners; true gives an empty attribute, false or null none. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Split text into strings and <code> elements, which are between backticks. */
export function rich(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/** The label of a parameter: `skin_protect` becomes "Skin protect". */
export function title(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/** A number rounded to two decimals, as text. */
export function brief(value) {
  return typeof value === "number" ? String(Math.round(value * 100) / 100) : String(value);
}
