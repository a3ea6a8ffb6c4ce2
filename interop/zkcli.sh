#!/usr/bin/env bash
# zkcli.sh HOST:PORT[,HOST:PORT...]
#
# Debian's zkCli.sh (package zookeeper), unmodified, types a session of basic commands at a cluster; what it prints must
# be what ZooKeeper's own server makes it print. Ends with `N passed, M failed`; exit 1 if any failed.
set -u
hosts=${1:?say HOST:PORT}
cli=${ZKCLI:-/usr/share/zookeeper/bin/zkCli.sh}
[ -x "$cli" ] || { echo "zkcli.sh: no $cli: apt-get install zookeeper default-jre-headless" >&2; exit 2; }
root=/cli-$$-$RANDOM
passed=0 failed=0

# say "what it shows" "expected lines, with ROOT for the root" <<< "commands"
say() {
  local what=$1 want=$2 got
  # Standard error tells what was created and what went wrong; zkCli's own greeting is left out.
  got=$(sed "s|ROOT|$root|g" | timeout 60 "$cli" -server "$hosts" 2>&1 |
    grep -Ev '^$|^Connecting to|^Welcome to|^JLine|^WATCHER|state:SyncConnected type:None|state:Closed|^[0-9-]+ [0-9:,]+ \[|SLF4J|WARN|INFO' |
    grep -Ev '^(c|m|p)Zxid|^(c|m)time' | sort)
  want=$(sed "s|ROOT|$root|g" <<<"$want" | sort)
  if [ "$got" = "$want" ]; then
    passed=$((passed + 1)); echo "ok    zkCli.sh: $what"
  else
    failed=$((failed + 1)); echo "FAIL  zkCli.sh: $what"; diff <(echo "$want") <(echo "$got") | sed 's/^/      /'
  fi
}

say "create, get, set" "Created ROOT
hello world
two" <<'CMD'
create ROOT "hello world"
get ROOT
set ROOT two
get ROOT
quit
CMD

say "stat shows versions and sizes" "cversion = 0
dataVersion = 1
aclVersion = 0
ephemeralOwner = 0x0
dataLength = 3
numChildren = 0" <<'CMD'
stat ROOT
quit
CMD

say "sequential and ephemeral znodes, ls, ls -R" "Created ROOT/s-0000000000
Created ROOT/s-0000000001
Created ROOT/e
[e, s-0000000000, s-0000000001]
ROOT
ROOT/e
ROOT/s-0000000000
ROOT/s-0000000001" <<'CMD'
create -s ROOT/s- x
create -s ROOT/s- y
create -e ROOT/e z
ls ROOT
ls -R ROOT
quit
CMD

say "ephemerals go with their session; delete; errors in words" "[s-0000000000, s-0000000001]
Node does not exist: ROOT/nope
Node not empty: ROOT
version No is not valid : ROOT/s-0000000001
[s-0000000001]" <<'CMD'
ls ROOT
delete ROOT/s-0000000000
delete ROOT/nope
delete ROOT
set -v 9 ROOT/s-0000000001 w
ls ROOT
quit
CMD

say "a watch fires" "two
WatchedEvent state:SyncConnected type:NodeDataChanged path:ROOT" <<'CMD'
get -w ROOT
set ROOT three
quit
CMD

say "ACLs, digest authentication, sync" "'world,'anyone
: cdrwa
Sync is OK
Created ROOT/secret
'digest,'bob:ikIaKsbtGweaHnb/jKn7OHqbunM=
: cdrwa
s" <<'CMD'
getAcl ROOT
sync ROOT
create ROOT/secret s
addauth digest bob:pw
setAcl ROOT/secret digest:bob:ikIaKsbtGweaHnb/jKn7OHqbunM=:cdrwa
getAcl ROOT/secret
get ROOT/secret
quit
CMD

say "a stranger is refused" "Insufficient permission : ROOT/secret" <<'CMD'
get ROOT/secret
quit
CMD

say "deleteall" "Node does not exist: ROOT" <<'CMD'
addauth digest bob:pw
deleteall ROOT
ls ROOT
quit
CMD

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
