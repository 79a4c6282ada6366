#!/usr/bin/env bash
# Make three.js (this folder's three.min.js, LICENSE-three.txt and VERSION) anew from npm; needs Node.js and a network.
#   spcli/report/vendor/vendor.sh [VERSION]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=${1:-$(cat "$here/VERSION")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/entry.js" "$work/"
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts "three@$version" esbuild@0.28.2
npx esbuild entry.js --bundle --minify --format=iife --global-name=THREE --target=es2022 --charset=ascii \
  --legal-comments=none --log-level=warning --outfile=three.min.js
# The XHTML namespace is HTML's own and goes without saying: so the page holds no address at all.
sed -i -E 's/createElementNS\("http:\/\/www\.w3\.org\/1999\/xhtml",/createElement(/g' three.min.js
if grep -q '://' three.min.js; then echo 'vendor.sh: three.min.js still holds an address' >&2; exit 1; fi
cp three.min.js "$here/three.min.js"
cp node_modules/three/LICENSE "$here/LICENSE-three.txt"
echo "$version" > "$here/VERSION"
ls -l "$here"
