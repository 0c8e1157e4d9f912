-- Requests random aligned ranges of PART bytes of a file of SIZE bytes, with the token TOKEN. The requests are made in advance.
local size, part, token = tonumber(os.getenv("SIZE")), tonumber(os.getenv("PART")), os.getenv("TOKEN")
local requests, at = {}, 0
function init()
  math.randomseed(7)
  for n = 1, 4096 do
    local from = math.random(0, size / part - 1) * part
    local headers = { Range = string.format("bytes=%d-%d", from, from + part - 1) }
    if token and token ~= "" then headers.Authorization = "Bearer " .. token end
    requests[n] = wrk.format("GET", nil, headers)
  end
end
function request()
  at = at % 4096 + 1
  return requests[at]
end
done = dofile(os.getenv("LUA_FOLDER") .. "/done.lua")
