// Photo input: file chooser, drop and paste.

import { byId } from "./dom.js";

/** Call `take(file)` for each photo chosen in `input`, dropped on the page or pasted. */
export function watchForPhotos(input, take) {
  const drop = byId("drop");
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    // Reset, so that choosing the same file again is a change.
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = firstFile(event.clipboardData);
    if (file) {
      event.preventDefault();
      take(file);
    }
  });
  let inside = 0;
  const light = (change) => {
    inside = change === 0 ? 0 : inside + change;
    drop.classList.toggle("over", inside > 0);
  };
  document.addEventListener("dragenter", () => light(1));
  document.addEventListener("dragleave", () => light(-1));
  // Otherwise the browser leaves the page and opens the file.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    light(0);
    const file = firstFile(event.dataTransfer);
    if (file) take(file);
  });
}

function firstFile(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0];
}

/** Decode `file` to upright pixels, or null if the browser cannot (most cannot read TIFF). */
export async function decodePhoto(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}
