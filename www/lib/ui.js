// What views are made of, in one place to import from.
export * from "./api.js";
export * from "./dom.js";
export * from "./format.js";
export * from "./i18n.js";
export * from "./parts.js";
export * from "./router.js";
export * from "./status.js";
