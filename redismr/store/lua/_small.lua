-- Whether little was shuffled, by few maps: what one script may copy, and one executor reduce.
local SMALL_SHUFFLE, FEW_MAPS = 262144, 64
local function is_small()
  local m = redis.call('HMGET', meta, 'shuffled', 'n_map')
  return (tonumber(m[1]) or 0) <= SMALL_SHUFFLE and (tonumber(m[2]) or math.huge) <= FEW_MAPS
end

-- How many reducers an executor gets together that would take so many: those of a job that is small. The
-- pace of another one says too little of the rest, where each may be long, and others must not wait.
local function together(reducers, small)
  return small and tonumber(reducers) or math.min(1, tonumber(reducers))
end
