--- How each outcome of a delivery is settled: the one table that turns outcomes into acks and dead letters
--- (CONTRACT 11.2, DESIGN D3 and D6).
local M = {}

local NAK_DELAY_SEC = 2.0

--- name -> ack ("ack", "nak", "term", "none"), delay_sec or delay = "ack_wait" of a nak, dlq reason, doc.
M.TABLE = {
  completed      = { ack = "ack", doc = "every task ended well; COMPLETED is stored" },
  failed         = { ack = "ack", dlq = "execution_error", optional_dlq = true,
    doc = "a task failed; FAILED is stored" },
  cancelled      = { ack = "ack", doc = "CANCELLED is stored" },
  flow_not_found = { ack = "ack", dlq = "flow_not_found", doc = "no such flow here; FAILED is stored" },
  invalid_flow   = { ack = "ack", doc = "the flow cannot be built; FAILED is stored" },
  invalid_job    = { ack = "term", dlq = "invalid_job", doc = "the message is not a job" },
  skipped        = { ack = "ack", doc = "ended, deleted, unapproved or republished: nothing was run" },
  discarded      = { ack = "ack", doc = "the run ended in another way meanwhile; the result is dropped" },
  fenced         = { ack = "none", doc = "a newer attempt has the run" },
  busy           = { ack = "nak", delay = "ack_wait", doc = "another message's attempt is alive" },
  unavailable    = { ack = "nak", delay_sec = NAK_DELAY_SEC, doc = "NATS failed before the run began" },
  handed_back    = { ack = "nak", delay_sec = 0, doc = "drained, or its slot died: another attempt comes" },
  worker_crashed = { ack = "term", dlq = "worker_crashed", doc = "its slots died too often; FAILED is stored" },
  max_attempts   = { ack = "term", dlq = "max_attempts", doc = "the last delivery; FAILED is stored" },
  republished    = { ack = "ack", doc = "published again, as a new message" },
  internal       = { ack = "nak", delay_sec = NAK_DELAY_SEC, doc = "a fault of ours; logged" },
}

local PAYLOAD = { ack = "+ACK", term = "+TERM" }

--- The ack's payload, and the dead letter's reason if there is one.
---@param name string outcome
---@param opts table { ack_wait_sec, execution_error_dlq = bool }
---@return string|nil payload nil: send nothing
---@return string|nil reason
function M.settle(name, opts)
  local row = M.TABLE[name] or error("no such outcome: " .. tostring(name), 2)
  local reason = row.dlq
  if row.optional_dlq and not opts.execution_error_dlq then reason = nil end
  if row.ack == "none" then return nil, reason end
  if row.ack ~= "nak" then return PAYLOAD[row.ack], reason end
  local delay = row.delay == "ack_wait" and opts.ack_wait_sec or row.delay_sec
  if delay <= 0 then return "-NAK", reason end
  return ('-NAK {"delay": %d}'):format(math.floor(delay * 1e9)), reason
end

return M
