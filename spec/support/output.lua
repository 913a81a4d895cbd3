--- busted output: a line per file while it runs, failures in full, "N passed, N failed" last.
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local started, file_name, count = os.clock(), nil, 0

  local function flush_file()
    if file_name then
      io.write(("%-50s %d\n"):format(file_name, count))
      io.flush()
    end
    file_name, count = nil, 0
  end

  handler.fileStart = function(file)
    flush_file()
    file_name = file.name:gsub("^.*/spec/", "spec/")
    return nil, true
  end

  handler.testEnd = function()
    count = count + 1
    return nil, true
  end

  local function show(kind, list)
    for _, item in ipairs(list) do
      local message = type(item.message) == "table" and item.message.message or item.message
      io.write(("\n%s %s\n%s\n"):format(kind, item.name or "", tostring(message)))
      if item.trace and item.trace.traceback then io.write(item.trace.traceback, "\n") end
    end
  end

  handler.suiteEnd = function()
    flush_file()
    show("FAILED", handler.failures)
    show("ERROR", handler.errors)
    for _, item in ipairs(handler.pendings) do io.write("PENDING ", item.name, "\n") end
    io.write(("%.1f s of CPU\n"):format(os.clock() - started))
    io.write(("%d passed, %d failed\n"):format(handler.successesCount, handler.failuresCount + handler.errorsCount))
    io.flush()
    return nil, true
  end

  busted.subscribe({ "suite", "reset" }, handler.baseSuiteReset)
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  busted.subscribe({ "file", "start" }, handler.fileStart)
  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  return handler, options
end
