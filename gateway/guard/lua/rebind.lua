-- Puts bindings back. A key that was bound twice in the time read belongs to the younger id (ids begin with their time):
-- the elder was refused or expired in between. At most 64 a call.
--
-- KEYS  binding (i) of each;  ARGV  id + fingerprint, life ms, of each.  Reply: how many were written.
local found, written = redis.call('MGET', unpack(KEYS)), 0
for i = 1, #KEYS do
  local given = ARGV[2 * i - 1]
  if not found[i] or struct.unpack('>I6', found[i]) < struct.unpack('>I6', given) then
    redis.call('SET', KEYS[i], given, 'PX', ARGV[2 * i])
    written = written + 1
  end
end
return written
