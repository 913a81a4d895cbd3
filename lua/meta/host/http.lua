---@meta host.http

--- HTTP client, for scripts; in a task use ctx:http.
---@class host.http
local M = {}

---@class host.http.Request
---@field url string
---@field method? string default GET, or POST with a body
---@field headers? table<string, string>
---@field body? string
---@field timeout_sec? number default 30; 0 = none
---@field connect_timeout_sec? number default 5
---@field max_bytes? integer of the body; default 64 MiB
---@field follow? boolean redirects
---@field ca_file? string
---@field on_headers? fun(status: integer, headers: table<string, string>)
---@field on_data? fun(chunk: string): boolean? false ends the request
---@field on_idle? fun(sent: integer, received: integer): boolean? bytes of bodies so far
---@field form? table[] { name, value } and { name =, path =, filename =, content_type = }: the body, files read as sent
---@field stall_sec? integer a transfer that does not move for so long is a "timeout"
---@field idle_ms? integer default 100

---@class host.http.Response
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string
---@field stopped boolean?

--- Sends a request and waits for its answer; blocks the thread.
---@param request host.http.Request
---@return host.http.Response? response
---@return string? message
---@return string? code "invalid"|"unavailable"|"timeout"|"too_large"|"cancelled"
function M.request(request) end

--- A request on the event loop. take() gives what has come of the body so far, each byte once, the status (0: none
--- yet) and the headers; nil once it has ended. stop() ends it without a call of done.
---@alias host.http.Transfer { stop: fun(self), take: fun(self): string?, integer?, table<string, string>? }

--- The same on the VM's event loop: returns at once, done is called once, with what was not taken before.
---@param request host.http.Request without on_headers, on_data and on_idle
---@param done fun(response: host.http.Response?, message: string?, code: string?)
---@return host.http.Transfer transfer
function M.start(request, done) end

--- Closes the connections that this VM has kept.
function M.close() end

--- A body of multipart/form-data.
---@param fields { [1]: string, [2]: string }[] name and value
---@param files { name: string, filename: string, content_type: string, data: string }[]
---@return string body
---@return string content_type
function M.multipart(fields, files) end

return M
