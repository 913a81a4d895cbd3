--- The OpenAPI 3.1 document of an app, derived from its rows: paths, parameters and bodies from their schemas
--- (pyoco.http.validate), answers from their `gives`, errors from what they take.
---
--- gives = { [200] = { media = "application/json" (default), schema = JSON Schema, doc = text,
---   is_empty = no body }, ...,
---   takes = { { header name, doc } } }
local json = require "host.json"

local M = {}

local ERROR_REF, INVALID_REF = "#/components/schemas/Error", "#/components/schemas/Invalid"

--- What is kept of a row as a JSON Schema.
local function value_schema(row)
  local kind = row[2]
  local schema = { description = row.doc, default = row.default }
  if kind == "file" then
    schema.type, schema.contentMediaType = "string", "application/octet-stream"
    return schema
  end
  if kind ~= "any" then schema.type = kind end
  if kind == "string" then
    schema.minLength, schema.maxLength, schema.enum = row.min_length, row.max_length, row.choices
    schema.pattern = row.pattern and (row.shown or row.pattern)
  elseif kind == "array" then
    schema.items = row.items and { type = row.items } or nil
  else
    schema.minimum, schema.maximum, schema.exclusiveMinimum = row.ge, row.le, row.gt
  end
  if row.nullable then schema.type = { kind, "null" } end
  return schema
end

local function object_schema(rows)
  local properties, required = {}, {}
  for _, row in ipairs(rows) do
    properties[row[1]] = value_schema(row)
    if row.required then required[#required + 1] = row[1] end
  end
  return { type = "object", properties = properties, required = #required > 0 and required or nil }
end

--- "/runs/:id" as "/runs/{id}", and the names in it.
local function path_of(pattern)
  local names = {}
  local path = pattern:gsub("[:*]([%a_][%w_]*)", function(name)
    names[#names + 1] = name
    return "{" .. name .. "}"
  end)
  return path, names
end

local function parameters_of(row, names, takes)
  local list = {}
  for _, name in ipairs(names) do
    list[#list + 1] = { name = name, ["in"] = "path", required = true, schema = { type = "string" } }
  end
  for _, query in ipairs(row.query or {}) do
    local schema = value_schema(query)
    schema.description = nil
    if query.list then schema = { type = "array", items = schema } end
    list[#list + 1] = { name = query[1], ["in"] = "query", description = query.doc, required = query.required,
      schema = schema }
  end
  for _, header in ipairs(takes or {}) do
    list[#list + 1] = { name = header[1], ["in"] = "header", description = header[2], schema = { type = "string" } }
  end
  return #list > 0 and list or nil
end

local function is_required(rows)
  for _, row in ipairs(rows) do
    if row.required then return true end
  end
  return false
end

local function body_of(row)
  if row.body then
    return { required = is_required(row.body),
      content = { ["application/json"] = { schema = object_schema(row.body) } } }
  elseif row.form then
    local content = { ["multipart/form-data"] = { schema = object_schema(row.form) } }
    for kind in pairs(row.raw and row.raw.types or {}) do content[kind] = { schema = { type = "string" } } end
    return { required = is_required(row.form), content = content }
  end
end

local function error_response(text, ref)
  return { description = text, content = { ["application/json"] = { schema = { ["$ref"] = ref or ERROR_REF } } } }
end

local function responses_of(row, names, gives)
  local responses = { default = error_response "Another error.",
    ["500"] = { description = "A bug of ours; the log has the traceback.",
      content = { ["text/plain"] = { schema = { type = "string" } } } } }
  for status, given in pairs(gives) do
    if math.type(status) == "integer" then
      responses[tostring(status)] = { description = given.doc or "Done.",
        content = not given.is_empty and { [given.media or "application/json"] = { schema = given.schema } } or nil }
    end
  end
  if #names > 0 then responses["404"] = error_response "There is no such thing, or it is another tenant's." end
  if row.public ~= true then -- a function says so for some configurations only
    responses["401"] = error_response "A key is needed (with API keys on)."
    responses["403"] = error_response "The key is not valid, or the request comes from another site."
  end
  if row.query or row.body or row.form then responses["422"] = error_response("What was given does not fit.",
    INVALID_REF) end
  if row.body or row.form then
    responses["413"] = error_response "It is too large."
    responses["415"] = error_response "A content type that is not taken here."
  end
  responses["503"] = error_response "NATS or a part of ours cannot be reached now; Retry-After says when to ask again."
  return responses
end

--- A key is asked for when keys are on: which is not known here, nor for ever.
local KEY_OR_NONE, NO_KEY = { { key = json.array {} }, {} }, json.array {}

local function operation_of(row, names)
  local gives = row.gives or {}
  return { operationId = row.name, summary = row.doc, tags = { row.path:match("^/([%w_.-]+)") or "page" },
    parameters = parameters_of(row, names, gives.takes), requestBody = body_of(row),
    responses = responses_of(row, names, gives), security = row.public == true and NO_KEY or KEY_OR_NONE }
end

--- The document.
---@param routes table[] app:routes(), each with gives
---@param opts table { title, version, description, schemas = components by name, key_header, also = further rows like
---  routes' that no app has }
---@return table
function M.document(routes, opts)
  local paths = {}
  for _, list in ipairs { opts.also or {}, routes } do
    for _, row in ipairs(list) do
      local path, names = path_of(row.path)
      paths[path] = paths[path] or {}
      paths[path][row.method:lower()] = operation_of(row, names)
    end
  end
  return {
    openapi = "3.1.0",
    info = { title = opts.title, version = opts.version, description = opts.description },
    servers = { { url = "/", description = "The gateway that this document comes from." } },
    paths = paths,
    components = { schemas = opts.schemas,
      securitySchemes = { key = { type = "apiKey", ["in"] = "header", name = opts.key_header or "X-API-Key" } } },
  }
end

return M
