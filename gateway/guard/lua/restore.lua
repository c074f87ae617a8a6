-- Puts back what a flush or a failover lost: records with the windows they consumed, used requests, and stamps kept
-- elsewhere. Safe to repeat, in any order. The lanes are cold meanwhile (a cursor missing or a mark), so nobody is
-- admitted or claimed in them; but void, refund, done and requeue do come, and what they wrote stands.
--
-- KEYS  with ARGV[1] 'records': windows (w) of each person, record (m) of each message in the people's order, used
--       requests (u); with 'stamps': windows (w) of each
-- ARGV  what, items (msgpack)
--   records  [[[record (record.py), life ms, stamp, field set (0: none), text hash + stamp ('': none)], …], …] by person,
--            a person's by stamp; then msgpack of the field sets [[longest period ms, field, …], …], and of the requests
--            [[id, life ms], …]
--   stamps   [[field, [stamps, ascending], period ms], …]
-- Reply: of each message or field 1 written, 0 what was there is as good or better.
--
-- records  What is there stays where it knows better: `void` always (whoever voided it did so after the flush), else the
--          later attempt; of one attempt the later stamp (it was admitted again), else the one further on: held < reserved
--          < taken, unwritten < done. What replaces it takes over its answer, and that it was refunded. Life 0: too old
--          for a record; there only a `held` one, which a release has outdated, is removed.
-- windows  Of a message that is neither void nor refunded: its stamp in each field, in order, the newest 64. A stamp
--          that is k times in the log and n times in the call is max(k, n) times there afterwards: two messages of one
--          millisecond count twice, one message put back twice counts once.
local what, items = ARGV[1], cmsgpack.unpack(ARGV[2])
local RANK = {[HELD] = 1, [RESERVED] = 2, [TAKEN] = 3, [UNWRITTEN] = 3, [DONE] = 4, [VOID] = 5}

-- nil or the bytes to write; whether the message's windows count; the state found
local function better(raw, given)
  if not raw then
    local state, flags = string.byte(given, 1, 2)
    return given, state ~= VOID and bits_and(flags, REFUNDED) == 0
  end
  local state, flags, attempt, partition, offset, stamp, basis, entry, length, from = head_of(given)
  local found, set, was, _, _, before, _, _, size, at = head_of(raw)
  local stands = found ~= VOID and state ~= VOID and bits_and(bits_or(set, flags), REFUNDED) == 0
  local newer = attempt > was
  if attempt == was then
    if stamp > 0 and before > 0 and stamp ~= before then newer = stamp > before else newer = RANK[state] > RANK[found] end
  end
  if found == VOID or not newer then return nil, stands, found end
  local answer = slice(raw, at + size)
  if answer == '' then answer = slice(given, from + length) end
  flags = bits_or(flags, bits_and(set, BOUND + REFUNDED + SHARED))
  local consumed = slice(given, from, from + length - 1)
  return record_of(state, flags, attempt, partition, offset, stamp, basis, entry, consumed, answer), stands, found
end

-- the log with these stamps (ascending) in their places, and whether that is anything new
local function merged(log, stamps)
  if not log and not stamps[2] then return struct.pack(STAMP, stamps[1]), true end
  local all, at, i, size = {}, 1, 1, log and #log or 0
  while at <= size or stamps[i] do
    local here, given = at <= size and stamp_at(STAMP, log, at) or math.huge, stamps[i] or math.huge
    all[#all + 1] = struct.pack(STAMP, math.min(here, given))
    if here <= given then at = at + 6 end
    if given <= here then i = i + 1 end
  end
  local whole = table.concat(all, '', math.max(1, #all - LOG_BYTES / 6 + 1))
  return whole, whole ~= log
end

-- the log with texts it lacks, by their stamps; of one stamp those that were there first
local function texts_with(log, texts)
  local all, known = {}, {}
  local function add(text)
    if not known[text] then
      all[#all + 1] = text
      known[text] = #all
    end
  end
  for at = 1, log and #log - 13 or 0, TEXT_BYTES do add(slice(log, at, at + 13)) end
  for _, text in ipairs(texts) do add(text) end
  table.sort(all, function(a, b)
    local one, other = stamp_at(STAMP, a, 9), stamp_at(STAMP, b, 9)
    if one == other then return known[a] < known[b] end
    return one < other
  end)
  return table.concat(all)
end

-- writes fields, and lets the key live as long as any of them matters
local function write(key, ends, writes, needed)
  local grows = (ends and stamp_at(STAMP, ends) or 0) < needed
  if grows then
    writes[#writes + 1] = 'e'
    writes[#writes + 1] = struct.pack(STAMP, needed + HOUR)
  end
  if #writes > 0 then redis.call('HSET', key, unpack(writes)) end
  if grows then redis.call('PEXPIREAT', key, string.format('%.0f', needed + HOUR)) end
end

local function complete(key, field, given, period)
  local logs = redis.call('HMGET', key, 'e', field)
  local log, new = merged(logs[2], given)
  if not new then return 0 end
  write(key, logs[1], {field, log}, given[#given] + period)
  return 1
end

local function windows(key, counted, sets)
  local names, stamps, texts, needed = {'e', 'x'}, {}, {}, 0
  for _, row in ipairs(counted) do
    local set = sets[row[4]]
    for f = 2, #set do
      local held = stamps[set[f]]
      if not held then
        held, names[#names + 1] = {}, set[f]
        stamps[set[f]] = held
      end
      held[#held + 1] = row[3]
    end
    if row[5] ~= '' then texts[#texts + 1] = row[5] end
    needed = math.max(needed, row[3] + set[1])
  end
  local logs, writes = redis.call('HMGET', key, unpack(names)), {}
  for i = 3, #names do
    local log, new = merged(logs[i], stamps[names[i]])
    if new then
      writes[#writes + 1] = names[i]
      writes[#writes + 1] = log
    end
  end
  if #texts > 0 then
    writes[#writes + 1] = 'x'
    writes[#writes + 1] = texts_with(logs[2], texts)
  end
  write(key, logs[1], writes, needed)
end

local function put_back(key, raw, row)
  local bytes, stands, found = better(raw, row[1])
  if bytes and row[2] > 0 then
    redis.call('SET', key, bytes, 'PX', row[2])
    return 1, stands, bytes
  end
  if bytes and found == HELD then
    redis.call('DEL', key)
    return 1, stands, false
  end
  return 0, stands, raw
end

local function records(people, sets, requests)
  local replies, at, known = {}, #people, {}
  local read = redis.call('MGET', unpack(KEYS, #people + 1, #KEYS - #requests))
  for person, rows in ipairs(people) do
    local counted, once = {}, {}
    for _, row in ipairs(rows) do
      at = at + 1
      local key, raw, stands = KEYS[at], read[at - #people], nil
      if known[key] ~= nil then raw = known[key] end
      replies[#replies + 1], stands, known[key] = put_back(key, raw, row)
      local message = key .. row[3]
      if stands and row[4] > 0 and not once[message] then
        counted[#counted + 1] = row
        once[message] = true
      end
    end
    if #counted > 0 then windows(KEYS[person], counted, sets) end
  end
  for i, request in ipairs(requests) do redis.call('SET', KEYS[at + i], request[1], 'NX', 'PX', request[2]) end
  return replies
end

if what == 'records' then return records(items, cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])) end
local replies = {}
for i, item in ipairs(items) do replies[i] = complete(KEYS[i], item[1], item[2], item[3]) end
return replies
