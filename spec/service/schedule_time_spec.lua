--- Times of schedules: what is read, and what comes next.
local times = require "pyoco.service.schedule_time"

describe("service.schedule_time", function()
  for text, at in pairs {
    ["2020-01-01T00:00:00+00:00"] = 1577836800,
    ["  2020-01-01T00:00:00Z "] = 1577836800,
    ["2020-01-01 09:00:00.25+09:00"] = 1577836800.25,
    ["2019-12-31T19:00-05:00"] = 1577836800,
    ["2020-01-01T00Z"] = 1577836800,
    ["2024-02-29T23:59:59.999999+00:00"] = 1709251199.999999,
    ["1969-12-31T23:59:59Z"] = -1,
    ["2020-01-01T05:45:30+05:45:30"] = 1577836800,
    ["2020-01-01T09:00:00+0900"] = 1577836800, -- date +%z
    ["2020-01-01T09:00:00+09"] = 1577836800,
    ["20200101T090000+0900"] = 1577836800,
    ["20200101T000000.5Z"] = 1577836800.5,
  } do
    it("reads " .. text, function()
      local got = times.parse(text)
      assert.is_true(math.abs(got - at) < 1e-5, tostring(got))
      assert.equal("float", math.type(got))
    end)
  end

  for text, wrong in pairs {
    ["2020-01-01"] = "no_offset", ["2020-01-01T00:00:00"] = "no_offset",
    ["2020-13-01T00:00:00Z"] = "no_datetime", ["2021-02-29T00:00:00Z"] = "no_datetime",
    ["2020-01-01T24:00:00Z"] = "no_datetime", ["2020-01-01T00:60:00Z"] = "no_datetime",
    ["2020-01-01T00:00:00+9"] = "no_datetime", ["2020-01-01T00:00:00+25:00"] = "no_datetime",
    ["tomorrow"] = "no_datetime", [""] = "no_datetime", ["Z"] = "no_datetime", ["1577836800"] = "no_datetime",
    ["2020-01-01T0:00:00Z"] = "no_datetime", ["0000-01-01T00:00:00Z"] = "no_datetime",
    ["2020-01-01T00:00:00ZZ"] = "no_datetime", ["2020-01-01Tnoon"] = "no_datetime",
  } do
    it(("says of %q: %s"):format(text, wrong), function()
      local at, why = times.parse(text)
      assert.is_nil(at)
      assert.equal(wrong, why)
    end)
  end

  it("finds the first time after now on the grid of the start", function()
    for _, case in ipairs {
      { 1000, 60, 0, 1000 }, { 1000, 60, 1000, 1060 }, { 1000, 60, 1059.9, 1060 }, { 1000, 60, 1060, 1120 },
      { 0, 3600, 1795327450.2792172, 1795330800 }, { 0, 0.1, 1795327450.25, 1795327450.3 },
    } do
      local at = times.next(case[1], case[2], case[3])
      assert.is_true(math.abs(at - case[4]) < 1e-6, ("%s %s"):format(case[4], at))
      assert.is_true(at > case[3])
    end
  end)

  it("always comes to a time after now, however odd the interval", function()
    for _, interval in ipairs { 1e-300, 1e-9, 0.3, 1e18, 1e300 } do
      for _, now in ipairs { 0, 1795327450.2792172, 4e9 } do
        local at = times.next(1e9, interval, now)
        assert.is_true(at > now and at < math.huge, ("%s %s %s"):format(interval, now, at))
      end
    end
  end)
end)
