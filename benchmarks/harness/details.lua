-- Requests the details of files: the ids in the file IDS, uniformly or (ZIPF=1) as Zipf's law has it. QUERY is appended to each
-- path. With PAUSE_MS, each connection waits so long before its next request.
local token, query, pause = os.getenv("TOKEN"), os.getenv("QUERY") or "", tonumber(os.getenv("PAUSE_MS") or "")
local requests, at = {}, 0
function init()
  math.randomseed(7)
  local ids = {}
  for id in io.lines(os.getenv("IDS")) do ids[#ids + 1] = id end
  for n = 1, 65536 do
    local pick
    if os.getenv("ZIPF") == "1" then
      -- The inverse of the harmonic distribution: rank r with weight 1/r.
      pick = math.min(#ids, math.floor(math.exp(math.random() * math.log(#ids + 1))))
    else
      pick = math.random(1, #ids)
    end
    requests[n] = wrk.format("GET", "/v1/files/" .. ids[pick] .. query, { Authorization = "Bearer " .. token })
  end
end
function request()
  at = at % 65536 + 1
  return requests[at]
end
if pause then
  function delay() return pause end
end
done = dofile(os.getenv("LUA_FOLDER") .. "/done.lua")
