// A small plot over time, the newest at the right. The numbers are in its title and its text, for who does not see lines.
import { away, h, s, texts } from "./ui.js";

const t = texts({ max: ["max {n}", "最大 {n}"] });

const W = 300, H = 72;
const SHORTEST = 300; // seconds: a few points are no whole plot

// series: [{ label, values: [number | null, ...], class }], all as long as times (unix seconds); format(number) -> text.
export function plot(title, times, series, format) {
  const isKnown = (value) => value !== null && value !== undefined;
  const all = series.flatMap((one) => one.values).filter(isKnown);
  const top = Math.max(...all, 0) || 1;
  const end = times.at(-1) ?? 0, start = Math.min(times[0] ?? 0, end - SHORTEST);
  const shape = (values) => {
    const x = (at) => (((times[at] - start) / (end - start)) * W).toFixed(1), y = (value) => (H - 2 - (value / top) * (H - 6)).toFixed(1);
    const points = values.map((value, at) => isKnown(value) && `${x(at)} ${y(value)}`).filter(Boolean);
    return points.length ? `M${points.join("L")}h0` : ""; // h0: a dot, when there is but one
  };
  const last = ({ values }) => {
    const value = values.findLast(isKnown);
    return value === undefined ? "–" : format(value);
  };
  return h("figure.plot",
    h("figcaption", h("span", title), series.map((one) => h("b", { class: one.class },
      series.length > 1 ? `${one.label} ` : "", last(one))), all.length > 0 && h("small", t("max", { n: format(top) }))),
    s("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${title}: ${series.map((one) => `${one.label} ${last(one)}`).join(", ")}` },
    s("path", { d: `M0 ${H - 2}H${W}`, class: "plot-base" }),
    series.map((one) => s("path", { d: shape(one.values), class: `plot-line ${one.class ?? ""}` }))),
    h("div.plot-axis", { "aria-hidden": "true" }, h("span", away(start)), h("span", away(Date.now() / 1000))));
}
