-- Writes whole states of persons, each only over an older `seq`. Touches no window, record or block. At most 64 a call.
--
-- KEYS  person (p) of each, then fence (f) of each;  ARGV  the state of each (person.py)
-- Reply: the fence of each, Unix ms, 0 where there is none. What it permits or stops holds for every claim after it.
local n = #ARGV
assert(#KEYS == 2 * n, 'apply: keys')
local read, seq_of = redis.call('MGET', unpack(KEYS)), struct.unpack
local latest, writes, fences = {}, {}, {}
for i = 1, n do
  local key, state = KEYS[i], ARGV[i]
  local was = latest[key] or read[i]
  if not was or seq_of('>I5', was) < seq_of('>I5', state) then
    writes[#writes + 1], writes[#writes + 2] = key, state -- of one person twice the later stands, in the order given
    latest[key] = state
  end
  fences[i] = tonumber(read[n + i] or 0)
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
return fences
