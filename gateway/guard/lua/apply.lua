-- Writes whole states of persons, each only over an older `seq`. Touches no window, record or block. At most 64 a call.
--
-- KEYS  person (p) of each, then fence (f) of each;  ARGV  the state of each (person.py)
-- Reply: the fence of each, Unix ms, 0 where there is none. What it permits or stops holds for every claim after it.
local n = #ARGV
local read = redis.call('MGET', unpack(KEYS))
local written, fences = {}, {}
for i = 1, n do
  local was = written[KEYS[i]] or read[i]
  if not was or struct.unpack('>I5', was) < struct.unpack('>I5', ARGV[i]) then
    redis.call('SET', KEYS[i], ARGV[i])
    written[KEYS[i]] = ARGV[i]
  end
  fences[i] = tonumber(read[n + i] or 0)
end
return fences
