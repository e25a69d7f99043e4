// Figures over time, drawn by uPlot. Whoever does not see them is told now, least and most.
import { html, useEffect, useRef, useState } from "../lib.js";
import { script, styles } from "../scripts.js";

const HEIGHT = 120;
const dark = matchMedia("(prefers-color-scheme: dark)");

function useDark() {
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setDark(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  return isDark;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// As short as the whole span lets it be.
function timeOf(seconds, span, isByDay) {
  const date = new Date(seconds * 1000);
  if (isByDay || span > 36 * 3600) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const parts = { hour: "2-digit", minute: "2-digit", ...(span < 300 && { second: "2-digit" }) };
  return date.toLocaleTimeString("en-GB", parts);
}

function options(width, { show, color, isBars, isByDay }) {
  const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const u = window.uPlot;
  return {
    width,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    cursor: { y: false, points: { show: !isBars }, drag: { x: false } },
    legend: { show: false },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 26, values: (_, ticks) => ticks.map((t) => timeOf(t, ticks.at(-1) - ticks[0], isByDay)) },
      { ...axis, size: 62, space: 34, values: (_, ticks) => ticks.map((t) => (t ? show(t) : "0")) },
    ],
    series: [
      {},
      {
        stroke: colour(color),
        width: isBars ? 0 : 1.5,
        fill: `color-mix(in srgb, ${colour(color)} ${isBars ? 70 : 14}%, transparent)`,
        points: { show: false },
        ...(isBars && { paths: u.paths.bars({ size: [0.7, 40] }) }),
      },
    ],
  };
}

const said = (title, values, show) =>
  values.length ? `${title}: ${show(values.at(-1))} at the end, least ${show(Math.min(...values))}, most ${show(Math.max(...values))}` : `${title}: nothing yet`;

// `data`: times in seconds, and values; `show` makes a text of a value.
export function Chart({ title, data, show, color = "hot", isBars = false, isByDay = false }) {
  const box = useRef(null);
  const plot = useRef(null);
  const isDark = useDark();
  const [isReady, setReady] = useState(Boolean(window.uPlot));
  const [value, setValue] = useState(null);
  useEffect(() => {
    styles("ui/vendor/uplot.css");
    if (!isReady) script("ui/vendor/uplot.js").then(() => setReady(true), () => {});
  }, []);
  useEffect(() => {
    if (!isReady) return undefined;
    const made = new window.uPlot(options(box.current.clientWidth, { show, color, isBars, isByDay }), data, box.current);
    made.root.setAttribute("aria-hidden", "true");
    made.over.addEventListener("mousemove", () => setValue(made.cursor.idx));
    made.over.addEventListener("mouseleave", () => setValue(null));
    plot.current = made;
    const watch = new ResizeObserver(() => box.current && made.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [isReady, isDark, isBars, isByDay, color]);
  useEffect(() => plot.current?.setData(data), [data[0].length, data[0].at(-1), data[1], isReady]);
  const [times, values] = data;
  const at = value !== null && value < values.length ? value : values.length - 1;
  const named = value === null ? "" : new Date(times[at] * 1000).toLocaleString("en-GB", isByDay ? { dateStyle: "medium" } : { timeStyle: "medium", ...(isBars && { dateStyle: "short" }) });
  return html`<figure class="chart">
    <figcaption><span>${title}</span> <span>${named && html`<span class="dim">${named} </span>`}<b>${values.length ? show(values[at]) : "–"}</b></span></figcaption>
    <div ref=${box} role="img" aria-label=${said(title, values, show)} style=${`height:${HEIGHT}px`}></div>
  </figure>`;
}
