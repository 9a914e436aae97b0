// The findings of the report: the photo with its faces, and the measurements.

import { brief, el, title } from "./dom.js";

const MAX_SIDE = 720;
const YAW_LIMIT = 25;

/** Render the findings. photo: an upright ImageBitmap or null. */
export function renderFindings(report, photo) {
  return [photo && drawFaces(report, photo), el("div", { class: "facts" }, ...cards(report))].filter(Boolean);
}

function drawFaces(report, photo) {
  const scale = Math.min(1, MAX_SIDE / photo.width, MAX_SIDE / photo.height) * Math.min(2, devicePixelRatio);
  const words = `The photo with ${count(report.faces.length, "face")} and five landmarks each`;
  const canvas = el("canvas", { role: "img", "aria-label": words });
  canvas.width = Math.round(photo.width * scale);
  canvas.height = Math.round(photo.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  context.scale(scale, scale);
  // Scale line widths with the photo.
  const unit = Math.max(photo.width, photo.height) / 360;
  if (report.portrait) outline(context, corners(report.portrait), unit, [4 * unit, 3 * unit]);
  report.left_alone.forEach((face) => outline(context, box(face.bbox), unit, [unit, 2 * unit]));
  report.faces.forEach((face) => {
    outline(context, box(face.bbox), unit, []);
    face.landmarks5.forEach(([x, y]) => dot(context, x, y, 3 * unit));
  });
  const key = report.portrait ? "Solid: faces with landmarks. Dashed: the portrait." : "Solid: restored faces. Dotted: faces left alone.";
  return el("figure", { class: "found-figure" }, canvas, el("figcaption", { class: "quiet" }, key));
}

function outline(context, points, unit, dash) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  // A light line over a dark one is visible on every photo.
  for (const [colour, width, pattern] of [["#000a", 2.4, []], ["#fff", 1.2, dash]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    context.setLineDash(pattern);
    context.stroke();
  }
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = "#2fe0c0";
  context.fill();
  context.strokeStyle = "#000c";
  context.lineWidth = radius / 3;
  context.setLineDash([]);
  context.stroke();
}

const box = ([x0, y0, x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];

/** The portrait's corners in the photo, by the inverse of its matrix. */
function corners({ matrix: [[a, c, e], [b, d, f]], size: [width, height] }) {
  const determinant = a * d - b * c;
  return box([0, 0, width, height]).map(([x, y]) => [
    (d * (x - e) - c * (y - f)) / determinant,
    (a * (y - f) - b * (x - e)) / determinant,
  ]);
}

function cards(report) {
  const { face, light, quality, portrait } = report;
  const alone = report.left_alone.length;
  const found = [
    ["Faces", `${report.faces.length} treated${alone ? `, ${alone} left alone` : ""}`],
    ["Finder", report.finder],
    face && ["Score", brief(face.score)],
    quality?.interocular_px && ["Between the eyes", `${brief(quality.interocular_px)} px`],
    portrait?.off_centre_px != null && ["Off centre", `${brief(portrait.off_centre_px)} px`],
  ];
  const pose = face?.pose;
  return [
    card("Face", found),
    pose && card("Pose", [["Yaw", degrees(pose.yaw)], ["Pitch", degrees(pose.pitch)], ["Roll", degrees(pose.roll)]], yawGauge(pose.yaw)),
    light && card("Light", lightFacts(light), lightGauge(light)),
    quality && card("Quality", [["Sharpness", brief(quality.sharpness)], ["Noise", `σ ${brief(quality.noise_sigma)}`]]),
    card("Restored by", [["Engine", report.engine], ["Model", report.model]]),
  ].filter(Boolean);
}

function lightFacts(light) {
  const { exposure, clahe } = light;
  const changed = exposure.direction === "none" ? "unchanged" : `${exposure.direction}, γ ${brief(exposure.gamma)}`;
  return [
    ["Lightness", `${brief(light.before.mean)} → ${brief(light.after.mean)}`],
    ["Spread", `${brief(light.before.spread)} → ${brief(light.after.spread)}`],
    ["Exposure", changed],
    ["CLAHE", clahe.weight ? `${Math.round(clahe.weight * 100)} %` : "none"],
  ];
}

function card(heading, facts, ...more) {
  const list = facts.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el("div", { class: "card" }, el("h3", {}, heading), ...more, el("dl", {}, ...list));
}

/** A gauge from -90 to 90 degrees that marks the range of frontal heads. */
function yawGauge(yaw) {
  const place = (degree) => `${((Math.max(-90, Math.min(90, degree)) + 90) / 180) * 100}%`;
  return gauge("yaw", { from: place(-YAW_LIMIT), to: place(YAW_LIMIT), at: place(yaw) });
}

/** A gauge from black to white with the lightness before and after. */
function lightGauge({ before, after }) {
  const place = (level) => `${(level / 255) * 100}%`;
  return gauge("lightness", { at: place(after.mean), was: place(before.mean) });
}

// Hidden from screen readers: the list next to it has the same values.
function gauge(kind, places) {
  const marks = Object.keys(places).filter((name) => name === "at" || name === "was");
  const element = el("div", { class: `gauge ${kind}`, "aria-hidden": "true" }, ...marks.map((name) => el("i", { class: name })));
  Object.entries(places).forEach(([name, value]) => element.style.setProperty(`--${name}`, value));
  return element;
}

const degrees = (value) => `${brief(value).replace("-", "−")}°`;
const count = (number, word) => `${number} ${title(word).toLowerCase()}${number === 1 ? "" : "s"}`;
