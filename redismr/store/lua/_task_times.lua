-- How long the last few batches of a stage took per task, in meta.pace_m and meta.pace_r: clear text,
-- and only a hint of what is slow. No result and no budget depends on it.
local PACE_SAMPLES = 15

local function parse_times(pace)
  local list = {}
  for ms in string.gmatch(pace or '', '%d+') do list[#list + 1] = tonumber(ms) end
  return list
end

-- The field, with one more.
local function append_time(pace, took_ms)
  local list = parse_times(pace)
  while #list >= PACE_SAMPLES do table.remove(list, 1) end
  list[#list + 1] = math.max(0, math.floor(took_ms))
  return table.concat(list, ' ')
end

-- A figure that has grown: anybody may have written there, and clocks may be set back.
local function increased(figure, amount)
  local before = #(figure or '') < 16 and string.match(figure or '', '^%d+$') or 0
  return string.format('%d', before + math.max(0, amount))
end

-- 0 if no task of the stage is done yet.
local function median_time(stage)
  local list = parse_times(redis.call('HGET', meta, 'pace_' .. stage))
  table.sort(list)
  return list[math.ceil(#list / 2)] or 0
end
