// The view and its settings are in the URL, as #/runs?status=FAILED&q=etl: a link shows others the same.

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // "%" of a link that was cut off or typed by hand
  }
}

// { path: ["runs", "ID"], query: { status: "FAILED" } } of the current URL.
export function here() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decode), query: Object.fromEntries(new URLSearchParams(search ?? "")) };
}

// "?a=1&b=2" of what is not empty.
export function queryOf(values) {
  const list = Object.entries(values ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return list.length ? `?${new URLSearchParams(list)}` : "";
}

export const href = (path, query) => `#/${path.map(encodeURIComponent).join("/")}${queryOf(query)}`;

// Goes to a view; with `replace` the current one leaves no trace in the history (typing in a filter).
export function go(path, query, replace) {
  const target = href(path, query);
  if (target === location.hash) return;
  if (replace) {
    history.replaceState(null, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}
