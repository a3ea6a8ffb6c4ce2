#!/usr/bin/env bash
# verify.sh BINARY HOSTS DIR
#
# `quorate verify` against a running local cluster (DIR has its cluster.json), first undisturbed, then while its nodes are killed and paused;
# what the clients saw must be explainable, and `quorate check` must say the same of the history that was kept.
# Ends with `N passed, M failed`; exit 1 if any failed.
set -u
binary=${1:?} hosts=${2:?} dir=${3:?}
seconds=${VERIFY_SECONDS:-15}
passed=0 failed=0

check() { # "what" STATUS COMMAND...
  local what=$1 status=$2 out got; shift 2
  out=$("$@" 2>&1); got=$?
  if [ "$got" = "$status" ]; then
    passed=$((passed + 1)); echo "ok    verify: $what"; sed 's/^/        /' <<<"$out" | head -12
  else
    failed=$((failed + 1)); printf 'FAIL  verify: %s: exit %s, wanted %s:\n%s\n' "$what" "$got" "$status" "$out"
  fi
}

check "undisturbed" 0 "$binary" verify --servers "$hosts" --seconds 3
check "nodes killed and paused" 0 "$binary" verify --servers "$hosts" --seconds "$seconds" --faults local --dir "$dir" \
  --history "$dir/verify.jsonl" --html "$dir/verify.html"
check "the kept history" 0 "$binary" check "$dir/verify.jsonl"
etcd=$(python3 -c 'import json, sys; print(",".join(node["etcd"] for node in json.load(open(sys.argv[1]))["nodes"]))' "$dir/cluster.json")
check "etcd's API, undisturbed" 0 "$binary" verify --api etcd --servers "$etcd" --seconds 3
check "etcd's API, nodes killed and paused" 0 "$binary" verify --api etcd --servers "$etcd" --seconds "$seconds" --faults local \
  --dir "$dir" --history "$dir/etcd.jsonl"
check "its kept history, by revisions" 0 "$binary" check "$dir/etcd.jsonl" --promise linearizable,session-order
# The test of the test: the last read is made to see what nobody wrote.
python3 - "$dir/verify.jsonl" "$dir/spoiled.jsonl" <<'PYTHON'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
reads = {line["id"] for line in lines if line.get("f") == "read"}
end = [line for line in lines if line.get("type") == "ok" and line.get("id") in reads][-1]
end["value"] = -1
with open(sys.argv[2], "w") as spoiled:
    spoiled.writelines(json.dumps(line) + "\n" for line in lines)
PYTHON
check "a spoiled history is refused" 1 "$binary" check "$dir/spoiled.jsonl"
check "a file that is no history" 65 "$binary" check "$dir/cluster.json"
check "nobody there" 69 timeout 60 "$binary" verify --servers 127.0.0.1:1 --seconds 1

echo "$passed passed, $failed failed"
[ $failed = 0 ]
