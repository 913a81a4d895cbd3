// A small plot of the last hour: one or more series over time, the newest at the right. The numbers are in its title and
// its text, for those who do not see lines.
import { h, s } from "./dom.js";

const W = 300, H = 72;

// series: [{ label, values: [number | null, ...], class }], all of one length; format(number) -> text.
export function plot(title, series, format) {
  const all = series.flatMap((one) => one.values).filter((value) => value !== null && value !== undefined);
  const top = Math.max(...all, 0) || 1;
  const shape = (values) => {
    let d = "", pen = "M";
    values.forEach((value, at) => {
      if (value === null || value === undefined) {
        pen = "M";
        return;
      }
      d += `${pen}${((at / Math.max(1, values.length - 1)) * W).toFixed(1)} ${(H - 2 - (value / top) * (H - 6)).toFixed(1)}`;
      if (pen === "M") d += "h0"; // a dot, for one that stands alone
      pen = "L";
    });
    return d;
  };
  const last = ({ values }) => {
    const value = values.findLast((one) => one !== null && one !== undefined);
    return value === undefined ? "–" : format(value);
  };
  return h("figure", { class: "plot" },
    h("figcaption", null, h("span", null, title), series.map((one) => h("b", { class: one.class },
      series.length > 1 ? `${one.label} ` : "", last(one)))),
    s("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${title}: ${series.map((one) => `${one.label} ${last(one)}`).join(", ")}` },
      s("path", { d: `M0 ${H - 2}H${W}`, class: "plot-base" }),
      series.map((one) => s("path", { d: shape(one.values), class: `plot-line ${one.class ?? ""}` }))),
    all.length > 0 && h("span", { class: "plot-top", "aria-hidden": "true" }, format(top)));
}
