local router = require "pyoco.http.router"

describe("pyoco.http.router", function()
  local r

  before_each(function()
    r = router.new()
    for _, pattern in ipairs { "/", "/runs", "/runs/:id", "/runs/yaml", "/runs/:id/tasks", "/runs/:id/tasks/:task",
      "/files/*path", "/runs/yaml/check" } do
      r:add("GET", pattern, { name = pattern })
    end
    r:add("POST", "/runs", { name = "submit" })
  end)

  local function found(path, method)
    local row, params = r:find(method or "GET", path)
    return row and row.name or params, row and params or nil
  end

  it("finds literals before variables before rests", function()
    assert.equal("/", found "/")
    assert.equal("/runs/yaml", found "/runs/yaml")
    local name, params = found "/runs/abc"
    assert.equal("/runs/:id", name)
    assert.same({ id = "abc" }, params)
    name, params = found "/files/a/b/c"
    assert.equal("/files/*path", name)
    assert.same({ path = "a/b/c" }, params)
  end)

  it("goes back from a literal that leads nowhere", function()
    local name, params = found "/runs/yaml/tasks"
    assert.equal("/runs/:id/tasks", name)
    assert.same({ id = "yaml" }, params)
    name, params = found "/runs/1/tasks/2"
    assert.equal("/runs/:id/tasks/:task", name)
    assert.same({ id = "1", task = "2" }, params)
  end)

  it("unescapes after matching, so that an escaped slash is part of a name", function()
    local _, params = found "/runs/a%2Fb%20c%zz"
    assert.same({ id = "a/b c%zz" }, params)
  end)

  it("tells an unknown path from a wrong method", function()
    for _, path in ipairs { "/nope", "/runs/", "/runs//tasks", "/runs/1/nope", "/runs/1/tasks/2/3", "//", "/Runs" } do
      assert.equal("not_found", found(path), path)
    end
    local row, what, allow = r:find("DELETE", "/runs")
    assert.is_nil(row)
    assert.equal("method", what)
    assert.equal("GET, POST", allow)
  end)

  it("refuses rows that could never be told apart, and bad patterns", function()
    assert.error_matches(function() r:add("GET", "/runs/:other", {}) end, "route GET /runs/:other is there already")
    assert.error_matches(function() r:add("GET", "runs", {}) end, "the path must begin with /")
    assert.error_matches(function() r:add("GET", "/a/*x/b", {}) end, "must be the last segment")
  end)
end)
