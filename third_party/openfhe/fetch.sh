#!/usr/bin/env bash
# Downloads the package named in openfhe.lock, checks its SHA-256, and unpacks OpenFHE's library and headers (nothing
# else) into third_party/openfhe/prebuilt, laid out as an installed OpenFHE is. Running it again does nothing.
# Needs python3 with pip, and an index that pip is configured for. Only Linux on x86-64 has such a package.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
field() { sed -n "s/^$1 = //p" "$here/openfhe.lock"; }
package=$(field package) version=$(field version) wheel=$(field wheel) sha256=$(field sha256)
stamp="$here/prebuilt/STAMP"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sha256" ]; then
    echo "OpenFHE $(field openfhe) is already in $here/prebuilt"
    exit 0
fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "there is no prebuilt OpenFHE for $(uname -s) $(uname -m): build OpenFHE and set OPENFHE_ROOT" >&2
    exit 1
fi

work=$(mktemp -d "$here/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_28_x86_64 --python-version 3.11 --dest "$work" "$package==$version"
echo "$sha256  $work/$wheel" | sha256sum --check --quiet --strict || {
    echo "$wheel does not have the SHA-256 of openfhe.lock: nothing was unpacked" >&2
    exit 1
}

python3 - "$work/$wheel" "$work/prebuilt" <<'PYTHON'
import pathlib, sys, zipfile

wheel, target = sys.argv[1], pathlib.Path(sys.argv[2])
# Where each part of the package goes; everything else in it stays out.
parts = {
    "heir/libopenfhe.so": "lib/libopenfhe.so",
    "heir/openfhe+/src/core/include/": "include/openfhe/core/",
    "heir/openfhe+/src/pke/include/": "include/openfhe/pke/",
    "heir/openfhe+/src/binfhe/include/": "include/openfhe/binfhe/",
    "heir/cereal+/include/": "include/openfhe/",
}
with zipfile.ZipFile(wheel) as package:
    count = 0
    for name in package.namelist():
        for source, place in parts.items():
            if name.endswith("/") or not name.startswith(source):
                continue
            path = target / (place + name[len(source):] if source.endswith("/") else place)
            if target.resolve() not in path.resolve().parents:
                sys.exit(f"{name} would leave {target}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(package.read(name))
            count += 1
if not (target / "lib/libopenfhe.so").is_file() or count < 100:
    sys.exit(f"only {count} files of OpenFHE in {wheel}")
PYTHON
echo "$sha256" > "$work/prebuilt/STAMP"
rm -rf "$here/prebuilt"
mv "$work/prebuilt" "$here/prebuilt"
echo "OpenFHE $(field openfhe) is in $here/prebuilt"
