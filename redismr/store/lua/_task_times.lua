-- How long the last few batches of a stage took per task, in meta.task_times_m and meta.task_times_r:
-- clear text, and only a hint of what is slow. No result and no budget depends on it.
local function parse_times(times)
  local list = {}
  for ms in string.gmatch(times or '', '%d+') do list[#list + 1] = tonumber(ms) end
  return list
end

-- The field with one more time, and without the oldest one.
local function append_time(times, took_ms)
  local list = parse_times(times)
  while #list >= TASK_TIME_SAMPLES do table.remove(list, 1) end
  list[#list + 1] = math.max(0, math.floor(took_ms))
  return table.concat(list, ' ')
end

-- A figure that has grown. Anybody may have written to it, and clocks may be set back.
local function increased(figure, amount)
  local before = #(figure or '') <= MAX_FIGURE_DIGITS and string.match(figure or '', '^%d+$') or 0
  return string.format('%d', before + math.max(0, amount))
end

-- The median, or 0 if no task of the stage is done yet.
local function median_time(stage)
  local list = parse_times(redis.call('HGET', meta, 'task_times_' .. stage))
  table.sort(list)
  return list[math.ceil(#list / 2)] or 0
end
