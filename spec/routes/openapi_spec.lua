--- /openapi.json: derived from the rows, complete, and what the specs check every answer by.
local json = require "host.json"
local host = require "host"
local gateway = require "pyoco.gateway"
local gateway_app = require "spec.support.gateway_app"
local gives = require "pyoco.routes.gives"
local jsonschema = require "spec.support.jsonschema"
local openapi_check = require "spec.support.openapi_check"
local tmp = require "spec.support.tmp"

--- Calls visit(text) for every $ref of a value.
local function each_ref(value, visit)
  for key, inner in pairs(type(value) == "table" and value or {}) do
    if key == "$ref" then visit(inner) else each_ref(inner, visit) end
  end
end

describe("GET /openapi.json", function()
  local app, document

  setup(function()
    app = gateway_app.new()
    document = app:simulate { method = "GET", path = "/openapi.json" }.json
  end)

  it("is OpenAPI 3.1 with the reference's title", function()
    assert.same({ "3.1.0", "pyoco-server (HTTP gateway)", host.version },
      { document.openapi, document.info.title, document.info.version })
    assert.equal("X-API-Key", document.components.securitySchemes.key.name)
  end)

  it("has every route, once, with what it gives", function()
    local ids, missing, count = {}, {}, 0
    for _, row in ipairs(app:routes()) do
      local path = row.path:gsub(":([%a_]+)", "{%1}")
      local operation = assert((document.paths[path] or {})[row.method:lower()], row.name)
      assert.equal(row.name, operation.operationId)
      assert.equal(row.doc, operation.summary)
      if not (row.gives or gives.routes[row.name]) then missing[#missing + 1] = row.name end
      assert.is_nil(ids[row.name])
      ids[row.name], count = true, count + 1
    end
    assert.truthy(count > 30)
    assert(#missing == 0, "say in lua/pyoco/routes/gives.lua what these give: " .. table.concat(missing, ", "))
    for name in pairs(gives.routes) do assert.is_true(ids[name], name .. " is no route") end
  end)

  it("passes other validators: what is an array is one, nothing shared is unused", function()
    assert.equal("/", document.servers[1].url)
    local used = {}
    each_ref(document, function(name) used[name] = true end)
    for name in pairs(document.components.schemas) do
      assert.is_true(used["#/components/schemas/" .. name], name .. " is not used")
    end
    for path, operations in pairs(document.paths) do
      for _, operation in pairs(operations) do
        assert.is_true(json.is_array(operation.security), path)
        for _, requirement in ipairs(operation.security) do
          for scheme, scopes in pairs(requirement) do
            assert.is_not_nil(document.components.securitySchemes[scheme])
            assert.is_true(json.is_array(scopes), path)
          end
        end
      end
    end
  end)

  it("knows both forms of a worker's slots", function()
    jsonschema.root = document
    for _, slots in ipairs { 2, { gpu = 1, cpu = 8 } } do
      assert.same({}, jsonschema.validate(document.components.schemas.Worker,
        { worker_id = "w", state = "IDLE", hidden = false, tags = json.array {}, slots = slots }))
    end
  end)

  it("has parameters, bodies and errors from the rows", function()
    local list = document.paths["/runs"].get
    local limit
    for _, parameter in ipairs(list.parameters) do
      if parameter.name == "limit" then limit = parameter end
    end
    assert.same({ "query", { type = "integer", default = 50, minimum = 1, maximum = 200 } },
      { limit["in"], limit.schema })
    local submit = document.paths["/runs"].post
    local body = submit.requestBody.content["application/json"].schema
    assert.same({ "flow_name" }, body.required)
    assert.same({ "string", "null" }, body.properties.tag.type)
    assert.truthy(submit.responses["422"] and submit.responses["413"] and submit.responses["503"])
    local yaml = document.paths["/runs/yaml"].post.requestBody.content
    assert.truthy(yaml["multipart/form-data"] and yaml["text/yaml"])
    assert.same({ { name = "id", ["in"] = "path", required = true, schema = { type = "string" } } },
      document.paths["/runs/{id}/cancel"].post.parameters)
    assert.same({}, document.paths["/ready"].get.security)
    assert.same({ { key = {} }, {} }, document.paths["/runs"].get.security)
    assert.same({ { key = {} }, {} }, document.paths["/metrics"].get.security) -- open in some configurations only
  end)

  it("has references that lead somewhere", function()
    local count = 0
    each_ref(document, function(ref)
      assert.truthy(document.components.schemas[ref:match("^#/components/schemas/(.*)$")], ref)
      count = count + 1
    end)
    assert.truthy(count > 50)
  end)

  it("needs no key, and shows on /docs and /redoc", function()
    local page = app:simulate { method = "GET", path = "/docs" }.body
    for _, row in ipairs(app:routes()) do
      assert.truthy(page:find("<code>" .. row.path .. "</code>", 1, true), row.path)
    end
    local answer = app:simulate { method = "GET", path = "/redoc" }
    assert.same({ 307, "/docs" }, { answer.status, answer.headers.location })
    for _, row in ipairs(require "pyoco.routes.openapi") do assert.is_true(row.public) end
  end)

  it("has the rows that a script adds, with what they say that they give", function()
    local own = gateway_app.new()
    own:get("/hello/:name", function() return { hello = 1 } end, { name = "hello", doc = "Greets.",
      gives = { [200] = { schema = { type = "object" } } } })
    local operation = own:simulate { method = "GET", path = "/openapi.json" }.json.paths["/hello/{name}"].get
    assert.same({ "Greets.", { type = "object" } },
      { operation.summary, operation.responses["200"].content["application/json"].schema })
  end)

  it("is what `make docs` writes", function()
    assert.equal(gateway.openapi(), tmp.read(host.home .. "/docs/protocol/openapi.json"))
    assert.same(document, json.decode(gateway.openapi()))
  end)
end)

describe("the check of answers", function()
  local function fault(path, status, body, media)
    return openapi_check.fault("GET", path, { status = status, body = body,
      headers = { ["content-type"] = media or "application/json" } })
  end

  it("takes what fits, and leaves alone what is not ours", function()
    assert.is_nil(fault("/version", 200, '{"name":"a","version":"b"}'))
    assert.is_nil(fault("/runs/x", 404, '{"detail":"run not found"}'))
    assert.is_nil(fault("/runs?limit=x", 200, "[]"))
    assert.is_nil(fault("/hello", 200, "anything", "text/x"))
    assert.is_nil(fault("/runs/x", 500, "Internal Server Error", "text/plain; charset=utf-8"))
  end)

  it("finds a field that is missing or of another type, another status, another content type, no JSON", function()
    assert.truthy(fault("/version", 200, '{"name":"a"}'):find("lacks version", 1, true))
    assert.truthy(fault("/version", 200, '{"name":"a","version":1}'):find("wrong type", 1, true))
    assert.truthy(fault("/version", 204, ""):find("is not in the document", 1, true))
    assert.truthy(fault("/version", 200, "{}", "text/plain"):find("content type text/plain", 1, true))
    assert.truthy(fault("/version", 200, "{"):find("no JSON", 1, true))
    assert.truthy(fault("/runs/x", 404, '{"error":"x"}'):find("lacks detail", 1, true))
    assert.truthy(fault("/runs", 200, '[{"run_id":1}]'):find("fits none", 1, true))
    assert.truthy(fault("/runs/x/tasks", 200, "[]"):find("wrong type array", 1, true))
  end)
end)
