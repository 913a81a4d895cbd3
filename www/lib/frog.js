// Pyoco, the frog of the house: happy, asleep when there is nothing to do, worried when something is off.
import { s } from "./dom.js";

const MOUTHS = { happy: "M22 40q10 9 20 0", asleep: "M27 42h10", worried: "M23 45q9-7 18 0" };
const SKIN = "#6fbf75", LINE = "#234d30", CHEEK = "#f2a199";

// size: in the height of a letter of the page. Its colours are its own, so that it is the page's icon too.
export function frog(mood, size = 1) {
  const line = (d) => s("path", { d, fill: "none", stroke: LINE, "stroke-width": 2.6, "stroke-linecap": "round" });
  const spot = (cx, cy, r, fill) => s("circle", { cx, cy, r, fill });
  const eye = (x) => [spot(x, 18, 9, SKIN), mood === "asleep" ? line(`M${x - 5} 18q5 4 10 0`)
    : s("g.frog-eye", spot(x, 18, 6, "#fff"), spot(x, mood === "worried" ? 16 : 19, 2.6, LINE))];
  return s("svg.frog", { viewBox: "0 0 64 64", width: `${size}em`, height: `${size}em`, "aria-hidden": "true" },
    s("ellipse", { cx: 32, cy: 56, rx: 31, ry: 6, fill: "#3f8f57" }), // its leaf
    s("ellipse", { cx: 32, cy: 38, rx: 25, ry: 19, fill: SKIN }), eye(19), eye(45), line(MOUTHS[mood]),
    mood !== "worried" && [spot(14, 40, 3.4, CHEEK), spot(50, 40, 3.4, CHEEK)]);
}

// The page's icon in the browser's row of tabs.
export const frogIcon = (mood) => `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(frog(mood, 4)))}`;
