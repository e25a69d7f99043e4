// A text to be taken elsewhere.
import { html, useState } from "../lib.js";

const SHOWN_MS = 2000;

export function Copied({ title, text }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), SHOWN_MS);
    } catch {
      // the browser does not let us; the text is there to be selected
    }
  };
  return html`<div class="copied">
    <div class="row"><b>${title}</b> <button class="small" onClick=${copy} aria-label=${`Copy: ${title}`}>${isDone ? "Copied" : "Copy"}</button></div>
    <pre tabindex="0">${text}</pre>
  </div>`;
}
