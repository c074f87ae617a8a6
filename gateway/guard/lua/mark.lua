-- Moves taken records on: 'done', 'unwritten' or 'requeue'. At most 64 a call.
--
-- KEYS  record (m) of each;  ARGV  what, life of an unbound record after done (ms), attempt of each (0: any)
-- done       taken, unwritten -> done. A bound record keeps its life (its answer is replayed), another gets the short one
-- unwritten  taken -> unwritten: nothing of it reached a wire
-- requeue    taken(n) -> reserved(n + 1), for a retry or a parking about to be published
-- Reply: 1 moved, 0 not in the state it must be in.
local what, short = ARGV[1], ARGV[2]
local read, replies = redis.call('MGET', unpack(KEYS)), {}

-- the state it goes to, or nil
local function target(state)
  if what == 'done' and (state == TAKEN or state == UNWRITTEN) then return DONE end
  if what == 'unwritten' and state == TAKEN then return UNWRITTEN end
  if what == 'requeue' and state == TAKEN then return RESERVED end
  return nil
end

local function mark(key, raw, wanted)
  if not raw then return 0 end
  local state, flags, attempt, partition, offset = struct.unpack(PLACE, raw)
  local to = target(state)
  if not to or (wanted ~= 0 and wanted ~= attempt) then return 0 end
  if to == RESERVED then attempt = attempt + 1 end
  local bytes = moved(raw, to, flags, attempt, partition, offset)
  put(key, bytes, to == DONE and bits_and(flags, BOUND) == 0 and short or KEEP)
  return 1
end

for i = 1, #KEYS do
  local key = KEYS[i]
  replies[i] = mark(key, written[key] or read[i], tonumber(ARGV[2 + i]))
end
flush()
return replies
