-- What `admit` would say of each message, rule by rule, whatever an earlier rule said. Writes nothing.
--
-- KEYS and ARGV as for admit.lua. Reply, a message: [[rule, code ('' passed), detail, count, limit, wait ms], …]
-- in the order of admit.lua; `window` rules carry the window's position in the plan as their detail.
local cursors, requests, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[4])
local plans, calendar, asks = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6]), ARGV[8]
local n = #asks / ASK_BYTES
local first_request, first_windows = cursors + 3 * n, cursors + 3 * n + requests
assert(#KEYS == first_windows + n, 'check: keys')
local read = redis.call('MGET', unpack(KEYS, 1, first_windows))

local function weekly(say, plan, preferences, logs, most, consent, eff)
  for _, whose in ipairs(plan[PREFERENCES]) do
    local p = preferences[whose]
    if p and p[2] > 0 and plan[WEEKLY] > 0 then
      local log = logs[whose == '*' and plan[WEEKLY_ALL] or plan[WEEKLY]] or ''
      local wait = wait_of(log, p[2], WEEK, eff)
      say('preference.max_per_week', wait > 0 and 'window.exceeded', whose, counted(log, eff - WEEK + 1), p[2], wait)
    end
  end
  if consent then
    local log = logs[#plan[FIELDS] + 1] or ''
    local wait = wait_of(log, most, WEEK, eff)
    say('consent.max_per_week', wait > 0 and 'window.exceeded', consent, counted(log, eff - WEEK + 1), most, wait)
  end
end

local function windowed(say, plan, logs, midnights, hash, eff)
  for i, w in ipairs(plan[WINDOWS]) do
    local log, since, wait = logs[w[1]] or '', eff - w[3] + 1, nil
    if w[4] then
      since, wait = day_of(midnights, eff), wait_of_day(log, w[2], midnights, eff)
    else
      wait = wait_of(log, w[2], w[3], eff)
    end
    say('window', wait > 0 and 'window.exceeded', tostring(i), counted(log, since), w[2], wait)
  end
  local same = plan[SAME_TEXT]
  if same > 0 then
    local seen = logs[2] and text_seen(logs[2], hash)
    local wait = seen and seen > eff - same and seen + same - eff or 0
    say('same_text', wait > 0 and 'window.exceeded', '', wait > 0 and 1 or 0, 1, wait)
  end
end

local function trace(i, plan_at, _, _, approved, cursor, midnights_at, _, minute, _, _, hash, request)
  local rules, base, plan = {}, cursors + 3 * i - 2, plans[plan_at]
  local function say(rule, code, detail, count, limit, wait)
    rules[#rules + 1] = {rule, code or '', detail or '', count or -1, limit or -1, wait or 0}
  end
  say('cache', behind(read[cursor], least) and 'cache.cold')
  local parts, block = parts_of(read[base]), read[base + 1]
  say('suppression', stopped(plan, approved == 1, parts, block))
  if request > 0 or plan[BASIS] == 'q' then
    local used = request > 0 and read[first_request + request]
    say('request', (request == 0 or used and used ~= slice(KEYS[base + 2], -16)) and 'request.missing', used and 'used')
  end
  local basis, entry, most = permitted(plan, parts, block, now, request > 0)
  local key = basis and (basis > 0 and plan[CONSENTS][basis] or basis < 0 and plan[RELATIONSHIPS][-basis]) or ''
  say('basis', not basis and entry, key, basis and entry or -1)
  local preferences = parts[4] or NOTHING
  if plan[TOPICS] then say('preference.topics', unwanted(plan, preferences) and 'preference.unwanted') end
  local fields, consent, eff = {}, basis and most > 0 and key, now
  for at, field in ipairs(plan[FIELDS]) do fields[at] = field end
  if consent then fields[#fields + 1] = 'C/' .. consent end
  local logs = redis.call('HMGET', KEYS[first_windows + i], unpack(fields))
  for at = 2, #fields do eff = last_of(logs[at], eff) end
  weekly(say, plan, preferences, logs, most, consent, eff)
  local from, to = hours_of(plan, preferences)
  if from then
    local quiet = minute < from or minute >= to
    say('preference.hours', quiet and 'quiet.hours', '', from, to)
  end
  windowed(say, plan, logs, calendar[midnights_at], hash, eff)
  return rules
end

local traces = {}
for i = 1, n do traces[i] = trace(i, stamp_at(ASK, asks, ASK_BYTES * (i - 1) + 1)) end
return traces
