-- Gives back what one message consumed: exactly one entry equal to its stamp from each field it wrote. The caller sets
-- REFUNDED (or voids the record) in the same call, so it happens once.
local function refund(windows, flags, stamp, consumed)
  if #consumed == 0 or bit.band(flags, REFUNDED) ~= 0 then return false end
  local entry, names = struct.pack(STAMP, stamp), consumed
  local writes, empties = {}, {}
  local function take(field, log, what, size)
    local left, found = removed(log, what, size)
    if found and #left == 0 then
      empties[#empties + 1] = field
    elseif found then
      writes[#writes + 1] = field
      writes[#writes + 1] = left
    end
  end
  local fields = {}
  if bit.band(flags, TEXT) ~= 0 then
    fields[1], names = 'x', string.sub(consumed, 9)
  end
  for field in string.gmatch(names, '[^%z]+') do fields[#fields + 1] = field end
  local logs = redis.call('HMGET', windows, unpack(fields))
  for i = 1, #fields do
    if logs[i] then
      if fields[i] == 'x' then
        take('x', logs[i], string.sub(consumed, 1, 8) .. entry, TEXT_BYTES)
      else
        take(fields[i], logs[i], entry, 6)
      end
    end
  end
  if #writes > 0 then redis.call('HSET', windows, unpack(writes)) end
  if #empties > 0 then redis.call('HDEL', windows, unpack(empties)) end
  return true
end
