-- Lua lint rules: no globals of our own; specs get busted's names.
std = "lua54"
max_line_length = 120
cache = false
exclude_files = { "build/", "node_modules/" }
files["spec/"] = { std = "+busted" }
files["lua/meta/"] = { ignore = { "212", "241" } } -- stubs have no bodies
files["flows/"] = { ignore = { "431" } } -- parameters are named after the tasks whose results they take
