// What every part of the page uses: rendering, figures as a person reads them, the way between views.
export { html, render, useState, useEffect, useMemo, useRef, useCallback } from "./vendor/preact-htm.js";
import { useState, useEffect } from "./vendor/preact-htm.js";

export function memory(mb) {
  if (mb === null || mb === undefined) return "–";
  if (mb >= 1000) return `${(mb / 1000).toFixed(mb >= 100_000 ? 0 : 1)} GB`;
  return `${mb >= 100 ? Math.round(mb) : Math.round(mb * 10) / 10} MB`;
}

export function count(number) {
  if (number === null || number === undefined) return "–";
  return number.toLocaleString("en-US", { maximumFractionDigits: number < 10 ? 1 : 0 });
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  return duration(value);
}

export function duration(value) {
  const whole = Math.max(0, Math.round(value));
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return `${m}:${String(s).padStart(2, "0")}`;
}

export function clock(text) {
  return new Date(text).toLocaleTimeString("en-GB");
}

export function when(text) {
  return text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "–";
}

// Ids may hold slashes and colons: routes take them percent-encoded.
export const modelPath = (id) => `models/${encodeURIComponent(id)}`;
export const modelLink = (id, tab = "") => `#/models/${encodeURIComponent(id)}${tab && `/${tab}`}`;

export function parseRoute(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, query: new URLSearchParams(query) };
}

// The time, for whatever counts down. Those that show it are small, so that little is drawn anew.
export function useNow(every = 1000) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

// Asks once, again whenever one of `inputs` changes, and by `reload`.
export function useAnswer(ask, inputs = []) {
  const [told, setTold] = useState({ data: null, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isWanted = true;
    ask()
      .then((data) => isWanted && setTold({ data, error: null }))
      .catch((error) => isWanted && setTold((old) => ({ data: old.data, error })));
    return () => {
      isWanted = false;
    };
  }, [...inputs, turn]);
  return { ...told, reload: () => setTurn((t) => t + 1) };
}

// A value that has stood still for a while: what is typed is not asked for letter by letter.
export function useCalm(value, pause = 250) {
  const [calm, setCalm] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setCalm(value), pause);
    return () => clearTimeout(timer);
  }, [value, pause]);
  return calm;
}
