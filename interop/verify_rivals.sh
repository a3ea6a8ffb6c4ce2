#!/usr/bin/env bash
# verify_rivals.sh BINARY RIVALS
#
# `quorate verify` against Apache ZooKeeper and etcd, three servers each, undisturbed and while their leaders are killed with -9: the test
# of the test, since what they promise they keep. RIVALS is the folder with zk-ensemble.sh and etcd-cluster.sh.
# Ends with `N passed, M failed`; exit 1 if any failed.
set -u
binary=${1:?} rivals=${2:?}
seconds=${VERIFY_SECONDS:-20}
passed=0 failed=0
place=$(mktemp -d /tmp/quorate-rivals.XXXXXX)
base=$((21000 + RANDOM % 8000))

finish() {
  "$rivals/zk-ensemble.sh" stop "$place/zk" >/dev/null 2>&1
  [ -d "$place/etcd" ] && "$rivals/etcd-cluster.sh" stop "$place/etcd" >/dev/null 2>&1
  rm -rf "$place"
}
trap finish EXIT

check() { # "what" STATUS COMMAND...
  local what=$1 status=$2 out got; shift 2
  out=$("$@" 2>&1); got=$?
  if [ "$got" = "$status" ]; then
    passed=$((passed + 1)); echo "ok    $what"; sed 's/^/        /' <<<"$out" | head -14
  else
    failed=$((failed + 1)); printf 'FAIL  %s: exit %s, wanted %s:\n%s\n' "$what" "$got" "$status" "$out"
  fi
}

# disturb ONE-FAULT COMMAND...: the command, and a fault every few seconds until it ends; then everybody is well again.
disturb() {
  local fault=$1 status pid; shift
  "$@" & pid=$!
  while sleep 2; kill -0 $pid 2>/dev/null; do "$fault" >/dev/null 2>&1; done
  wait $pid; status=$?
  return $status
}

kill_zookeeper() {
  local id
  id=$("$rivals/zk-ensemble.sh" kill-leader "$place/zk") && sleep 1.5 && "$rivals/zk-ensemble.sh" start-one "$place/zk" "$id"
}
kill_etcd() { "$rivals/etcd-cluster.sh" kill-leader "$place/etcd"; sleep 1.5; "$rivals/etcd-cluster.sh" restart-dead "$place/etcd"; }

if [ -x "$rivals/zk-ensemble.sh" ] && [ -e /usr/share/java/zookeeper.jar ]; then
  "$rivals/zk-ensemble.sh" start "$place/zk" "$base" 3 >/dev/null || { echo "ZooKeeper does not start"; exit 1; }
  hosts=$("$rivals/zk-ensemble.sh" hosts "$place/zk")
  check "Apache ZooKeeper, undisturbed" 0 "$binary" verify --servers "$hosts" --seconds 5
  check "Apache ZooKeeper, leaders killed" 0 disturb kill_zookeeper "$binary" verify --servers "$hosts" --seconds "$seconds" \
    --history "$place/zk.jsonl"
  check "its kept history" 0 "$binary" check "$place/zk.jsonl"
  "$rivals/zk-ensemble.sh" stop "$place/zk"
else
  echo "left out: Apache ZooKeeper is not here"
fi

if [ -x "$rivals/etcd-cluster.sh" ] && command -v etcd >/dev/null; then
  "$rivals/etcd-cluster.sh" start "$place/etcd" $((base + 100)) >/dev/null || { echo "etcd does not start"; exit 1; }
  hosts=$("$rivals/etcd-cluster.sh" endpoints "$place/etcd")
  check "etcd, undisturbed" 0 "$binary" verify --api etcd --servers "$hosts" --seconds 5
  check "etcd, leaders killed" 0 disturb kill_etcd "$binary" verify --api etcd --servers "$hosts" --seconds "$seconds" \
    --history "$place/etcd.jsonl"
  check "its kept history" 0 "$binary" check "$place/etcd.jsonl"
  check "its kept history, by revisions" 0 "$binary" check "$place/etcd.jsonl" --promise session-order
else
  echo "left out: etcd is not here"
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
