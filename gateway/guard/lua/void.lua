-- Ends reservations that will not be sent, and gives windows back. At most 64 a call.
--
-- KEYS  record (m), windows (w) of each;  ARGV  'void' or 'refund', the code, life of a record nobody remembers (ms)
-- void    reserved, held -> void, with refund; anything else stays. Reply: the state found, 'void' when it is now void.
--         absent -> void too, and the reply says absent: after a flush its message may still land, and be put back
-- refund  any state: gives windows back, once, and changes nothing else. Reply: 1 given back, 0 not (again).
local replies = {}
for i = 1, #KEYS, 2 do
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
    elseif state == RESERVED or state == HELD then
      refund(KEYS[i + 1], flags, stamp, consumed)
      flags = bits_or(bits_and(flags, BOUND), REFUNDED)
      redis.call('SET', KEYS[i], record_of(VOID, flags, attempt, 0, 0, stamp, basis, entry, '', ARGV[2]), 'KEEPTTL')
      reply = VOID
    else
      reply = state
    end
  end
  if not raw and ARGV[1] == 'void' then
    redis.call('SET', KEYS[i], record_of(VOID, REFUNDED, 1, 0, 0, 0, 0, 0, '', ARGV[2]), 'PX', ARGV[3])
  end
  replies[#replies + 1] = reply
end
return replies
