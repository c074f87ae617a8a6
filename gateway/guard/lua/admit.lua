-- Decides on up to 64 messages, one after another, so that two to one recipient see each other.
--
-- KEYS  cursors (c) of the lanes in the batch: ARGV[1] of them
--       person (p), block (b), record (m) of each message
--       used requests (u): ARGV[2] of them
--       windows (w) of each message
-- ARGV  cursors, requests, least cursor, clock ('0': the server's), plans (plans.py),
--       midnights [[previous, today, next …], …], messages
--       [[plan, mode, bound, approved, cursor, midnights, minute of the day, attempt, record life ms, text hash,
--         request (0: none), request life ms, answer, id], …]
-- mode  0 ADMIT, 1 HOLD, 2 RELEASE, 4 RECALL
--
-- For each message everything is checked, in this order, then everything is written, or nothing:
--   cursor missing or behind                       -> cache.cold
--   record     ADMIT, HOLD: reserved, held, taken, done, unwritten -> replay (the first two are SHARED from then on);
--                       void after an answer, by a key -> replay; else void, absent -> go on
--              RECALL: as ADMIT, but what would go on is refused: unavailable
--              RELEASE: held, absent -> go on; reserved with the same attempt > 1 -> go on, consuming nothing
--                       an older attempt, not done or void -> go on so too: a flush or failover lost the requeue, which
--                       was made before this attempt was published
--                       anything else -> replay
--   suppression, block  any reason but opt_out -> suppressed; opt_out -> consent.withdrawn where consent is the basis
--   request    used by another message             -> request.missing
--   basis      consent.missing, relationship.missing, request.missing
--   preference topics -> preference.unwanted
--   then, not for HOLD and not for attempt > 1: preference and consent max_per_week -> window.exceeded
--   preference hours (not for HOLD) -> quiet.hours, with the hours
--   then, not for HOLD and not for attempt > 1: each window, same text -> window.exceeded
-- Written: stamp into each window field (HSET w), expiry of w when it must grow, used request, record.
--
-- Reply, a message: {0, stamp, basis, entry, termed} permitted (basis: see permission.lua; termed: the consent's own
--   weekly field was written); {1, state, attempt, stamp, answer, basis, entry, termed} replay; {2, code, rule, wait ms, from, to} refused.
-- Calls a message: its share of one MGET, HMGET, HSET, SET (PEXPIREAT at most once an hour, SET u): at most 6.
local call = redis.call
local cursors, requests, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[4])
local plans, calendar, asks = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
local HOLD, RELEASE, RECALL = 1, 2, 4
local n = #asks
local first_request, first_windows = cursors + 3 * n, cursors + 3 * n + requests
assert(#KEYS == first_windows + n, 'admit: keys')
local read = call('MGET', unpack(KEYS, 1, first_windows))
local written, dirty = {}, false

local function value(at)
  if dirty and written[KEYS[at]] then return written[KEYS[at]] end
  return read[at]
end

local function write(at, bytes, life)
  call('SET', KEYS[at], bytes, 'PX', life)
  written[KEYS[at]], dirty = bytes, true
end

-- a publish of it that fails from now on must not void it: another one may have been acknowledged
local function share(at, state)
  local raw = value(at)
  local flags = stamp_at('B', raw, 2)
  if (state ~= RESERVED and state ~= HELD) or bits_and(flags, SHARED) > 0 then return end
  local bytes = slice(raw, 1, 1) .. string.char(bits_or(flags, SHARED)) .. slice(raw, 3)
  call('SET', KEYS[at], bytes, 'KEEPTTL')
  written[KEYS[at]], dirty = bytes, true
end

-- nil to go on, else the replay; second: whether this attempt consumes windows
local function known(raw, mode, attempt)
  if not raw then return nil, attempt == 1 end
  local state, flags, was, _, _, stamp, basis, entry, size, at = head_of(raw)
  if mode == RELEASE then
    if state == HELD then return nil, true end
    if state == RESERVED and attempt > 1 and was == attempt then return nil, false end
    if was < attempt and state ~= DONE and state ~= VOID then return nil, false end
  elseif state == VOID then
    local why, told = slice(raw, at, at + size - 1), #raw >= at + size and bits_and(flags, BOUND) > 0
    if why == UNAVAILABLE or not told then return nil, attempt == 1 end
  end
  local from = bits_and(flags, TEXT) > 0 and at + 8 or at
  local termed = string.find(slice(raw, from, at + size - 1), 'C/', 1, true) and 1 or 0
  return {1, state, was, stamp, slice(raw, at + size), basis, entry - 1, termed}
end

-- nil or the refusal by a weekly limit, the consent's or a preference's; adds the consent's field to `fields`
local function weekly(plan, preferences, logs, termed, most, eff)
  if preferences and plan[WEEKLY] > 0 then
    for _, whose in ipairs(plan[PREFERENCES]) do
      local p = preferences[whose]
      local log = p and p[2] > 0 and logs[whose == '*' and plan[WEEKLY_ALL] or plan[WEEKLY]]
      local wait = log and wait_of(log, p[2], WEEK, eff) or 0
      if wait > 0 then return {2, 'window.exceeded', 'preference ' .. whose, wait} end
    end
  end
  local log = termed and logs[#plan[FIELDS] + 1]
  local wait = log and wait_of(log, most, WEEK, eff) or 0
  if wait > 0 then return {2, 'window.exceeded', 'terms', wait} end
  return nil
end

local function windowed(plan, logs, midnights, hash, eff)
  local windows = plan[WINDOWS]
  for i = 1, #windows do
    local w = windows[i]
    local log = logs[w[1]]
    if log then
      local wait
      if w[4] then wait = wait_of_day(log, w[2], midnights, eff) else wait = wait_of(log, w[2], w[3], eff) end
      if wait > 0 then return {2, 'window.exceeded', i, wait} end
    end
  end
  local same = plan[SAME_TEXT]
  local seen = same > 0 and logs[2] and text_seen(logs[2], hash)
  if seen and seen > eff - same then return {2, 'window.exceeded', 'same text', seen + same - eff} end
  return nil
end

local function consume(key, plan, fields, logs, hash, eff)
  local stamp = struct.pack(STAMP, eff)
  local set, k = {}, 0
  for i = 3, #fields do
    set[k + 1], set[k + 2] = fields[i], appended(logs[i], stamp)
    k = k + 2
  end
  local same = plan[SAME_TEXT]
  if same > 0 then
    local kept = logs[2] and texts_after(logs[2], eff - math.max(same, TEXT_MEMORY)) or ''
    set[k + 1], set[k + 2] = 'x', kept .. hash .. stamp
    k = k + 2
  end
  local longest = plan[LONGEST]
  if #fields > #plan[FIELDS] and longest < WEEK then longest = WEEK end
  local ends = logs[1] and stamp_at(STAMP, logs[1]) or 0
  local grows = ends < eff + longest
  if grows then
    ends = eff + longest + HOUR
    set[k + 1], set[k + 2] = 'e', struct.pack(STAMP, ends)
  end
  call('HSET', key, unpack(set))
  if grows then call('PEXPIREAT', key, ends) end
end

local function decide(i, ask)
  local base = cursors + 3 * i - 2
  if behind(read[ask[5]], least) then return {2, 'cache.cold', '', 0} end
  local plan, mode, attempt = plans[ask[1]], ask[2], ask[8]
  local replay, counts = known(value(base + 2), mode, attempt)
  if replay then
    if mode ~= RELEASE then share(base + 2, replay[2]) end
    return replay
  end
  if mode == RECALL then return {2, 'unavailable', '', 0} end
  local parts, block, approved = parts_of(read[base]), read[base + 1], ask[4]
  local code = stopped(plan, approved, parts, block)
  if code then return {2, code, '', 0} end
  local request = ask[11]
  if request > 0 then
    local used = value(first_request + request)
    if used and used ~= ask[14] then return {2, 'request.missing', 'used', 0} end
  end
  local basis, entry, most = permitted(plan, parts, block, now, request > 0)
  if not basis then return {2, entry, '', 0} end
  local preferences = parts[4]
  if preferences and unwanted(plan, preferences) then return {2, 'preference.unwanted', '', 0} end
  counts = counts and mode ~= HOLD

  local fields, logs, eff, termed, refusal = plan[FIELDS], nil, now, false, nil
  if counts then
    termed = most > 0
    if termed then
      local wider = {}
      for at = 1, #fields do wider[at] = fields[at] end
      wider[#fields + 1] = 'C/' .. plan[CONSENTS][basis]
      fields = wider
    end
    if #fields > 2 or plan[SAME_TEXT] > 0 then
      logs = call('HMGET', KEYS[first_windows + i], unpack(fields))
      for at = 3, #fields do eff = last_of(logs[at], eff) end
      eff = last_of(logs[2], eff)
      refusal = weekly(plan, preferences, logs, termed, most, eff)
      if refusal then return refusal end
    end
  end
  if preferences and mode ~= HOLD then
    local from, to = hours_of(plan, preferences)
    if from and (ask[7] < from or ask[7] >= to) then return {2, 'quiet.hours', 'preference', 0, from, to} end
  end
  if logs then
    refusal = windowed(plan, logs, calendar[ask[6]], ask[10], eff)
    if refusal then return refusal end
  end

  local flags, consumed, raw = ask[3] and BOUND or 0, '', value(base + 2)
  if logs then
    consume(KEYS[first_windows + i], plan, fields, logs, ask[10], eff)
    consumed = plan[CONSUMED]
    if termed then consumed = (#consumed > 0 and consumed .. '\0' or '') .. fields[#fields] end
    if plan[SAME_TEXT] > 0 then
      flags, consumed = flags + TEXT, ask[10] .. consumed
    end
  elseif mode == RELEASE and attempt > 1 and raw then -- keeps what attempt 1 consumed
    local _, set, was, _, _, stamp, on, by, size, at = head_of(raw)
    if was < attempt then
      local kept, answer = string.sub(raw, at, at + size - 1), string.sub(raw, at + size)
      write(base + 2, record_of(RESERVED, set, attempt, 0, 0, stamp, on, by, kept, answer), ask[9])
    end
    return {0, now, basis, entry, 0}
  end
  if request > 0 then write(first_request + request, ask[14], ask[12]) end
  local state = mode == HOLD and HELD or RESERVED
  write(base + 2, record_of(state, flags, attempt, 0, 0, logs and eff or 0, basis, entry + 1, consumed, ask[13]), ask[9])
  return {0, eff, basis, entry, termed and 1 or 0}
end

local replies = {}
for i = 1, n do replies[i] = decide(i, asks[i]) end
return replies
