// A form generated from the parameters. Parameters that are in no group are added at the end.

import { brief, el, rich, title } from "./dom.js";

const GROUPS = [
  ["Essentials", true, ["output", "strength", "mode", "skin_protect", "framing"]],
  ["Adjustments", false, ["denoise", "sharpen", "brightness", "contrast", "detail_enhance"]],
  ["Light", false, ["clahe", "exposure"]],
  ["Model and faces", false, ["model", "task", "faces"]],
  ["File", false, ["format", "quality", "upscale", "keep_metadata"]],
];
const REST = "Advanced";
// Maximum number of choices that fit in one row.
const MAX_RADIOS = 3;

/** Fill `root` with a control for each parameter. Returns `{values, reset, markInvalid}`. */
export function buildForm(root, parameters) {
  const controls = new Map(parameters.map((parameter) => [parameter.name, createControl(parameter)]));
  const named = new Set(GROUPS.flatMap(([, , names]) => names));
  const rest = parameters.map(({ name }) => name).filter((name) => !named.has(name));
  for (const [heading, open, names] of [...GROUPS, [REST, false, rest]]) {
    const present = names.filter((name) => controls.has(name)).map((name) => controls.get(name).element);
    if (present.length) root.append(el("details", { class: "group", open }, el("summary", {}, heading), ...present));
  }
  return {
    /** The values that differ from the defaults. */
    values() {
      const changed = {};
      for (const { name, default: usual } of parameters) {
        const value = controls.get(name).read();
        if (value !== undefined && value !== usual) changed[name] = value;
      }
      return changed;
    },
    reset: () => controls.forEach((one) => one.reset()),
    /** Mark the parameters with these names as invalid, and all others as valid. */
    markInvalid(names) {
      for (const [name, { element }] of controls) {
        const wrong = names.includes(name);
        element.classList.toggle("wrong", wrong);
        for (const input of element.querySelectorAll("input, select")) {
          if (wrong) input.setAttribute("aria-invalid", "true");
          else input.removeAttribute("aria-invalid");
        }
        if (wrong) element.closest("details.group").open = true;
      }
    },
  };
}

function createControl(parameter) {
  if (parameter.kind === "switch") return createSwitch(parameter);
  if (parameter.kind === "number") return parameter.maximum === undefined || parameter.default === undefined ? createField(parameter) : createSlider(parameter);
  if (parameter.kind === "choice") {
    const radios = parameter.default !== undefined && parameter.choices.length <= MAX_RADIOS;
    return radios ? createRadios(parameter) : createSelect(parameter);
  }
  return createField(parameter);
}

const idOf = ({ name }) => `parameter-${name}`;
const hintOf = ({ name }) => `hint-${name}`;

function hint(parameter) {
  if (!parameter.description) return null;
  return el(
    "details",
    { class: "hint" },
    el("summary", { "aria-label": `About ${title(parameter.name)}` }, "?"),
    el("p", { id: hintOf(parameter) }, ...rich(parameter.description)),
  );
}

function row(parameter, kind, label, ...inputs) {
  return el("div", { class: `row ${kind}`, "data-parameter": parameter.name }, label, hint(parameter), ...inputs);
}

function label(parameter) {
  return el("label", { for: idOf(parameter) }, title(parameter.name));
}

function described(parameter) {
  return { id: idOf(parameter), "aria-describedby": parameter.description ? hintOf(parameter) : null };
}

function createSwitch(parameter) {
  const input = el("input", { type: "checkbox", role: "switch", ...described(parameter), checked: parameter.default });
  return {
    element: row(parameter, "switch", label(parameter), input),
    read: () => input.checked,
    reset: () => (input.checked = parameter.default),
  };
}

function createRadios(parameter) {
  const inputs = parameter.choices.map((choice) =>
    el("input", { type: "radio", name: idOf(parameter), value: choice, checked: choice === parameter.default }),
  );
  const options = inputs.map((input) => el("label", {}, input, el("span", {}, title(input.value))));
  const group = el(
    "div",
    { class: "segments", role: "radiogroup", "aria-label": title(parameter.name), ...described(parameter) },
    ...options,
  );
  return {
    element: row(parameter, "choice", el("span", { class: "label", "aria-hidden": "true" }, title(parameter.name)), group),
    read: () => inputs.find((input) => input.checked)?.value,
    reset: () => inputs.forEach((input) => (input.checked = input.value === parameter.default)),
  };
}

function createSelect(parameter) {
  const automatic = parameter.default === undefined ? [el("option", { value: "" }, "Automatic")] : [];
  const options = parameter.choices.map((choice) =>
    el("option", { value: choice, selected: choice === parameter.default }, String(choice)),
  );
  const input = el("select", described(parameter), ...automatic, ...options);
  return {
    element: row(parameter, "choice", label(parameter), input),
    read: () => input.value || undefined,
    reset: () => (input.value = parameter.default ?? ""),
  };
}

function createSlider(parameter) {
  const { minimum = 0, maximum, step, choices } = parameter;
  const usual = typeof parameter.default === "number" ? parameter.default : (minimum + maximum) / 2;
  const input = el("input", { type: "range", min: minimum, max: maximum, step: step === "any" ? 1 : step, value: usual, ...described(parameter) });
  const shown = el("output", { for: idOf(parameter) }, brief(usual));
  // Words that replace the number, such as `auto`.
  const words = choices.map((choice) => {
    const box = el("input", { type: "checkbox", value: choice, checked: choice === parameter.default });
    return { box, element: el("label", { class: "word" }, box, title(choice)) };
  });
  const word = () => words.find(({ box }) => box.checked)?.box.value;
  const show = () => {
    input.disabled = word() !== undefined;
    shown.value = word() ?? brief(input.valueAsNumber);
  };
  input.addEventListener("input", show);
  words.forEach(({ box }) => box.addEventListener("change", show));
  show();
  return {
    element: row(parameter, "range", label(parameter), shown, input, ...words.map(({ element }) => element)),
    read: () => word() ?? input.valueAsNumber,
    reset() {
      input.valueAsNumber = usual;
      words.forEach(({ box }) => (box.checked = box.value === parameter.default));
      show();
    },
  };
}

function createField(parameter) {
  const number = parameter.kind === "number";
  const input = el("input", {
    type: number ? "number" : "text",
    min: parameter.minimum,
    max: parameter.maximum,
    step: number ? parameter.step : null,
    placeholder: "automatic",
    value: parameter.default,
    ...described(parameter),
  });
  return {
    element: row(parameter, "typed", label(parameter), input),
    read: () => (input.value === "" ? undefined : number ? input.valueAsNumber : input.value),
    reset: () => (input.value = parameter.default ?? ""),
  };
}
