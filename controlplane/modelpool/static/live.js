// What the page knows of the pool at this moment. One writer: the loop below, driven by the pool's
// events; whoever shows something subscribes.
import { useEffect, useState } from "./lib.js";
import { events, get, stream } from "./api.js";
import { sample } from "./series.js";

const REFRESH_MS = 600; // however many events come
const REPAIR_MS = 4000; // in flight and tokens change without an event
const AGAIN_MS = 1500;
const EVENTS_KEPT = 300;
const SAMPLES_KEPT = 40;
const LOST_AFTER_MS = 40_000; // the pool comments on a silent stream every 15 s

const state = {
  isKnown: false, // the pool has answered once
  lostSince: null, // when it stopped to answer
  health: null,
  models: [], // all but COLD ones
  devices: [],
  jobs: [],
  events: [], // the newest first
  at: 0, // when models were read
  rates: new Map(), // model id -> tokens/s, oldest first
  requestsPerSecond: 0,
  tokensPerSecond: 0,
};

const readers = new Set();
let told = false;

// Readers are told once a frame, not once an event.
function tell() {
  if (told) return;
  told = true;
  requestAnimationFrame(() => {
    told = false;
    for (const reader of readers) reader();
  });
}

export function useLive() {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const reader = () => setTurn((turn) => turn + 1);
    readers.add(reader);
    return () => readers.delete(reader);
  }, []);
  return state;
}

let earlier = null;

function measure(models, at) {
  const now = new Map(models.map((m) => [m.model_id, { tokens: m.tokens_total, requests: m.requests_total, generation: m.generation }]));
  let tokens = 0, requests = 0;
  const rates = new Map();
  for (const [id, counted] of now) {
    const before = earlier?.counts.get(id);
    const span = earlier ? (at - earlier.at) / 1000 : 0;
    const isSame = before && before.generation === counted.generation && span > 0;
    const rate = isSame ? Math.max(0, counted.tokens - before.tokens) / span : 0;
    if (isSame) requests += Math.max(0, counted.requests - before.requests) / span;
    tokens += rate;
    rates.set(id, [...(state.rates.get(id) ?? []), rate].slice(-SAMPLES_KEPT));
  }
  earlier = { at, counts: now };
  Object.assign(state, { rates, tokensPerSecond: tokens, requestsPerSecond: requests });
}

let isReading = false, isStale = false, lastRead = 0, timer = null;

async function read() {
  if (isReading) {
    isStale = true;
    return;
  }
  isReading = true;
  isStale = false;
  try {
    const [health, listed, jobs, devices] = await Promise.all([
      get("health"),
      get("models?state=awake&limit=500"),
      get("jobs?state=running"),
      get("devices"),
    ]);
    const at = Date.now();
    // Two readings close together would make rates of nothing.
    if (!earlier || at - earlier.at > 900) measure(listed.models, at);
    sample(listed.models, at);
    Object.assign(state, { isKnown: true, health, models: listed.models, jobs: jobs.jobs, devices: devices.devices, at });
    state.lostSince = null;
  } catch {
    state.lostSince ??= Date.now();
  } finally {
    isReading = false;
    lastRead = Date.now();
    tell();
    if (isStale) refresh();
  }
}

export function refresh() {
  if (timer !== null) return;
  const wait = Math.max(0, lastRead + REFRESH_MS - Date.now());
  timer = setTimeout(() => {
    timer = null;
    read();
  }, wait);
}

async function follow() {
  let last = "";
  for (;;) {
    const watch = new AbortController();
    let silence = null;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => watch.abort(), LOST_AFTER_MS);
    };
    try {
      heard();
      const headers = last ? { "last-event-id": last } : {};
      const answer = await stream("events", { headers, signal: watch.signal });
      refresh();
      for await (const event of events(answer)) {
        heard();
        if (event.comment !== undefined) continue;
        last = event.id || last;
        state.events = [JSON.parse(event.data), ...state.events].slice(0, EVENTS_KEPT);
        tell();
        refresh();
      }
    } catch {
      // told below: whether it is lost, the next reading says
    }
    clearTimeout(silence);
    refresh();
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function recent() {
  // What was before this page: the newest of every model that is awake.
  try {
    const { models } = await get("models?state=awake&limit=20&fields=model_id");
    const told = await Promise.all(models.map((m) => get(`models/${encodeURIComponent(m.model_id)}/history?limit=8`)));
    const known = new Set(state.events.map((e) => e.id));
    const older = told.flatMap((h) => h.events).filter((e) => !known.has(e.id));
    state.events = [...state.events, ...older].sort((a, b) => b.at.localeCompare(a.at)).slice(0, EVENTS_KEPT);
    tell();
  } catch {
    // the page does without
  }
}

export function start() {
  read().then(recent);
  follow();
  setInterval(() => document.hidden || refresh(), REPAIR_MS);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}
