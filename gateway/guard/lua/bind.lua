-- Ties idempotency keys to message ids: the first wins. At most 64 a call.
--
-- KEYS  binding (i) of each;  ARGV  id (16 bytes) + fingerprint, life ms, of each
-- Reply: what stands: false where this one is now bound, else the bytes of the earlier one.
local replies = {}
for i = 1, #KEYS do
  replies[i] = redis.call('SET', KEYS[i], ARGV[2 * i - 1], 'NX', 'GET', 'PX', ARGV[2 * i])
end
return replies
