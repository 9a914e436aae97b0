// The page: a photo and parameters in, a comparison and a report out.

import { buildCalls } from "./calls.js";
import { MAX_SIDE, createComparison } from "./compare.js";
import { byId, el } from "./dom.js";
import { renderFindings } from "./findings.js";
import { buildForm } from "./form.js";
import { renderProblem } from "./problem.js";
import { renderLinkage, renderTimings } from "./report.js";
import { readSchema } from "./schema.js";
import { decodePhoto, watchForPhotos } from "./source.js";

const show = (id, shown) => (byId(id).hidden = !shown);
const say = (text) => (byId("status").textContent = text);

/** The chosen picture, the request in flight and its result. */
const state = { file: null, photo: null, working: null, result: null, keyed: false };
let form;
let showCalls;

async function start() {
  showCalls = buildCalls(byId("calls"));
  watchForPhotos(byId("file"), take);
  byId("another").addEventListener("click", () => byId("file").click());
  byId("url").addEventListener("input", selectUrl);
  byId("form").addEventListener("submit", submit);
  byId("form").addEventListener("reset", resetForm);
  byId("form").addEventListener("input", updateCalls);
  showReadiness();
  try {
    const schema = await readSchema();
    form = buildForm(byId("parameters"), schema.parameters);
    state.keyed = schema.keyed;
    show("key-row", schema.keyed);
    show("url-row", schema.imageUrl);
    updateCalls();
    updateButton();
  } catch (error) {
    showProblem({ title: "The parameters could not be loaded", detail: String(error), type: "page" });
  }
}

async function showReadiness() {
  const pill = byId("ready");
  try {
    const answer = await (await fetch("readyz")).json();
    const notices = answer.notices ?? [answer.detail ?? ""];
    const good = answer.status === "ready";
    pill.textContent = good ? `Ready · ${answer.engine} · ${answer.model}` : answer.title;
    pill.className = `pill ${!good ? "bad" : notices.length ? "fair" : "good"}`;
    pill.title = notices.join("\n");
    if (notices.length) pill.append(el("span", { class: "unseen" }, `: ${notices.join("; ")}`));
  } catch {
    pill.textContent = "The gateway does not respond";
    pill.className = "pill bad";
  }
}

async function take(file) {
  state.working?.abort();
  state.photo?.close();
  Object.assign(state, { file, photo: null });
  byId("url").value = "";
  clearAnswer();
  state.photo = await decodePhoto(file);
  if (state.file !== file) return;
  const size = state.photo ? `${state.photo.width} × ${state.photo.height}, ` : "";
  preview();
  byId("caption").textContent = `${file.name} · ${size}${bytes(file.size)}`;
  say(`${file.name} is selected.`);
  updateCalls();
  updateButton();
  byId("enhance").focus({ preventScroll: true });
}

/** Switch to the picture at the entered URL. */
function selectUrl() {
  state.file = state.photo = null;
  clearAnswer();
  show("view", false);
  show("pick", true);
  show("picture-actions", false);
  updateCalls();
  updateButton();
}

function preview() {
  const words = "This browser cannot display this format; the gateway may still read it.";
  const picture = state.photo ? el("canvas", { role: "img", "aria-label": "Your photo" }) : el("p", { class: "quiet blank" }, words);
  if (state.photo) {
    const scale = Math.min(1, MAX_SIDE / Math.max(state.photo.width, state.photo.height));
    picture.width = Math.round(state.photo.width * scale);
    picture.height = Math.round(state.photo.height * scale);
    picture.getContext("2d").drawImage(state.photo, 0, 0, picture.width, picture.height);
  }
  byId("picture").replaceChildren(picture);
  show("view", true);
  show("pick", false);
  byId("intro").classList.add("unseen");
  show("picture-actions", true);
}

function updateButton() {
  const button = byId("enhance");
  button.disabled = !form || !(state.file || byId("url").value);
  button.textContent = state.working ? "Stop" : state.result ? "Enhance again" : "Enhance";
  button.classList.toggle("busy", state.working !== null);
}

function updateCalls() {
  if (form) showCalls({ name: state.file?.name ?? "photo.jpg", url: byId("url").value, values: form.values(), keyed: state.keyed });
}

