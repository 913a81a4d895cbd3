local json = require "host.json"
local validate = require "pyoco.http.validate"

--- The faults of one field as "type|msg", or the value.
local function try(row, value)
  local schema = { { "f", table.unpack(row) } }
  for key, option in pairs(row) do
    if type(key) == "string" then schema[1][key] = option end
  end
  local result, faults = validate.body(schema, { f = value })
  if result then return result.f end
  return faults[1].type .. "|" .. faults[1].msg
end

describe("pyoco.http.validate", function()
  for what, case in pairs {
    ["a string"] = { { "string" }, "x", "x" },
    ["no string"] = { { "string" }, 1, "string_type|Input should be a valid string" },
    ["null for a string"] = { { "string" }, json.null, "string_type|Input should be a valid string" },
    ["an empty string"] = { { "string", min_length = 1 }, "",
      "string_too_short|String should have at least 1 character" },
    ["a long string"] = { { "string", max_length = 2 }, "äöü",
      "string_too_long|String should have at most 2 characters" },
    ["a pattern"] = { { "string", pattern = "^[A-Za-z0-9_-]+$" }, "a.b",
      "string_pattern_mismatch|String should match pattern '^[A-Za-z0-9_-]+$'" },
    ["a matching pattern"] = { { "string", pattern = "^[A-Za-z0-9_-]+$" }, "a-b_1", "a-b_1" },
    ["a choice"] = { { "string", choices = { "a", "b", "c" } }, "d", "literal_error|Input should be 'a', 'b' or 'c'" },
    ["an integer"] = { { "integer" }, 5, 5 },
    ["an integer as text"] = { { "integer" }, "5", 5 },
    ["an integer as float"] = { { "integer" }, 5.0, 5 },
    ["a fraction"] = { { "integer" }, 5.5,
      "int_from_float|Input should be a valid integer, got a number with a fractional part" },
    ["text for an integer"] = { { "integer" }, "5x",
      "int_parsing|Input should be a valid integer, unable to parse string as an integer" },
    ["a list for an integer"] = { { "integer" }, {}, "int_type|Input should be a valid integer" },
    ["too small"] = { { "integer", ge = 1 }, 0, "greater_than_equal|Input should be greater than or equal to 1" },
    ["too large"] = { { "integer", le = 200 }, 201, "less_than_equal|Input should be less than or equal to 200" },
    ["a number"] = { { "number" }, "1.5", 1.5 },
    ["text for a number"] = { { "number" }, "nan",
      "float_parsing|Input should be a valid number, unable to parse string as a number" },
    ["hexadecimal"] = { { "number" }, "0x10",
      "float_parsing|Input should be a valid number, unable to parse string as a number" },
    ["an overflow"] = { { "number" }, "1e999", "finite_number|Input should be a finite number" },
    ["a boolean"] = { { "boolean" }, false, false },
    ["a boolean as text"] = { { "boolean" }, "Yes", true },
    ["text for a boolean"] = { { "boolean" }, "maybe",
      "bool_parsing|Input should be a valid boolean, unable to interpret input" },
    ["a list for an object"] = { { "object" }, json.array {}, "dict_type|Input should be a valid dictionary" },
    ["an object for a list"] = { { "array" }, { a = 1 }, "list_type|Input should be a valid list" },
    ["a wrong item"] = { { "array", items = "string" }, json.array { "a", 1 },
      "string_type|Input should be a valid string" },
  } do
    it("takes or refuses " .. what, function() assert.same(case[3], try(case[1], case[2])) end)
  end

  it("lists all faults together, in pydantic's shape", function()
    local schema = { { "flow_name", "string", required = true, min_length = 1 }, { "params", "object", default = {} },
      { "tag", "string", nullable = true, pattern = "^[a-z]+$" } }
    local fields, faults = validate.body(schema, { params = json.null, tag = "" })
    assert.is_nil(fields)
    local texts = {}
    for i, fault in ipairs(faults) do texts[i] = json.encode(fault, { sort = true }) end
    assert.same({
      [[{"input":{"params":null,"tag":""},"loc":["body","flow_name"],"msg":"Field required","type":"missing"}]],
      [[{"input":null,"loc":["body","params"],"msg":"Input should be a valid dictionary","type":"dict_type"}]],
      [[{"ctx":{"pattern":"^[a-z]+$"},"input":"","loc":["body","tag"],]] ..
        [["msg":"String should match pattern '^[a-z]+$'","type":"string_pattern_mismatch"}]],
    }, texts)
  end)

  it("gives defaults, takes null where it is nullable, ignores what it does not know", function()
    local schema = { { "a", "integer", default = 5 }, { "b", "string", nullable = true }, { "c", "string" } }
    assert.same({ a = 5 }, validate.body(schema, { b = json.null, other = 1 }))
  end)

  it("says where in a list the fault is", function()
    local _, faults = validate.body({ { "tags", "array", items = "string" } }, { tags = json.array { "a", 1 } })
    assert.same({ "body", "tags", 1 }, { table.unpack(faults[1].loc) })
  end)

  it("reads queries: the last value counts, lists keep all", function()
    local schema = { { "limit", "integer", default = 50, ge = 1 }, { "include", "string", list = true },
      { "hidden", "boolean" } }
    assert.same({ limit = 3, include = { "a", "b" }, hidden = true }, validate.query(schema,
      { limit = { "1", "3" }, include = { "a", "b" }, hidden = { "on" } }))
    local _, faults = validate.query(schema, { limit = { "x" } })
    assert.same({ "query", "limit" }, { table.unpack(faults[1].loc) })
  end)

  it("reads forms: files are files, empty values absent", function()
    local schema = { { "workflow", "file", required = true }, { "tag", "string" },
      { "name", "string", required = true } }
    local file = { name = "workflow", filename = "x", data = "d" }
    assert.same({ workflow = file, name = "n" }, validate.form(schema,
      { file, { name = "tag", data = "" }, { name = "name", filename = "f", data = "n" } }))
    local _, faults = validate.form(schema, { { name = "workflow", data = "text" }, { name = "name", data = "" } })
    assert.equal("value_error", faults[1].type)
    assert.equal("missing", faults[2].type)
  end)

  it("refuses bodies that are no object", function()
    for _, value in ipairs { 1, "x", json.array { 1 } } do
      local _, faults = validate.body({}, value)
      assert.equal("model_attributes_type", faults[1].type)
    end
  end)
end)
