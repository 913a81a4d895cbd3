// Pyoco, the frog of the house: content when all is well, asleep when there is nothing to do, worried when something is off.
import { s } from "./dom.js";

const MOUTHS = { happy: "M22 40q10 9 20 0", asleep: "M27 42h10", worried: "M23 45q9-7 18 0" };

export function frog(mood, size = 64) {
  const eye = (x) => [s("circle", { cx: x, cy: 18, r: 9, class: "frog-skin" }), mood === "asleep"
    ? s("path", { d: `M${x - 5} 18q5 4 10 0`, class: "frog-line" })
    : [s("circle", { cx: x, cy: 18, r: 6, class: "frog-eye" }),
      s("circle", { cx: x, cy: mood === "worried" ? 16 : 19, r: 2.6, class: "frog-pupil" })]];
  return s("svg", { class: `frog ${mood}`, viewBox: "0 0 64 64", width: size, height: size, "aria-hidden": "true" },
    s("ellipse", { cx: 32, cy: 38, rx: 25, ry: 19, class: "frog-skin" }), eye(19), eye(45),
    s("path", { d: MOUTHS[mood], class: "frog-line" }),
    mood === "happy" ? [s("circle", { cx: 14, cy: 40, r: 3.4, class: "frog-cheek" }),
      s("circle", { cx: 50, cy: 40, r: 3.4, class: "frog-cheek" })] : null);
}
