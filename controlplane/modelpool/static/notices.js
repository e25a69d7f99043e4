// What an action came to, said once, and questions before one that costs somebody something.
import { html, useEffect, useRef, useState } from "./lib.js";

let show = () => {};
let question = () => Promise.resolve(false);

export const notify = (text) => show({ text, isFine: true });
export const complain = (error) => show({ text: error.message ?? String(error), isFine: false });
export const confirmed = (title, text, action) => question({ title, text, action });

// Runs it, and says what went wrong if something did.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    complain(error);
    return null;
  }
}

const SHOWN_MS = 9000;

export function Notices() {
  const [notice, setNotice] = useState(null);
  const [asked, setAsked] = useState(null);
  const dialog = useRef(null);
  useEffect(() => {
    show = setNotice;
    question = (about) => new Promise((answer) => setAsked({ ...about, answer }));
  }, []);
  useEffect(() => {
    if (!notice) return undefined;
    const timer = setTimeout(() => setNotice(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [notice]);
  useEffect(() => {
    if (asked && !dialog.current.open) dialog.current.showModal();
  }, [asked]);
  const close = (isYes) => {
    dialog.current?.close();
    asked?.answer(isYes);
    setAsked(null);
  };
  return html`
    <div aria-live="polite">
      ${notice &&
      html`<div class=${`toast ${notice.isFine ? "fine" : ""}`}>
        ${notice.text} <button class="small" onClick=${() => setNotice(null)}>Close</button>
      </div>`}
    </div>
    ${asked &&
    html`<dialog ref=${dialog} onCancel=${() => close(false)} aria-labelledby="asked">
      <h2 id="asked">${asked.title}</h2>
      <p>${asked.text}</p>
      <div class="row">
        <button class="main" onClick=${() => close(true)}>${asked.action}</button>
        <button onClick=${() => close(false)}>Cancel</button>
      </div>
    </dialog>`}
  `;
}
