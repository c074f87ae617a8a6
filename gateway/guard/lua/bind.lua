-- Ties idempotency keys to message ids: the first wins. At most 64 a call.
--
-- KEYS  binding (i) of each, then the cursors (c) of their lanes
-- ARGV  number of bindings, then id (16 bytes) + fingerprint, life ms, cursor (position among them), of each
-- Reply: what stands: false where this one is now bound, else the bytes of the earlier one; 0 where the lane is empty or
--   being filled: an earlier binding may not be back yet, so none is made.
local n = tonumber(ARGV[1])
assert(#ARGV == 3 * n + 1, 'bind: arguments')
local cursors, replies = redis.call('MGET', unpack(KEYS, n + 1)), {}
for i = 1, n do
  local cursor = cursors[tonumber(ARGV[3 * i + 1])]
  if not cursor or tonumber(cursor) < 0 then
    replies[i] = 0
  else
    replies[i] = redis.call('SET', KEYS[i], ARGV[3 * i - 1], 'NX', 'GET', 'PX', ARGV[3 * i])
  end
end
return replies
