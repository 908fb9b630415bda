"""The bugs of ``make mutants``: each was shipped by somebody, or nearly was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a file below ``redismr/``, and the text that replaces it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug, and the rows that most likely see it."""

    name: str
    edits: tuple[Edit, ...]
    first: tuple[str, ...] = ("machine",)


def _one(name: str, file: str, old: str, new: str, *first: str) -> Mutant:
    return Mutant(name, (Edit(file, old, new),), first or ("machine",))


def _lua(name: str, verb: str, old: str, new: str, *first: str) -> Mutant:
    return _one(name, f"store/lua/{verb}.lua", old, new, *first)


MUTANTS = (
    _lua("no fence", "_count_commits", "if not its_attempt then return 'FENCED' end", "its_attempt = its_attempt or {}"),  # noqa: E501
    _lua("no done check", "_count_commits", "if committed then return", "if false then return"),
    _lua(
        "one done hash", "_count_commits",
        "return is_map(id) and done or result,", "return done,",
    ),
    _lua("basis not checked", "_count_commits", "if commit_basis ~= basis then", "if false then"),
    _lua("chunks not checked", "_count_commits",
         "== 0 then return 'RESTAGE' end", "== 2 then return '' end"),
    _lua(
        "commit clears one token", "_count_commits",
        "redis.call('HDEL', attempts, unpack(counted))",
        "for _, id in ipairs(counted) do\n"
        "    local records_key, index = record_place(id)\n"
        "    drop_token(attempts, id, token_of(current[records_key][index]))\n"
        "  end",
    ),
    Mutant(
        "integer token",
        (
            Edit("store/lua/_grant_tasks.lua",
                 "id .. '.' .. nonce .. ' '", "id .. '.' .. (i - 1) .. ' '"),
            Edit("core/model.py", 'return f"{task}.{nonce}"', 'return f"{task}.0"'),
        ),
    ),
    _lua("claim without memory", "_grant_tasks", "if last_nonce == nonce then", "if false then"),
    _lua("ready loses one", "_grant_tasks", "redis.call('LTRIM', ready, #ids, -1)",
         "redis.call('LTRIM', ready, #ids + 1, -1)"),
    _lua("a suspect takes others with it", "_grant_tasks", "if is_assigned or has_suspects then", "if is_assigned then"),  # noqa: E501
    _lua("count down", "_advance", "redis.call('HLEN', done) == n_map",
         "redis.call('HINCRBY', meta, 'steps', 1) >= n_map"),
    _lua("results not looked at", "_advance", "if redis.call('HEXISTS', result, p) == 0 then",
         "if p > 0 then"),
    _lua("deadline forgotten", "_advance", "set_deadline(expire_at, ready)", ""),
    _lua("reclaim without limit", "reclaim",
         "now, 'BYSCORE', 'LIMIT', 0, limit)", "now, 'BYSCORE')"),
    _lua("reclaim of live leases", "reclaim",
         "'-inf', now, 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'"),
    _lua("outage charges", "_outage",
         "if silent_ms <= lease_ms * OUTAGE_PART_OF_LEASE then", "if true then"),
    _lua("the dead keep their leases", "_outage",
         "if rearmed < MAX_REARMED then", "rearmed = 0 if true then"),
    _lua("renew refused when full", "renew", "-- FLAGS: allow-oom\n", ""),
    _lua("renew of whatever it says", "renew", "find_attempt(live, token)", "live[1]"),
    _lua("fail beside a second attempt", "fail", "if left == 0 then", "if true then"),
    _lua(
        "release charges", "release",
        "if held and left == 0 then",
        "if held then\n"
        "    redis.call('HINCRBY', (string.gsub(attempts, 'attempts$', 'budgets')), 'lost:' .. ids[i], 1)\n"  # noqa: E501
        "  end\n"
        "  if held and left == 0 then",
    ),
    _lua("invalidate whatever token", "invalidate", "== missing[i + 1] then", "then"),
    _lua("invalidate only the missing", "invalidate",
         "if redis.call('HLEN', result) > 0 then", "if false then"),
    _lua("steal what has started", "steal", "if attempt.started == '0' and age_ms", "if age_ms"),
    _lua("steal leaves the token", "steal", "redis.call('HDEL', attempts, id)", ""),
    _lua("third attempt", "_slow_tasks", "if #live == 1 then", "if #live >= 1 then"),
    _lua("second attempt of one's own", "_slow_tasks",
         "and attempt.executor ~= executor and", "and"),
    _lua("add without memory", "add", "for index = added,", "for index = tonumber(first),"),
    _lua("a batch counts as started", "_grant_tasks", "(i == 1 and ' 1 ' or ' 0 ')", "' 1 '"),
    _lua("reclaim charges who waited", "reclaim", "if not started_by then", "if false then"),
    _lua("every death forgiven", "fail", "if deaths == DEATHS_TO_BLAME_RECORD then",
         "if deaths >= DEATHS_TO_BLAME_RECORD then"),
    _lua("a charge for what is done", "fail", "== 1 then return { 'DONE', state } end",
         "== 2 then return end"),
    _lua("invalidate by anybody", "invalidate", "if not held then", "if false then"),
    _lua("stage left open", "invalidate",
         "redis.call('DEL', ready, processing, lease, attempts)", ""),
    _lua("extend forgets a key", "extend", "last_claims, failures, budgets)\nreturn", "failures, budgets)\nreturn"),  # noqa: E501
    _one("bulk without deadline", "store/job_data.py",
         'commands.append(("PEXPIREAT", key, expire_at))', "pass"),
    _one("segments freed by key", "store/job_data.py",
         '("HDEL", self.keys.shuffle(job, p), *batch)', '("UNLINK", self.keys.shuffle(job, p))'),
    _one("deaths are not told", "workers/supervisor.py",
         "holding = child.slot.read() or Holding()", "holding = Holding()", "kills"),
    _one("who lost its lease goes on", "workers/leases.py",
         "if _has_lost_its_task(c, h, state, lost)", "if False", "zombies"),
    _one("client clock", "store/store_base.py",
         'return "" if self.now_ms is None else self.now_ms',
         'return int(__import__("time").time() * 1000) if self.now_ms is None else self.now_ms',
         "clock"),
    Mutant(
        "commit before stage",
        (
            Edit("workers/tasks.py",
                 "lambda parts: session.store.put_segments(session.job, parts, session.expire_at),",
                 "lambda parts: _LATE.append((session, parts)),"),
            Edit("workers/tasks.py",
                 "        if self.segments_read:\n",
                 "        while _LATE:\n"
                 "            late, parts = _LATE.pop()\n"
                 "            late.store.put_segments(late.job, parts, late.expire_at)\n"
                 "        if self.segments_read:\n"),
            Edit("workers/tasks.py", "class StageClosed(", "_LATE = []\n\n\nclass StageClosed("),
        ),
        ("control", "kills"),
    ),
    _one("segments freed before the commit", "workers/tasks.py",
         "    record = sealer.seal_result_manifest(manifest)\n",
         "    attempt.free_input()\n    record = sealer.seal_result_manifest(manifest)\n", "control"),  # noqa: E501
    _one("a repeat taken for a refusal", "workers/committer.py",
         'elif status == "FENCED":', 'elif status in ("FENCED", "DUP_OK"):', "control"),
    _one("what was skipped counts", "engine/bad_records.py",
         "value)\n            return []\n        return pairs",
         "value)\n        return pairs", "clients"),
    _one("counters of what was skipped", "engine/bad_records.py",
         "with discard_counts_on_error():\n                    _collect_pairs(call,",
         "if True:\n                    _collect_pairs(call,", "clients"),
    _one("skips added up over partitions", "client/collector.py",
         "skipped = skipped.plus(manifest.skipped)\n    records_in",
         "skipped = skipped.plus(manifest.map_skipped)\n    records_in", "clients"),
    _one("sealed without a place", "core/seal.py",
         "for field in fields:", "for field in () if len(fields) in (2, 3) else fields:", "data"),
    _one("waits for the event alone", "client/job_waiting.py",
         "JOB_POLL_SECONDS = 1.0", "JOB_POLL_SECONDS = 60.0", "fields"),
    _lua("segments made again only once", "invalidate",
         "index, 1) > MAX_INVALIDATIONS then", "index, 1) > 1 then", "data"),
    _one("input not handed in again", "client/submitter.py",
         "_MAX_SUBMIT_ATTEMPTS = 5", "_MAX_SUBMIT_ATTEMPTS = 1", "cuts"),
    _one("input not closed again", "client/job_waiting.py",
         "self._close_input_again(self._n_map)", "pass", "cuts"),
    _one("a forgotten end is not waited for", "client/job.py",
         "suppress(collector.EndRolledBack):  # then it runs again", "suppress():", "cuts"),
    _one("reduce over a hole", "workers/task_inputs.py",
         "    if lost:\n        raise SegmentsMissing(lost)\n", "", "data"),
    Mutant(
        "collector believes",
        (
            Edit("client/collector.py", "if p not in records:", "if False:"),
            Edit("client/collector.py",
                 "for p in range(partitions)]", "for p in range(partitions) if p in records]"),
        ),
        ("fields", "data"),
    ),
    _one("any __eq__ of a dataclass will do", "engine/value_hashes.py",
         "return _code_behaviour(eq_method) == _code_behaviour(probe.__eq__)", "return True", "programs"),  # noqa: E501
    _one("a partitionfn is believed", "client/collector.py",
         "return chain((first,), (p for p in all_partitions if p != first))", "return (first,)",
         "programs"),
    _one("numpy truths are added up by numpy", "engine/reducers.py",
         "return [values[0], sum(map(int, values[1:]))]",
         "return [numpy.logical_or.reduce(values)]", "programs"),
)  # fmt: skip
"""All of them."""
