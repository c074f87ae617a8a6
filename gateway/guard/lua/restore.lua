-- Puts back what a flush or a failover lost: records with the windows they consumed, and stamps kept elsewhere. Safe to
-- repeat: a record that is there is left alone, windows included; of stamps each is there as often as it is given.
--
-- KEYS  with ARGV[1] 'records': record (m), windows (w) of each; with 'stamps': windows (w) of each
-- ARGV  what, items (msgpack)
--   records  [[record (record.py), life ms, stamp, fields, longest period ms, text hash + stamp ('': none)], …]
--   stamps   [[field, [stamps, ascending], period ms], …]
-- Reply: 1 written, 0 was there.
local what, items = ARGV[1], cmsgpack.unpack(ARGV[2])

local function stamps_of(log)
  local stamps = {}
  for at = 1, log and #log - 5 or 0, 6 do stamps[#stamps + 1] = stamp_at(STAMP, log, at) end
  return stamps
end

local function log_of(stamps)
  table.sort(stamps)
  local packed = {}
  for i = math.max(1, #stamps - 63), #stamps do packed[#packed + 1] = struct.pack(STAMP, stamps[i]) end
  return table.concat(packed)
end

-- what is given and not there yet, as often as it is given
local function missing(stamps, given)
  local there, lacking = {}, {}
  for _, stamp in ipairs(stamps) do there[stamp] = (there[stamp] or 0) + 1 end
  for _, stamp in ipairs(given) do
    local left = there[stamp] or 0
    if left > 0 then there[stamp] = left - 1 else lacking[#lacking + 1] = stamp end
  end
  return lacking
end

local function live_until(key, needed)
  local ends = redis.call('HGET', key, 'e')
  if not ends or stamp_at(STAMP, ends) < needed then
    redis.call('HSET', key, 'e', struct.pack(STAMP, needed + HOUR))
    redis.call('PEXPIREAT', key, needed + HOUR)
  end
end

local function texts_with(log, text)
  local texts = {}
  for at = 1, log and #log - 13 or 0, TEXT_BYTES do texts[#texts + 1] = slice(log, at, at + 13) end
  texts[#texts + 1] = text
  table.sort(texts, function(a, b) return stamp_at(STAMP, a, 9) < stamp_at(STAMP, b, 9) end)
  return table.concat(texts)
end

local function put_back(record, windows, item)
  if not redis.call('SET', record, item[1], 'NX', 'PX', item[2]) then return 0 end
  local stamp, fields = item[3], item[4]
  for _, field in ipairs(fields) do
    local stamps = stamps_of(redis.call('HGET', windows, field))
    stamps[#stamps + 1] = stamp
    redis.call('HSET', windows, field, log_of(stamps))
  end
  if #item[6] > 0 then redis.call('HSET', windows, 'x', texts_with(redis.call('HGET', windows, 'x'), item[6])) end
  if #fields > 0 or #item[6] > 0 then live_until(windows, stamp + item[5]) end
  return 1
end

local function complete(windows, field, given, period)
  local stamps = stamps_of(redis.call('HGET', windows, field))
  local lacking = missing(stamps, given)
  if #lacking == 0 then return 0 end
  for _, stamp in ipairs(lacking) do stamps[#stamps + 1] = stamp end
  redis.call('HSET', windows, field, log_of(stamps))
  live_until(windows, stamps[#stamps] + period)
  return 1
end

local replies = {}
for i, item in ipairs(items) do
  if what == 'records' then
    replies[i] = put_back(KEYS[2 * i - 1], KEYS[2 * i], item)
  else
    replies[i] = complete(KEYS[i], item[1], item[2], item[3])
  end
end
return replies
