// Renders the linked parameters and the timings of a report.

import { brief, el, rich } from "./dom.js";

/** Render the table of linked parameters. */
export function renderLinkage(rules) {
  if (!rules.length) return [el("p", { class: "quiet" }, "None: every parameter was used as requested.")];
  const several = rules.some(({ face }) => face > 0);
  const head = [...(several ? ["Face"] : []), "Parameter", "Requested", "Effective", "Reason"];
  const rows = rules.map((rule) =>
    el(
      "tr",
      {},
      several ? el("td", {}, String(rule.face + 1)) : null,
      el("th", { scope: "row" }, el("code", {}, rule.parameter)),
      el("td", {}, value(rule.asked)),
      el("td", { class: "effective" }, value(rule.effective)),
      el("td", { class: "because" }, ...rich(rule.because), " ", el("span", { class: "rule" }, rule.rule)),
    ),
  );
  const cells = head.map((name) => el("th", { scope: "col" }, name));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows));
  return [el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Linked parameters" }, table)];
}

/** Render a bar for each stage in milliseconds; the backend's own stages follow `backend`. */
export function renderTimings({ total, ...timings }) {
  const own = Object.entries(timings).filter(([stage]) => !stage.startsWith("gpen_"));
  const inner = Object.entries(timings).filter(([stage]) => stage.startsWith("gpen_"));
  const bars = own.flatMap(([stage, ms]) => [
    bar(stage, ms, total),
    ...(stage === "backend" ? inner.map(([name, part]) => bar(name.slice(5), part, total, "inner")) : []),
  ]);
  const table = el("table", { class: "bars" }, el("caption", { class: "unseen" }, "Milliseconds by stage"), el("tbody", {}, ...bars));
  return [el("p", { class: "figure" }, `${Math.round(total)} ms`, el("span", { class: "quiet" }, " in the gateway")), table];
}

function bar(stage, ms, total, kind = "") {
  const line = el("i", { "aria-hidden": "true" });
  line.style.setProperty("--share", `${Math.min(100, (ms / total) * 100)}%`);
  const name = el("th", { scope: "row" }, stage.replaceAll("_", " "));
  return el("tr", { class: kind }, name, el("td", { class: "bar" }, line), el("td", { class: "ms" }, ms.toFixed(ms < 10 ? 1 : 0), el("span", { class: "unseen" }, " milliseconds")));
}

function value(asked) {
  if (asked === null) return "–";
  return asked === true ? "on" : asked === false ? "off" : brief(asked);
}
