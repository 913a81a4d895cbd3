--- `make docs`: writes docs/protocol/ (spec/support/protocol_pages.lua).
local host = require "host"
package.path = host.home .. "/?.lua;" .. package.path
local pages = require "spec.support.protocol_pages"
local tmp = require "spec.support.tmp"

for path, text in pairs(pages.whole()) do tmp.write(host.home .. "/" .. path, text) end
for _, path in ipairs(pages.PAGES) do
  local full = host.home .. "/" .. path
  tmp.write(full, (pages.render(assert(tmp.read(full)))))
end
