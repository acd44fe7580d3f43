-- Makes wrk write several requests at once; the first argument says how many.

local message

function init(arguments)
  message = string.rep(wrk.format("GET"), tonumber(arguments[1]))
end

function request()
  return message
end
