// Renders a problem document (RFC 9457).

import { el, rich } from "./dom.js";

/** Title, detail and invalid parameters, with the complete document below. */
export function renderProblem(problem) {
  const wrong = (problem.errors ?? []).map(({ parameter, message }) =>
    el("li", {}, el("code", {}, parameter), ` ${message}`),
  );
  return [
    el("h2", {}, problem.title),
    el("p", {}, ...rich(problem.detail ?? "")),
    wrong.length ? el("ul", {}, ...wrong) : null,
    el("details", {}, el("summary", {}, `${problem.status ?? ""} ${problem.type}`), el("pre", { tabindex: "0" }, JSON.stringify(problem, null, 2))),
  ].filter(Boolean);
}
