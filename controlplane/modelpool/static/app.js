// The frame: where one can go, what is shown, and whether the pool is there at all.
import { html, render, parseRoute, useEffect, useState, duration, useNow } from "./lib.js";
import { start, useLive } from "./live.js";
import { Notices } from "./notices.js";
import { Pool } from "./views/pool.js";

const later = (file, name) => () => import(file).then((module) => module[name]);
const VIEWS = {
  "": { title: "Pool", load: async () => Pool },
  try: { title: "Try it", load: later("./views/try.js", "TryIt") },
  pull: { title: "Find & pull", load: later("./views/pull.js", "Pull") },
  routing: { title: "Routing", load: later("./views/routing.js", "Routing") },
  requests: { title: "Requests", load: later("./views/requests.js", "Requests"), isForOperators: true },
  usage: { title: "Usage", load: later("./views/usage.js", "Usage"), isForOperators: true },
  events: { title: "Events", load: later("./views/events.js", "Events"), isForOperators: true },
  settings: { title: "Settings", load: later("./views/settings.js", "Settings"), isForOperators: true },
  models: { title: "Model", load: later("./views/model.js", "Model"), isHidden: true },
};

function useRoute() {
  const [route, setRoute] = useState(parseRoute(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function Navigation({ current }) {
  const link = ([name, { title }]) => html`<a href=${`#/${name}`} aria-current=${name === current ? "page" : null}>${title}</a>`;
  const shown = Object.entries(VIEWS).filter(([, view]) => !view.isHidden);
  return html`<nav aria-label="Views">
    <b>modelpool</b>
    ${shown.filter(([, view]) => !view.isForOperators).map(link)}
    <small>Operate</small>
    ${shown.filter(([, view]) => view.isForOperators).map(link)}
    <a href="docs">API</a>
  </nav>`;
}

function Lost({ since }) {
  const now = useNow();
  return html`<div class="lost" role="alert">
    The pool has not answered for ${duration((now - since) / 1000)}. What is shown is what was known; asking again …
  </div>`;
}

function Shown({ route }) {
  const name = route.parts[0] in VIEWS ? route.parts[0] : "";
  const [view, setView] = useState(name === "" ? { name, View: Pool } : null);
  useEffect(() => {
    document.title = name === "" ? "modelpool" : `${route.parts[1] ?? VIEWS[name].title} · modelpool`;
    let isWanted = true;
    VIEWS[name].load().then((View) => isWanted && setView({ name, View }));
    return () => {
      isWanted = false;
    };
  }, [name, route.parts[1]]);
  return view?.name === name ? html`<${view.View} route=${route} key=${route.parts.slice(0, 2).join("/")} />` : html`<p class="dim">…</p>`;
}

function App() {
  const live = useLive();
  const route = useRoute();
  const isFamiliar = route.parts[0] in VIEWS;
  return html`
    <a class="skip" href="#main" onClick=${(e) => (e.preventDefault(), document.getElementById("main").focus())}>To the content</a>
    ${live.lostSince && html`<${Lost} since=${live.lostSince} />`}
    <div class="app">
      <${Navigation} current=${isFamiliar ? route.parts[0] : ""} />
      <main id="main" tabindex="-1"><${Shown} route=${route} /></main>
    </div>
    <${Notices} />
  `;
}

start();
render(html`<${App} />`, document.getElementById("app"));
