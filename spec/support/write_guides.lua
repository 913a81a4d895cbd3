--- `make docs`: writes pictures and records into the guides, see spec/support/guide.lua.
local host = require "host"
package.path = host.home .. "/?.lua;" .. package.path
local guide = require "spec.support.guide"
local tmp = require "spec.support.tmp"

for _, path in ipairs(guide.PAGES) do
  local full = host.home .. "/" .. path
  tmp.write(full, (guide.render(assert(tmp.read(full)))))
end
