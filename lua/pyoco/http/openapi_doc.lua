--- docs/protocol/http.md, written from the OpenAPI document. `make docs` writes it; a spec compares.
local sorted = require "pyoco.sorted"

local M = {}

local HEAD = [[
# The calls of a gateway

Written by `make docs` from the routes; do not edit. The same for tools: [openapi.json](openapi.json), and
`GET /openapi.json` of a gateway, which has the routes of its script too.

What a refusal looks like: [errors.md](errors.md). What the fields of a run mean: [nats.md](nats.md).
]]

local ORDER = { "get", "post", "put", "patch", "delete" }

local function cell(text) return (tostring(text or ""):gsub("|", "\\|"):gsub("%s*\n%s*", " ")) end

--- A schema in words: "string or null", "list of Run".
local function kind_of(schema)
  if schema["$ref"] then return schema["$ref"]:match("[^/]+$") end
  if schema.anyOf then
    local kinds = {}
    for i, one in ipairs(schema.anyOf) do kinds[i] = kind_of(one) end
    return table.concat(kinds, ", or ")
  end
  if schema.type == "array" then return schema.items and "list of " .. kind_of(schema.items) or "list" end
  if type(schema.type) == "table" then return table.concat(schema.type, " or ") end
  if schema.type == "object" and schema.properties then
    return "{ " .. table.concat(sorted.keys(schema.properties), ", ") .. " }"
  end
  return schema.contentMediaType and "file" or schema.type or "any JSON"
end

--- What limits a value: "1 to 200, default 50".
local function limits_of(schema)
  local parts = {}
  if schema.enum then parts[1] = "one of " .. table.concat(schema.enum, ", ") end
  if schema.minimum and schema.maximum then
    parts[#parts + 1] = ("%s to %s"):format(schema.minimum, schema.maximum)
  elseif schema.minimum or schema.maximum then
    parts[#parts + 1] = (schema.minimum and "at least " or "at most ") .. (schema.minimum or schema.maximum)
  end
  if schema.exclusiveMinimum then parts[#parts + 1] = "above " .. schema.exclusiveMinimum end
  if schema.maxLength then parts[#parts + 1] = ("at most %d characters"):format(schema.maxLength) end
  if schema.pattern then parts[#parts + 1] = ("`%s`"):format(schema.pattern) end
  if schema.default ~= nil and type(schema.default) ~= "table" then
    parts[#parts + 1] = "default " .. tostring(schema.default)
  end
  return table.concat(parts, "; ")
end

local TABLE = "\n| %s | in | type | limits | meaning |\n|---|---|---|---|---|\n"

local function row_of(name, where, schema, doc, is_required)
  local inner = schema.type == "array" and schema.items or schema
  return ("| `%s`%s | %s | %s | %s | %s |\n"):format(name, is_required and " (required)" or "", where,
    cell(kind_of(schema)), cell(limits_of(inner)), cell(doc))
end

local function inputs_of(operation)
  local rows = {}
  for _, parameter in ipairs(operation.parameters or {}) do
    rows[#rows + 1] = row_of(parameter.name, parameter["in"], parameter.schema, parameter.description,
      parameter.required and parameter["in"] ~= "path")
  end
  local content = operation.requestBody and operation.requestBody.content or {}
  for _, media in ipairs { "application/json", "multipart/form-data" } do
    local schema = content[media] and content[media].schema or {}
    local required = {}
    for _, name in ipairs(schema.required or {}) do required[name] = true end
    for _, name in ipairs(sorted.keys(schema.properties or {})) do
      rows[#rows + 1] = row_of(name, media == "application/json" and "body" or "form", schema.properties[name],
        schema.properties[name].description, required[name])
    end
  end
  if #rows == 0 then return "" end
  local raw = {}
  for media in pairs(content) do
    if media:find("yaml") then raw[#raw + 1] = media end
  end
  table.sort(raw)
  local more = #raw > 0 and ("\nOr the document itself as the body (%s), the rest as query parameters.\n"):format(
    table.concat(raw, ", ")) or ""
  return TABLE:format("name") .. table.concat(rows) .. more
end

local function answers_of(operation)
  local lines = {}
  for _, status in ipairs(sorted.keys(operation.responses)) do
    local given = operation.responses[status]
    if status:find("^[23]") then
      local kinds = {}
      for media, content in pairs(given.content or {}) do
        kinds[1] = media == "application/json" and kind_of(content.schema) or media
      end
      lines[#lines + 1] = ("- %s: %s%s\n"):format(status, kinds[1] or "no body",
        given.description ~= "Done." and ". " .. given.description or "")
    end
  end
  return "\n" .. table.concat(lines)
end

local function components(schemas)
  local out = { "\n## Objects\n\nFields that are always there are marked; there may be more than these.\n" }
  for _, name in ipairs(sorted.keys(schemas)) do
    local schema = schemas[name]
    if schema.properties then
      out[#out + 1] = ("\n### %s\n%s\n\n| field | type |\n|---|---|\n"):format(name, schema.description or "")
      local required = {}
      for _, field in ipairs(schema.required or {}) do required[field] = true end
      for _, field in ipairs(sorted.keys(schema.properties)) do
        out[#out + 1] = ("| `%s`%s | %s |\n"):format(field, required[field] and " (always)" or "",
          cell(kind_of(schema.properties[field])))
      end
    end
  end
  return table.concat(out)
end

--- The page.
---@param document table of pyoco.http.openapi
---@return string
function M.markdown(document)
  local out = { HEAD }
  for _, path in ipairs(sorted.keys(document.paths)) do
    for _, method in ipairs(ORDER) do
      local operation = document.paths[path][method]
      if operation then
        out[#out + 1] = ("\n## %s %s\n%s%s\n%s%s"):format(method:upper(), path, operation.summary,
          #operation.security > 0 and "" or " No key needed.", inputs_of(operation), answers_of(operation))
      end
    end
  end
  return table.concat(out) .. components(document.components.schemas)
end

return M
