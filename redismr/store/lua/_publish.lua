-- Publishes an event on a transaction's channel and on that of all, if there is one. A hint: where this
-- user may not publish (ACL), the step it belongs to is taken all the same, and whole.
local function publish_event(channel, all_channel, event)
  if channel == '' or event == '' then return end
  redis.pcall('PUBLISH', channel, event)
  redis.pcall('PUBLISH', all_channel, event)
end
