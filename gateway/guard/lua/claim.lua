-- Deliver's last look, at most 64 messages a call, each about to be written to a carrier's wire.
--
-- KEYS  cursors (c) of the lanes in the batch: ARGV[1] of them; person (p), block (b), record (m), windows (w) and
--       fence (f) of each message
-- ARGV  cursors, least cursor, clock ('0': the server's), plans, life of a record nobody remembers (ms),
--       messages, 15 bytes each (permission.lua, CLAIM): plan, approved, cursor, attempt, partition, offset
--
-- A record that says          claim(n) at p:o
--   taken(n)@p:o              go on: the commit past it never happened
--   taken(n)@elsewhere        DROP: a copy
--   done, void                DROP
--   reserved, held, unwritten go on, unless its attempt is newer than n: DROP
--   taken(< n)                go on: a retry is published only after its compare-and-set, so a failover lost that
--   taken(> n)                DROP
--   nothing                   go on. A flush is COLD until the rebuild has put records back, so what is absent here
--                             expired or fell into the second a failover may lose; "once" is carried by the commit
--                             ahead and the partition's ownership, not by this record
-- Going on: suppression, block and basis are checked again (not windows, not preferences).
--   stopped                   REFUSED: void with the code, windows given back; a used request stays used
--   permitted                 GO: taken(n)@p:o, and a fence of one second before which no opt-out is acknowledged
--
-- Reply, a message: GO: the entry that permits it, -1 none; {1, state} DROP; {2, code} REFUSED; {3} COLD.
local cursors, least, now = tonumber(ARGV[1]), tonumber(ARGV[2]), clock(ARGV[3])
local plans, life, claims = cmsgpack.unpack(ARGV[4]), ARGV[5], ARGV[6]
local n = #claims / CLAIM_BYTES
assert(#KEYS == cursors + 5 * n, 'claim: keys')
local read = redis.call('MGET', unpack(KEYS, 1, cursors + 3 * n))
local windows_at, fences_at = cursors + 3 * n, cursors + 4 * n
local FENCE_MS, fence = 2000, now + 1000
local function passes(state, was, at_partition, at_offset, attempt, partition, offset)
  if state == DONE or state == VOID or was > attempt then return false end
  if state == TAKEN and was == attempt then return at_partition == partition and at_offset == offset end
  return true
end

-- the record of a message that is stopped here; what it consumed is given back
local function ended(raw, windows, attempt, code)
  if not raw then return record_of(VOID, REFUNDED, attempt, 0, 0, 0, 0, 0, code, '') end
  local _, flags, _, _, _, stamp, basis, entry, size, at = head_of(raw)
  refund(windows, flags, stamp, string.sub(raw, at, at + size - 1))
  local left = bits_or(bits_and(flags, BOUND), REFUNDED)
  return record_of(VOID, left, attempt, 0, 0, stamp, basis, entry, code, string.sub(raw, at + size))
end

local function decide(i, plan_at, approved, cursor, attempt, partition, offset)
  if behind(read[cursor], least) then return {3} end
  local base, plan = cursors + 3 * i - 2, plans[plan_at]
  local key = KEYS[base + 2]
  local raw = written[key] or read[base + 2]
  local flags = 0
  if raw then
    local state, set, was, at_partition, at_offset = struct.unpack(PLACE, raw)
    if not passes(state, was, at_partition, at_offset, attempt, partition, offset) then return {1, state} end
    flags = set
  end
  local parts, block = parts_of(read[base]), read[base + 1]
  local code, basis, entry = stopped(plan, approved == 1, parts, block), nil, nil
  if not code then
    -- a request was consumed at admission and is this message's own
    basis, entry = permitted(plan, parts, block, now, true)
    if not basis then code = entry end
  end
  if code then
    put(key, ended(raw, KEYS[windows_at + i], attempt, code), raw and KEEP or life)
    return {2, code}
  end
  if raw then
    put(key, moved(raw, TAKEN, flags, attempt, partition, offset), KEEP)
  else
    put(key, record_of(TAKEN, 0, attempt, partition, offset, 0, basis, entry + 1, '', ''), life)
  end
  put(KEYS[fences_at + i], fence, FENCE_MS)
  return entry
end

local replies = {}
for i = 1, n do
  replies[i] = decide(i, struct.unpack(CLAIM, claims, CLAIM_BYTES * (i - 1) + 1))
end
flush()
return replies
