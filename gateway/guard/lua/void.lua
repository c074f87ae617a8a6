-- Ends reservations that will not be sent, and gives windows back. At most 64 a call.
--
-- KEYS  record (m), windows (w), used request (u; the record again where there is none) of each
-- ARGV  'void' or 'refund', the code, life of a record nobody remembers (ms)
-- void    reserved, held -> void, with refund; anything else stays. Reply: the state found, 'void' when it is now void.
--         The request it used up is free again.
--         SHARED stays too where the code is `unavailable`: one publish failed, but another may have been acknowledged
--         absent -> void too, and the reply says absent: after a flush its message may still land, and be put back
-- refund  any state: gives windows back, once, and changes nothing else. Reply: 1 given back, 0 not (again).
local replies = {}

local function free(record, request)
  if request ~= record and redis.call('GET', request) == string.sub(record, -16) then redis.call('DEL', request) end
end

for i = 1, #KEYS, 3 do
  local raw = redis.call('GET', KEYS[i])
  local reply = 0 -- absent
  if raw then
    local state, flags, attempt, partition, offset, stamp, basis, entry, size, at = head_of(raw)
    local consumed = string.sub(raw, at, at + size - 1)
    if ARGV[1] == 'refund' then
      if refund(KEYS[i + 1], flags, stamp, consumed) then
        local answer = string.sub(raw, at + size)
        flags = bits_or(flags, REFUNDED)
        local kept = record_of(state, flags, attempt, partition, offset, stamp, basis, entry, consumed, answer)
        redis.call('SET', KEYS[i], kept, 'KEEPTTL')
        reply = 1
      end
    elseif bits_and(flags, SHARED) ~= 0 and ARGV[2] == UNAVAILABLE then
      reply = state
    elseif state == RESERVED or state == HELD then
      local answer = string.sub(raw, at + size)
      free(KEYS[i], KEYS[i + 2])
      refund(KEYS[i + 1], flags, stamp, consumed)
      flags = bits_or(bits_and(flags, BOUND), REFUNDED)
      redis.call('SET', KEYS[i], record_of(VOID, flags, attempt, 0, 0, stamp, basis, entry, ARGV[2], answer), 'KEEPTTL')
      reply = VOID
    else
      reply = state
    end
  end
  if not raw and ARGV[1] == 'void' then
    free(KEYS[i], KEYS[i + 2])
    redis.call('SET', KEYS[i], record_of(VOID, REFUNDED, 1, 0, 0, 0, 0, 0, ARGV[2], ''), 'PX', ARGV[3])
  end
  replies[#replies + 1] = reply
end
return replies
