-- Moves taken records on: 'done', 'unwritten' or 'requeue'. At most 64 a call.
--
-- KEYS  record (m) of each;  ARGV  what, life of an unbound record after done (ms), attempt of each (0: any)
-- done       taken, unwritten -> done. A bound record keeps its life (its answer is replayed), another gets the short one
-- unwritten  taken -> unwritten: nothing of it reached a wire
-- requeue    taken(n) -> reserved(n + 1), for a retry or a parking about to be published
-- Reply: 1 moved, 0 not in the state it must be in.
local what, short = ARGV[1], ARGV[2]
local replies = {}
for i = 1, #KEYS do
  local raw, moved = redis.call('GET', KEYS[i]), 0
  if raw then
    local state, flags, attempt, partition, offset, stamp, basis, entry, size, at = head_of(raw)
    local wanted = tonumber(ARGV[2 + i])
    local same = wanted == 0 or wanted == attempt
    local to
    if what == 'done' and (state == TAKEN or state == UNWRITTEN) then to = DONE end
    if what == 'unwritten' and state == TAKEN then to = UNWRITTEN end
    if what == 'requeue' and state == TAKEN then to = RESERVED end
    if to and same then
      local next_attempt = to == RESERVED and attempt + 1 or attempt
      local consumed, answer = string.sub(raw, at, at + size - 1), string.sub(raw, at + size)
      local bytes = record_of(to, flags, next_attempt, partition, offset, stamp, basis, entry, consumed, answer)
      if to == DONE and bit.band(flags, BOUND) == 0 then
        redis.call('SET', KEYS[i], bytes, 'PX', short)
      else
        redis.call('SET', KEYS[i], bytes, 'KEEPTTL')
      end
      moved = 1
    end
  end
  replies[i] = moved
end
return replies
