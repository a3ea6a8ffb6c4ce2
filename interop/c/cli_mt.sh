#!/usr/bin/env bash
# cli_mt.sh HOSTS: Debian's cli_mt, the C client's shell, does its basic work. Ends with `N passed, M failed`.
set -u
hosts=$1
cli=/usr/lib/zookeeper/bin/cli_mt
out=$(mktemp)
trap 'rm -f "$out"' EXIT
root=/cli_mt-$$
passed=0 failed=0

# It reads commands faster than answers come, so they are typed with pauses.
{
  sleep 1
  for line in "create $root" "create +e $root/e" "create +s $root/s-" "set $root hello" "get $root" "ls $root" "stat $root" \
    "myid" "sync $root" "delete $root/s-0000000001" "exists $root/s-0000000001" "quit"; do
    echo "$line"
    sleep 0.3
  done
} | timeout 60 "$cli" "$hosts" >"$out" 2>&1

expect() {
  local name=$1 text=$2
  if grep -qF -- "$text" "$out"; then passed=$((passed + 1)); echo "ok    cli_mt: $name"
  else failed=$((failed + 1)); echo "FAIL  cli_mt: $name: no '$text'"; fi
}

expect "connects" "SESSION_EVENT"
expect "creates" "name = $root"
expect "numbers" "name = $root/s-0000000001"
expect "reads what it set" "hello"
expect "lists" "s-0000000001"
expect "stats" "ephemeralOwner = 0"
expect "deletes" "Error -101 for $root/s-0000000001"
[ "$failed" = 0 ] || cat "$out" >&2
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
