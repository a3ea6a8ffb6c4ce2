#!/usr/bin/env bash
# Makes the certificates of this folder anew. They are for tests on 127.0.0.1 and vouch for nothing: the keys are public.
set -euo pipefail
cd "$(dirname "$0")"
new() { # NAME SUBJECT EXTENSIONS SIGNER...
  local name=$1 subject=$2 extensions=$3; shift 3
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$name.key" -subj "$subject" -out "$name.csr" 2>/dev/null
  openssl x509 -req -in "$name.csr" -days 36500 "$@" -extfile <(printf '%s\n' "$extensions") -out "$name.pem" 2>/dev/null
  rm "$name.csr"
}
new ca "/CN=Quorate tests" $'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign' -signkey ca.key
for name in server client; do
  new "$name" "/CN=$name" $'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:false\nextendedKeyUsage=serverAuth,clientAuth' \
    -CA ca.pem -CAkey ca.key -CAcreateserial
done
rm -f ca.srl ca.key
