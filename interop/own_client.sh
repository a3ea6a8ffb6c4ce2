#!/usr/bin/env bash
# own_client.sh BINARY HOSTS DIR
#
# Quorate's own client against a running local cluster (DIR has its cluster.json): the verbs of `quorate zk` with their exit
# codes, a small load, and `quorate bench failover` while the leader is killed with -9 and started again.
# Ends with `N passed, M failed`; exit 1 if any failed.
set -u
binary=${1:?} hosts=${2:?} dir=${3:?}
passed=0 failed=0
root=/own-$$

check() { # "what" STATUS "text that the output has" COMMAND...
  local what=$1 status=$2 want=$3 out got; shift 3
  out=$("$@" 2>&1); got=$?
  if [ "$got" = "$status" ] && grep -qF -- "$want" <<<"$out"; then
    passed=$((passed + 1)); echo "ok    own client: $what"
  else
    failed=$((failed + 1)); printf 'FAIL  own client: %s: exit %s, wanted %s with "%s":\n%s\n' "$what" "$got" "$status" "$want" "$out"
  fi
}

zk() { "$binary" zk --servers "$hosts" "$@"; }

field() { python3 -c 'import json, sys; print(eval("d" + sys.argv[1], {"d": json.load(sys.stdin)}))' "$1"; }

failover() {
  local report leader=""
  "$binary" bench failover --servers "$hosts" --seconds 8 --json >"$dir/failover.out" &
  local bench=$!
  sleep 3
  leader=$("$binary" status --dir "$dir" --json | field '["nodes"]' | python3 -c \
    'import sys; print(next(n["id"] for n in eval(sys.stdin.read()) if n["role"] == "leader"))') || return 1
  kill -9 "$(python3 -c 'import json, sys; print(next(n["pid"] for n in json.load(open(sys.argv[1]))["nodes"] if n["id"] == int(sys.argv[2])))' \
    "$dir/cluster.json" "$leader")"
  wait "$bench"; local status=$?
  report=$(cat "$dir/failover.out")
  echo "$report"
  "$binary" node start --dir "$dir" --id "$leader" >/dev/null || return 1
  [ "$(field '["lost"] == []' <<<"$report")" = True ] || return 1
  return $status
}

check "create" 0 "$root" zk create $root hello
check "create again is refused" 1 "exists" zk create $root hello
check "get" 0 "hello" zk get $root
check "set" 0 "" zk set $root "good evening"
check "set with a wrong version is refused" 1 "version" zk set $root x -v 9
check "get as JSON" 0 "good evening" zk get $root --json
check "a sequential znode" 0 "$root/s-0000000000" zk create $root/s- x --sequential
check "ls" 0 "s-0000000000" zk ls $root
check "stat" 0 "1" zk stat $root
check "rm of a znode with children is refused" 1 "children" zk rm $root
check "rm -r" 0 "" zk rm --recursive $root
check "get of nothing is refused" 1 "no such" zk get $root
check "nobody there" 69 "help" "$binary" zk --servers 127.0.0.1:1 get /
check "usage" 64 "Usage" "$binary" zk --servers "$hosts" nonsense
check "a load" 0 "operations" "$binary" bench zk --servers "$hosts" --clients 10 --in-flight 4 --reads 50 --seconds 2 --warmup 1 --json
check "failover: the session moves, nothing acknowledged is lost" 0 '"longest_gap_ms"' failover
[ -s "$dir/failover.out" ] && cat "$dir/failover.out"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
