-- Publishes an event on a transaction's channel and on the channel of all, if there is one. An event is a
-- hint: a user who may not publish (ACL) takes the step that it belongs to all the same.
local function publish_event(channel, all_channel, event)
  if channel == '' or event == '' then return end
  redis.pcall('PUBLISH', channel, event)
  redis.pcall('PUBLISH', all_channel, event)
end
