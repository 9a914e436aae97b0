// A slider that compares before and after.

import { el } from "./dom.js";

// Maximum side of the canvas in pixels; screens show no more.
export const MAX_SIDE = 2048;
const STEPS = { Home: 0, End: 100, PageDown: -10, PageUp: 10 };

/**
 * Create a slider between `photo`, transformed to the result's geometry, and the result.
 * photo: an upright ImageBitmap. matrix: 2x3, photo px to portrait px; null for a whole photo.
 */
export function createComparison(photo, result, matrix) {
  const before = el("canvas", { slot: "first", "aria-label": "Before", role: "img" });
  drawBefore(before, photo, result, matrix);
  const after = el("img", { slot: "second", src: result.src, alt: "After" });
  const knob = el("span", { slot: "handle", class: "knob", "aria-hidden": "true" }, "‹ ›");
  const slider = el("img-comparison-slider", { role: "slider", tabindex: "0", "aria-label": "Before and after", "aria-valuemin": "0", "aria-valuemax": "100" }, before, after, knob);
  const updateAria = () => {
    const share = Math.round(slider.value);
    slider.setAttribute("aria-valuenow", share);
    slider.setAttribute("aria-valuetext", `${share} % before, ${100 - share} % after`);
  };
  slider.addEventListener("slide", updateAria);
  slider.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const by = STEPS[event.key];
    slider.value = event.key.startsWith("Page") ? Math.min(100, Math.max(0, slider.value + by)) : by;
    updateAria();
  });
  slider.setAttribute("aria-valuenow", "50");
  return el("div", { class: "compare" }, slider, el("span", { class: "tag before", "aria-hidden": "true" }, "Before"), el("span", { class: "tag after", "aria-hidden": "true" }, "After"));
}

function drawBefore(canvas, photo, result, matrix) {
  const scale = Math.min(1, MAX_SIDE / Math.max(result.naturalWidth, result.naturalHeight));
  canvas.width = Math.round(result.naturalWidth * scale);
  canvas.height = Math.round(result.naturalHeight * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  if (!matrix) {
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    return;
  }
  context.setTransform(...toEdgeCoordinates(matrix, scale));
  context.drawImage(photo, 0, 0);
}

/** Convert `matrix` from pixel centres to pixel edges, which the canvas uses. */
function toEdgeCoordinates([[a, c, e], [b, d, f]], scale) {
  const x = e + 0.5 - (a + c) / 2;
  const y = f + 0.5 - (b + d) / 2;
  return [a, b, c, d, x, y].map((value) => value * scale);
}
