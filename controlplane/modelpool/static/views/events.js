// Everything that happened since the page was opened, and a little before.
import { html, useState } from "../lib.js";
import { useLive } from "../live.js";
import { EventList } from "../parts/events.js";

export function Events() {
  const live = useLive();
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const shown = live.events.filter((e) => !wanted || JSON.stringify(e).toLowerCase().includes(wanted));
  return html`
    <div class="head"><h1>Events</h1></div>
    <section class="card">
      <header>
        <h2>Newest first</h2>
        <input type="search" placeholder="Filter" aria-label="Filter events" value=${text} onInput=${(e) => setText(e.target.value)} />
      </header>
      <${EventList} events=${shown.slice(0, 200)} none=${wanted ? "No event matches." : undefined} />
    </section>
  `;
}
