-- Lets each thread of wrk write a fixed number of times, then stay silent: what wrk counts at its
-- end is then all that was sent. Arguments: writes of a thread, requests in a write.

local writes, allowed, message

function init(arguments)
  allowed = tonumber(arguments[1])
  writes = 0
  local request = wrk.format("GET")
  message = string.rep(request, tonumber(arguments[2]))
end

-- Asked before each write.
function delay()
  writes = writes + 1
  if writes > allowed then
    return 1000000
  end
  return 0
end

function request()
  return message
end
