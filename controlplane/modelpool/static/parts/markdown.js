// An answer as it is meant to look. What models write is foreign text: it is cleaned before it is shown.
import { html, useEffect, useState } from "../lib.js";
import { script } from "../scripts.js";

let loading = null;

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

// HTML that a model writes is meant to be read; a picture would tell its host who reads it.
const RENDERER = {
  html: ({ text }) => escaped(text),
  image: ({ href, text }) => escaped(`[${text}](${href})`),
};

function libraries() {
  loading ??= Promise.all([script("ui/vendor/marked.js"), script("ui/vendor/purify.js")]).then(() =>
    window.marked.use({ renderer: RENDERER, breaks: true }),
  );
  return loading;
}

const made = (text) => window.DOMPurify.sanitize(window.marked.parse(text), { FORBID_TAGS: ["style", "img", "form", "input", "button"] });

export function Markdown({ text }) {
  const [isReady, setReady] = useState(Boolean(window.marked && window.DOMPurify));
  useEffect(() => void (isReady || libraries().then(() => setReady(true), () => {})), []);
  return isReady ? html`<div dangerouslySetInnerHTML=${{ __html: made(text) }}></div>` : html`<div>${text}</div>`;
}