function resetForm(event) {
  event.preventDefault();
  form?.reset();
  form?.markInvalid([]);
  updateCalls();
}

function submit(event) {
  event.preventDefault();
  if (state.working) state.working.abort();
  else if (form && (state.file || byId("url").value)) enhance();
}

async function enhance() {
  const working = (state.working = new AbortController());
  const started = performance.now();
  clearProblem();
  updateButton();
  byId("drop").classList.add("busy");
  say("Enhancing…");
  try {
    const answer = await fetch("v1/enhance", { method: "POST", body: body(), headers: headers(), signal: working.signal });
    const took = () => performance.now() - started;
    if (answer.ok) await showAnswer(await answer.json(), answer.headers, took, working.signal);
    else await showRefusal(answer);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else showProblem({ title: "The gateway cannot be reached", detail: "Check that it is running, then try again.", type: "network", cause: String(error) });
  } finally {
    if (state.working === working) state.working = null;
    byId("drop").classList.toggle("busy", state.working !== null);
    updateButton();
  }
}

function body() {
  const data = new FormData();
  if (state.file) data.append("image", state.file, state.file.name);
  else data.append("image_url", byId("url").value);
  Object.entries(form.values()).forEach(([name, value]) => data.append(name, value));
  return data;
}

function headers() {
  const key = byId("key").value.trim();
  return { Accept: "application/json", ...(key ? { "X-API-Key": key } : {}) };
}

async function showAnswer({ image_base64, media_type, report }, head, took, signal) {
  const image = await loadResult(image_base64, media_type);
  // Stop if another photo was chosen in the meantime.
  signal.throwIfAborted();
  const cached = head.get("X-Cache") === "hit" ? " (cached)" : "";
  byId("picture").replaceChildren(state.photo ? createComparison(state.photo, image, report.portrait?.matrix) : image);
  byId("caption").textContent = `${image.naturalWidth} × ${image.naturalHeight} ${media_type.slice(6)}, ${bytes(state.result.size)}`;
  show("view", true);
  show("pick", false);
  byId("intro").classList.add("unseen");
  show("picture-actions", true);
  byId("found").replaceChildren(...renderFindings(report, state.photo));
  byId("linked").replaceChildren(...renderLinkage(report.linkage));
  byId("times").replaceChildren(...renderTimings(report.timings_ms));
  byId("warnings").replaceChildren(...report.warnings.map((warning) => el("li", {}, warning)));
  show("warnings", report.warnings.length > 0);
  show("report", true);
  say(`Done in ${(took() / 1000).toFixed(1)} s${cached}: ${report.faces.length === 1 ? "one face" : `${report.faces.length} faces`}.`);
}

/** Load the result as an image and update the link that saves it. */
async function loadResult(base64, mediaType) {
  state.result = new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: mediaType });
  const save = byId("save");
  if (save.href) URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(state.result);
  save.download = `enhanced.${mediaType.slice(6).replace("jpeg", "jpg")}`;
  save.hidden = false;
  const image = el("img", { src: save.href, alt: "The enhanced picture" });
  await image.decode();
  return image;
}

async function showRefusal(answer) {
  const text = await answer.text();
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {
    problem = { title: answer.statusText || "Unexpected response", detail: text.slice(0, 300), status: answer.status, type: "page" };
  }
  if (answer.status === 401) {
    state.keyed = true;
    show("key-row", true);
    updateCalls();
  }
  showProblem(problem);
  form.markInvalid((problem.errors ?? []).map(({ parameter }) => parameter));
  (answer.status === 401 ? byId("key") : byId("problem")).focus();
}

function showProblem(problem) {
  say("");
  byId("problem").replaceChildren(...renderProblem(problem));
  show("problem", true);
}

function clearProblem() {
  show("problem", false);
  form?.markInvalid([]);
}

function clearAnswer() {
  state.result = null;
  clearProblem();
  say("");
  show("report", false);
  show("warnings", false);
  show("save", false);
}

function bytes(number) {
  return number < 1e6 ? `${Math.ceil(number / 1e3)} kB` : `${(number / 1e6).toFixed(1)} MB`;
}

start();
