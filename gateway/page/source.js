// Where a photo comes from: chosen, dropped or pasted.

import { byId } from "./dom.js";

/** Calls `take(file)` with each photo that is chosen in `input`, dropped on the page or pasted into it. */
export function watchForPhotos(input, take) {
  const drop = byId("drop");
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    // The same file again is a change, too.
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
  // Without this a browser leaves the page and shows the file.
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

/** The upright pixels of `file`; null where this browser does not read its kind, as most do not read TIFF. */
export async function decoded(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}
