-- Reviews a change of code.
--   context.diff    a unified diff
--   context.title   what the change is for; may be missing
--   context.rules   a list of the project's own rules; may be missing
--   context.past    earlier rounds: a list of {review = ..., reply = ...}
local _, files = context.diff:gsub("\n%+%+%+ ", "")
local rules = {}

for i, rule in ipairs(context.rules or {}) do
  rules[i] = i .. ". " .. rule
end

options.complexity = files > 5 and "complex" or "medium"
options.task_type = "code_review"
system("You review code: first what is wrong, then what is risky, then what "
  .. "is missing in the tests. Name file and line. No praise, no style.")
if #rules > 0 then
  system("The rules of this project:\n" .. table.concat(rules, "\n"))
end
user(("%s\n\n```diff\n%s\n```"):format(
  context.title or "Review this change.", context.diff))
for _, round in ipairs(context.past or {}) do
  assistant(round.review)
  user(round.reply)
end
