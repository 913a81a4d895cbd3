--- JSON Schemas, for editors: a document's first line may say
--- `# yaml-language-server: $schema=http://127.0.0.1:8000/schemas/flow.json`.
local response = require "pyoco.http.response"
local schema = require "pyoco.service.schema"

local HEADERS = { ["content-type"] = "application/schema+json", ["cache-control"] = "max-age=300",
  ["access-control-allow-origin"] = "*" } -- editors in a browser read it too; there is no secret in it

return {
  { "GET", "/schemas/flow.json", name = "schemas.flow", public = true,
    doc = "The JSON Schema of flow documents and bundles.",
    run = function() return response.new(200, HEADERS, schema.flow()) end },
}
