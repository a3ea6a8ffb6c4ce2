#!/usr/bin/env bash
# h2spec.sh BINARY: the conformance tests of HTTP/2 and HPACK that summerwind/h2spec has, on the port for etcd's clients.
#
# One of its 145 cases is not ours to pass: what does not begin as HTTP/2 is answered as HTTP/1.1, which that port speaks too.
# Ends with `N passed, M failed`. The tool is built from its module, by Go, into target/interop-clients.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(dirname "$(cd "$(dirname "$0")" && pwd)")
tools=${CARGO_TARGET_DIR:-$root/target}/interop-clients/h2spec
not_ours="Sends invalid connection preface"

if [ "${1:-}" = inside ]; then
  address=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1] + "/cluster.json"))["nodes"][0]["etcd"])' "$CLUSTER_DIR") || exit 1
  "$tools/h2spec" -h "${address%:*}" -p "${address##*:}" -P /health -o 10 >"$2"
  exit 0
fi
binary=$(readlink -f "${1:?h2spec.sh BINARY}")
if [ ! -x "$tools/h2spec" ]; then
  mkdir -p "$tools" && GOFLAGS=-mod=mod GOBIN=$tools go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1 >"$tools/build.txt" 2>&1 ||
    GOFLAGS=-mod=mod GOBIN=$tools go install github.com/summerwind/h2spec/cmd/h2spec@latest >>"$tools/build.txt" 2>&1 ||
    { tail -5 "$tools/build.txt"; exit 1; }
fi
out=$(mktemp)
python3 "$here/with_cluster.py" --quorate "$binary" --nodes 1 -- "$0" inside "$out" || exit 1
# After the word Failures, each failed case is told once more.
failed=$(sed -n '/^Failures:/,$p' "$out" | grep '×' | grep -vc "$not_ours")
all=$(grep -Eo '^[0-9]+ tests, [0-9]+ passed' "$out")
[ -n "$all" ] || { tail -20 "$out"; echo "h2spec did not reach its end"; exit 1; }
[ "$failed" = 0 ] || sed -n "/^Failures:/,\$p" "$out"
passed=${all##*, }
echo "${passed% passed} passed, $failed failed"
rm -f "$out"
[ "$failed" = 0 ]
